"""`weft explain`: a planted fault is named first, a clean run has nothing unusual, the cache is no second record."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from benchmarks.trace import faults
from benchmarks.trace.faults import FAULTS, with_pause
from tests.programs import drive
from tests.servers.page import page
from weft.cli.explain import served
from weft.cli.look import ask
from weft.core.errors import UnknownRun
from weft.trace.explain import Explanation, Finding, explain, findings, link, past_of
from weft.trace.explain.past import cache_file
from weft.trace.explain.profile import form_of, profile_of
from weft.trace.explain.unusual import Scale

EARLIER = 24
PROGRAMS: tuple[Any, ...] = (faults.support, faults.build, faults.ledger, faults.crew)


class Scene:
    """A store with earlier runs of the three workflows."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "journal.db"
        self.folder = folder
        self.runs: dict[str, str] = {}

    async def make(self) -> None:
        async with faults.opened(self.folder, seed=7) as runtime:
            for program in PROGRAMS:
                for number in range(EARLIER):
                    await faults.run(runtime, program, number)
            for fault, (program, _, _) in FAULTS.items():
                self.runs[fault] = await faults.run(runtime, program, 100, fault)
            self.runs["again"] = await faults.run(runtime, faults.support, 777, "failing tool")
            for program in PROGRAMS:
                self.runs[f"clean {program.name.rpartition('.')[2]}"] = await faults.run(runtime, program, 101)
            await runtime.journal.barrier()
            self.runs["paused"] = await with_pause(runtime.store, self.runs["paused"])

    def ask(self, question: Any) -> Any:
        return ask(self.place, question)

    def explained(self, name: str) -> Explanation:
        found: Explanation = self.ask(lambda store: explain(store, self.runs[name]))
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("explain"))
    asyncio.run(made.make())
    yield made


@pytest.mark.parametrize("fault", [*FAULTS])
def test_a_planted_fault_is_named_first(scene: Scene, fault: str) -> None:
    _, kinds, words = FAULTS[fault]
    found = scene.explained(fault)
    assert found.findings, "nothing was found"
    first = found.findings[0]
    assert faults.names(first, kinds, words), first.words
    assert 0.5 <= first.sure <= 1 and first.effects[0].partition(":")[2].isdigit()


@pytest.mark.parametrize("program", ["support", "build", "ledger", "crew"])
def test_a_clean_run_has_nothing_unusual(scene: Scene, program: str) -> None:
    found = scene.explained(f"clean {program}")
    assert found.findings == () and found.compared >= EARLIER and not found.new_code


def test_a_failure_was_seen_before_and_one_that_was_not_says_nothing(scene: Scene) -> None:
    first, again = scene.explained("failing tool"), scene.explained("again")
    assert "before" not in [one.kind for one in first.findings]
    assert [one.kind for one in again.findings] == ["failed", "before"]
    assert again.findings[1].effects == (first.run,) and first.run in again.findings[1].words


def test_without_earlier_runs_only_facts_are_told(scene: Scene) -> None:
    async def alone(name: str) -> list[str]:
        async def look(store: Any) -> Any:
            row = await store.row(scene.runs[name])
            return await explain(store, row.id, past=await past_of(store, row, limit=0))

        return [one.kind for one in (await asyncio.to_thread(scene.ask, look)).findings]

    assert asyncio.run(alone("loop")) == [] and asyncio.run(alone("failing tool")) == ["failed"]


def test_the_cache_lies_beside_the_store_and_may_be_lost_or_broken(scene: Scene) -> None:
    before = scene.explained("slow")
    kept = [*Path(f"{scene.place}.usual").iterdir()]
    assert kept and Path(f"{scene.place}.usual").stat().st_mode & 0o77 == 0  # it has words of outcomes
    for file in kept:
        file.write_bytes(b"no cache")
    assert scene.explained("slow") == before
    for file in kept:
        file.unlink()
    assert scene.explained("slow") == before
    assert cache_file("postgresql://here/db", "w").parent.parent.name == "usual"


def test_what_a_body_raised_is_told_of_the_process_whose_body_it_was(scene: Scene) -> None:
    found = scene.explained("a page without text").findings
    (failed,) = [one for one in found if one.kind == "failed"]
    assert "the code of scout raised AttributeError" in failed.words
    assert failed.effects[0] == found[0].effects[0].partition(":")[0]


