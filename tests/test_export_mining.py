"""Event logs for process mining, and traces for Perfetto: read back by what they are meant for, where that is there."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests import told
from tests.test_export_otlp import exported

XES = "{http://www.xes-standard.org/}"


def values(element: ET.Element) -> dict[str, str]:
    return {one.attrib["key"]: one.attrib["value"] for one in element if "key" in one.attrib}


def test_xes_has_a_trace_for_each_process_and_an_event_for_each_effect(store: str, tmp_path: Path) -> None:
    id = told.run(store)
    exported(store, id, "--as", "xes", "-o", str(tmp_path / "a.xes"))
    main, agent = ET.parse(tmp_path / "a.xes").getroot().findall(f"{XES}trace")
    assert values(main)["concept:name"] == id and values(agent)["weft:parent"] == id
    events = [values(event) for event in main.findall(f"{XES}event")]
    assert [event["concept:name"] for event in events] == [
        "sleep", "tests.told.told_add", "tests.told.told_add", "tests.told.told_broken", "spawn", "child",
    ]  # fmt: skip
    assert all(event["start_timestamp"] <= event["time:timestamp"] for event in events)
    assert [event["time:timestamp"] for event in events] == sorted(event["time:timestamp"] for event in events)
    assert events[3]["weft:error"] == "ValueError: it <broke> & fell" and events[3]["weft:status"] == "failed"
    names = [values(event)["concept:name"] for event in agent.findall(f"{XES}event")]
    assert [name for name in names if not name.startswith("now")] == [
        "generate demo-1",
        "told_search",
        "generate demo-1",
    ]


def test_ocel_relates_events_to_processes_models_and_tools(store: str, tmp_path: Path) -> None:
    id = told.run(store)
    exported(store, id, "--as", "ocel", "-o", str(tmp_path / "a.json"))
    log = json.loads((tmp_path / "a.json").read_text())
    objects = {one["id"]: one for one in log["objects"]}
    events = {one["id"]: one for one in log["events"]}
    kinds = {one["name"] for one in log["objectTypes"]}
    assert {one["type"] for one in objects.values()} == kinds
    assert kinds == {"workflow told.main", "workflow told.agent", "model", "tool"}
    assert {one["type"] for one in events.values()} == {one["name"] for one in log["eventTypes"]}
    related = [(e["type"], r["qualifier"], r["objectId"]) for e in events.values() for r in e["relationships"]]
    assert all(object in objects for _, _, object in related)
    assert ("generate demo-1", "uses", "model demo-1") in related
    assert ("told_search", "uses", "tool told_search") in related
    (child,) = (id for id, one in objects.items() if one["type"] == "workflow told.agent")
    assert ("spawn", "spawns", child) in related and ("child", "awaits", child) in related
    assert objects[child]["relationships"] == [{"objectId": id, "qualifier": "part of"}]


def test_a_child_that_is_not_in_the_log_is_still_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "journal.db")
    id = told.run(place)

    async def only(store: Any, run: str) -> Any:
        yield await store.row(run)

    monkeypatch.setattr("weft.trace.export.ocel.family", only)
    exported(place, id, "--as", "ocel", "-o", str(tmp_path / "a.json"))
    log = json.loads((tmp_path / "a.json").read_text())
    assert "process" in {one["type"] for one in log["objects"]}


def test_a_chrome_trace_lays_what_ran_at_once_in_rows_of_their_own(store: str, tmp_path: Path) -> None:
    id = told.run(store, 5)
    exported(store, id, "--as", "chrome", "-o", str(tmp_path / "a.json"))
    events = json.loads((tmp_path / "a.json").read_text())["traceEvents"]
    slices = [one for one in events if one["ph"] == "X"]
    assert {one["pid"] for one in slices} == {1, 2} and len([one for one in slices if one["cat"] == "process"]) == 2
    rows: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one in slices:
        assert one["dur"] >= 0 and one["ts"] >= 0
        if one["cat"] == "process":
            continue  # its first row lies inside it
        rows.setdefault((one["pid"], one["tid"]), []).append((one["ts"], one["ts"] + one["dur"]))
    for row in rows.values():
        assert all(end <= start for (_, end), (start, _) in zip(sorted(row), sorted(row)[1:], strict=False))
    arrows = [(one["ph"], one["id"]) for one in events if one["ph"] in "sf"]
    assert sorted(ph for ph, _ in arrows) == ["f", "s"] and len({id for _, id in arrows}) == 1
    names = {one["name"] for one in slices}
    assert {"told_search", "generate", "told.main", "told.agent"} <= names


def test_pm4py_reads_the_logs(tmp_path: Path) -> None:
    pm4py = pytest.importorskip("pm4py", reason="pm4py is not installed (AGPL: only ever beside Weft)")
    place = str(tmp_path / "journal.db")
    id = told.run(place)
    exported(place, id, "--as", "xes", "-o", str(tmp_path / "a.xes"))
    exported(place, id, "--as", "ocel", "-o", str(tmp_path / "a.json"))
    log = pm4py.read_xes(str(tmp_path / "a.xes"))
    assert set(log["case:concept:name"]) >= {id} and "told_search" in set(log["concept:name"])
    ocel = pm4py.read_ocel2_json(str(tmp_path / "a.json"))
    assert "workflow told.agent" in pm4py.ocel_get_object_types(ocel)
