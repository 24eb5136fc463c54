"""Metrics of files of every form become the same series, and what is wrong with a file is said with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from weft.cli.app import app
from weft.core.errors import BadInput
from weft.trace.causes import Series, read_csv, read_metrics

np = pytest.importorskip("numpy", reason="causes need the extra `trace`")
START = 1_769_860_800.0
VALUES = {"carts/cpu": [1.0, 2.0, 4.0, 3.0], "carts/mem": [80.0, 81.0, 80.0, 82.0], "user/cpu": [5.0, 5.0, 6.0, 5.0]}


def written(place: Path, text: str | object) -> Path:
    place.write_text(text if isinstance(text, str) else json.dumps(text))
    return place


def wide() -> str:
    rows = [f"{START + 15 * at},{','.join(str(its[at]) for its in VALUES.values())}" for at in range(4)]
    return "\n".join([f"timestamp,{','.join(VALUES)}", *rows])


def long() -> str:
    rows = [
        f"{value},{datetime.fromtimestamp(START + 15 * at, UTC).isoformat()},{','.join(name.split('/'))}"
        for name, its in VALUES.items()
        for at, value in enumerate(its)
    ]
    return "\n".join(["value,time,service,metric", *reversed(rows)])


def prometheus(**more: Any) -> dict[str, Any]:
    found = [
        {"metric": {"__name__": name.split("/")[1], "job": name.split("/")[0], "instance": "10.0.0.1:9100"},
         "values": [[START + 15 * at, str(value)] for at, value in enumerate(its)]}
        for name, its in VALUES.items()
    ]  # fmt: skip
    return {"status": "success", "data": {"resultType": "matrix", "result": found, **more}}


def opentelemetry(name: str, at: int) -> dict[str, Any]:
    entity, metric = name.split("/")
    point = {"timeUnixNano": str(int((START + 15 * at) * 1e9)), "asDouble": VALUES[name][at]}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": entity}}]}
    metrics = [{"name": metric, "gauge": {"dataPoints": [point]}}]
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]}


def same(series: Series) -> None:
    assert sorted(series.names) == sorted(VALUES)
    assert series.times.tolist() == [START, START + 15, START + 30, START + 45]
    for at, name in enumerate(series.names):
        assert series.values[:, at].tolist() == VALUES[name]


def test_every_form_gives_the_same_series(tmp_path: Path) -> None:
    same(read_metrics(written(tmp_path / "wide.csv", wide())))
    same(read_metrics(written(tmp_path / "long.csv", long())))
    same(read_metrics(written(tmp_path / "range.json", prometheus())))
    pieces = [json.dumps(opentelemetry(name, at)) for at in range(4) for name in VALUES]
    same(read_metrics(written(tmp_path / "otel.jsonl", "\n".join(pieces))))


def test_a_label_of_ones_own_says_what_a_metric_is_of(tmp_path: Path) -> None:
    place = written(tmp_path / "range.json", prometheus())
    names = {f"10.0.0.1:9100/{metric}" for metric in ("cpu{job=carts}", "cpu{job=user}", "mem")}
    assert set(read_metrics(place, by="instance").names) == names
    with pytest.raises(BadInput, match="no metric has the label 'pod'; there are instance, job"):
        read_metrics(place, by="pod")


def test_what_only_grows_becomes_its_growth_and_buckets_are_left_out(tmp_path: Path) -> None:
    values = [[0, "10"], [10, "30"], [20, "5"], [30, "NaN"], [40, "45"]]
    found = [{"metric": {"__name__": name, "app": "a/b"}, "values": values} for name in ("http_total", "http_bucket")]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": found}}
    series = read_metrics(written(tmp_path / "range.json", answer))
    assert series.names == ("a:b/http_total",) and series.times.tolist() == [10, 20, 30, 40]
    assert series.values[:, 0].tolist() == [2, 0.5, 0.5, 2]
    point = [{"timeUnixNano": at * 10**9, "count": str(at * 2), "sum": at / 2} for at in (1, 2, 3)]
    metric = {"name": "latency", "histogram": {"dataPoints": point, "aggregationTemporality": 2}}
    told = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric, {"name": "odd", "summary": {}}]}]}]}
    series = read_metrics(written(tmp_path / "otel.json", told))
    assert series.names == ("latency_count/value", "latency_sum/value")
    assert series.values.tolist() == [[2, 0.5], [2, 0.5]]


def test_gaps_are_filled_and_metrics_that_are_mostly_gaps_left_out(tmp_path: Path) -> None:
    place = written(tmp_path / "m.csv", "time,a_x,b,none\n5,,1,\n6,2,NaN,\n7,,3,\n")
    assert read_csv(place).names == ("a_x", "b")
    rare = written(tmp_path / "rare.csv", "time,metric,value\n" + "".join(f"{n},a,{n}\n" for n in range(9)) + "3,b,1\n")
    series = read_csv(rare)
    assert (series.names, series.left_out) == (("a",), ("b",))


def test_rows_that_are_missing_or_late_are_put_where_they_belong(tmp_path: Path) -> None:
    place = written(tmp_path / "m.csv", "time,a\n0,1\n30,4\n10.4,2\n20,3\n60,7\n")
    series = read_csv(place)
    assert series.times.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert series.values[:, 0].tolist() == [1, 2, 3, 4, 4, 4, 7]


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "m.csv"
        place.write_text("time,a\n" + "".join(f"{at * 5},{at * at}\n" for at in order))
        series = read_csv(place)
    assert series.values[:, 0].tolist() == [at * at for at in range(12)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows below a line of names"),
        ("a,b\n", "no rows below a line of names"),
        ("a,b\n1,2\n3\n", ":3 has 1 cells, but the first line names 2"),
        ("a,b\n1,two\n", ":2: 'b' is no number but 'two'"),
        ("a,a\n1,2\n", "m.csv: two columns are called 'a'"),
        ("a,b\n1,inf\n", ":2: 'b' is infinite"),
        ("time,b\n,2\n", ":2 has no time"),
        ("time,b\nnoon,2\n", ":2: 'noon' is neither a number nor a date"),
        ("time,b\n1,2\n1,3\n", ":3: the time '1' is also that of line 2; a row is a moment"),
        ("time\n1\n", "no column beside its times"),
        ("time,b\n1,2\n2,2\n3,2\n1769860800,2\n", "are some times wrong, or in another unit"),
        ("time,b\n1,\n3,\n", "no metric has any value"),
        ("time,metric,value,unit\n1,a,2,s\n", "what is 'unit'"),
        ("metric,value\na,2\n", "it needs a column `time`"),
        ("time,metric,value\n1,,2\n", ":2 names no metric"),
        ("time,metric,value\n1,a,2\n1,a,3\n", ":3: a second value of 'a'"),
        ('{"status": "error", "error": "parse error"}', "answered with an error: parse error"),
        ('{"status": "success", "data": {"resultType": "vector", "result": []}}', "ask /api/v1/query_range"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": []}}', "there are no values in it"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": [{}]}}', ":1: these are no metrics"),
        ('{"a": 1}', "neither Prometheus' answer"),
        ('{"status"', "not JSON"),
        ("[1]", "these are no metrics"),
    ],
    ids=["empty", "names only", "short line", "word", "twice", "infinite", "no time", "no date", "same time",
         "times only", "jump", "gaps only", "long unknown", "long no time", "long no metric", "long twice",
         "prometheus error", "prometheus vector", "prometheus empty", "prometheus broken", "other JSON", "cut JSON",
         "list"],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_metrics(written(tmp_path / "m.csv", text))


def test_what_is_no_file_of_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        read_metrics(tmp_path / "none.csv")
    with pytest.raises(BadInput, match="is a table, and has no labels"):
        read_metrics(written(tmp_path / "m.csv", wide()), by="job")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BadInput, match="no table of text"):
        read_metrics(tmp_path / "binary.csv")


# --- the command --------------------------------------------------------------------------------------------------


def weft_(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["trace", "causes", *words])
    assert done.exit_code == code, done.output
    return done.output


def stream(rows: int) -> list[list[float]]:
    """a drives b; a goes bad after two thirds."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((rows, 2))
    noise[rows * 2 // 3 :, 0] += 5
    values = np.zeros((rows, 2))
    for row in range(1, rows):
        values[row] = noise[row] + [0, 2 * values[row - 1, 0]]
    return values.tolist()


def test_the_command_reads_a_range_query_and_dates(tmp_path: Path) -> None:
    rows = stream(150)
    found = [
        {
            "metric": {"__name__": "load", "job": job},
            "values": [[START + at, str(row[n])] for at, row in enumerate(rows)],
        }
        for n, job in enumerate("ab")
    ]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": found}}
    place = str(written(tmp_path / "range.json", answer))
    since = datetime.fromtimestamp(START + 100, UTC).isoformat()
    for words in ([], ["--since", since], ["--by", "job"]):
        assert "\na/load went from" in weft_(place, *words)
    assert "is not inside" in weft_(place, "--since", "2020-01-01", code=2)
    assert "neither a number nor a date" in weft_(place, "--since", "noon", code=2)


def test_the_command_says_what_it_left_out_and_what_is_too_short(tmp_path: Path) -> None:
    lines = [f"{at},{name},{row[n]}" for at, row in enumerate(stream(90)) for n, name in enumerate("ab")]
    text = "\n".join(["time,metric,value", *lines, "7,rare,1"])
    assert "left out, with values in less than half of the rows: rare" in weft_(
        str(written(tmp_path / "m.csv", text)))  # fmt: skip
    one = str(written(tmp_path / "one.csv", "time,a\n1,2\n"))
    assert "too few to see where they change" in weft_(one, code=2)
    still = str(written(tmp_path / "still.csv", "a,b\n" + "1,2\n" * 40))
    assert "no metric ever changes" in weft_(still, code=2)
    assert "no metric 'z'; there are a, b" in weft_(
        str(written(tmp_path / "m.csv", "\n".join(["a,b", *(f"{a},{b}" for a, b in stream(90))]))), "--symptom", "z",
        code=2,
    )  # fmt: skip