def test_an_unknown_run_is_said_to_be_one(scene: Scene) -> None:
    with pytest.raises(UnknownRun, match="nowhere"):
        scene.ask(lambda store: explain(store, "nowhere"))


@weft.workflow
async def unfinished() -> None:
    await weft.sleep(3600)


def test_a_run_under_way_is_explained_as_far_as_it_is(store: str) -> None:
    async def use(runtime: weft.Runtime) -> Explanation:
        run = await runtime.start(unfinished)
        await runtime.journal.barrier()
        return await explain(runtime.store, run.id)

    found: Explanation = drive(store, use)
    assert found.findings == () and found.compared == 0 and found.state != "done"


# --- at the command line --------------------------------------------------------------------------------------------


def at_the_terminal(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "weft", *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_explain_says_it_in_words_and_as_json(scene: Scene) -> None:
    run = scene.runs["refused"]
    code, said = at_the_terminal("explain", run, "--store", str(scene.place))
    assert code == 0 and "1. it was refused file.write " in said and "#/run/" in said, said
    code, said = at_the_terminal("explain", run, "--store", str(scene.place), "--json")
    found = json.loads(said)
    assert code == 0 and found["findings"][0]["kind"] == "refused" and found["compared"] >= EARLIER
    code, said = at_the_terminal("explain", scene.runs["clean build"], "--store", str(scene.place))
    assert code == 0 and said.endswith("nothing unusual\n")


def test_links_begin_with_the_address_of_the_page(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("explain", scene.runs["refused"], "--store", str(scene.place), "--json", "--page", "https://weft.example/")
    found = json.loads(at_the_terminal(*words)[1])["findings"][0]
    assert found["links"][0].startswith("https://weft.example/#/run/")
    assert found["sureness"] == "certain: the journal says so"
    url = scene.ask(lambda store: asyncio.sleep(0, store.url))
    with page(str(scene.place)) as client:
        monkeypatch.setattr("weft.cli.explain.PORT", int(client.address.rpartition(":")[2]))
        assert served(url) == f"{client.address}/" and served("sqlite:////another.db") == ""
    assert served(url) == ""  # it is over


def test_explain_of_an_unknown_run_exits_with_3(scene: Scene) -> None:
    code, said = at_the_terminal("explain", "nowhere", "--store", str(scene.place))
    assert code == 3 and "there is no run 'nowhere'" in said


# --- the parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, "null"), (True, "bool"), (1.5, "number"), ("a", "text"), ("  ", '""'), ([], "[]"),
        ([1, "a"], "[number|text]"), ({"b": None, "a": [{"x": 1}]}, "{a:[{x:number}],b:null}"),
        ([[[[[1]]]]], "[[[[…]]]]"),
    ],
)  # fmt: skip
def test_the_form_of_an_answer_has_its_types_and_names(value: Any, form: str) -> None:
    assert form_of(value) == form


def test_how_far_a_measure_is_from_the_usual() -> None:
    counts = Scale("times", [1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert counts.holds(2) and counts.holds(0) and not counts.holds(3)
    assert counts.far(2) < 2 < counts.far(10) and counts.far(2, among=True) < 3
    numbers = Scale("number", [100.0, 110.0, 90.0])
    assert not numbers.holds(0) and numbers.far(0) > 10 and numbers.far(100_000) > 10
    assert Scale("seconds", [0.001] * 9).far(0.015) == 0  # some milliseconds are nothing


def test_findings_about_one_effect_become_one_and_what_is_usual_is_left_out(scene: Scene) -> None:
    async def look(store: Any) -> Any:
        row = await store.row(scene.runs["failing tool"])
        return await profile_of(store, row), await past_of(store, row)

    profile, past = scene.ask(look)

    def organ(kind: Any, effect: str, sure: float = 1.0, common: float | None = None) -> Any:
        return lambda run, past: [Finding(kind=kind, words=kind, effects=(effect,), sure=sure, common=common)]

    found = findings(profile, past, [organ("slow", "r:1"), organ("failed", "r:1"), organ("answer", "r:2", 0.6)])
    assert [(one.kind, one.more) for one in found] == [("failed", ("slow",)), ("answer", ())]
    assert findings(profile, past, [organ("refused", "r:1", common=0.5)]) == []


def test_a_link_is_a_place_of_the_page() -> None:
    assert link("r1") == "#/run/r1" and link("r1:2") == "#/run/r1?effect=r1%3A2"
