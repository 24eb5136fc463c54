"""Which metric moved the others: planted causes are found, bad files are refused, and a run's journal is measured."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import weft
from weft.cli.app import app
from weft.core.errors import BadInput, UnknownRun
from weft.store import open_store
from weft.trace.causes import Series, change_point, entity, granger, make_series, rank
from weft.trace.causes.journal import series_of_nodes, series_of_run
from weft.trace.causes.neural import neural_graph, published_ranking
from weft.trace.causes.ranking import walk
from weft.trace.reading import Node

np = pytest.importorskip("numpy", reason="causes need the extra `trace`")


def chain(rows: int, fault: float = 0.0, seed: int = 0) -> Any:
    """a drives b, b drives c, each louder than the one before; d and e are alone. The fault hits a."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows, 5))
    noise[:, 0] += fault
    values = np.zeros((rows, 5))
    for row in range(1, rows):
        values[row] = noise[row] * [1, 0.3, 0.3, 1, 1]
        values[row, :3] += 0.5 * values[row - 1, :3]
        values[row, 1] += 2 * values[row - 1, 0]
        values[row, 2] += 2 * values[row - 1, 1]
    return values


NAMES = list("abcde")
USUAL, BAD = make_series(NAMES, chain(300)), make_series(NAMES, chain(120, fault=4.0, seed=1))


def test_the_cause_is_found_though_its_effects_are_louder() -> None:
    found = rank(USUAL, BAD)
    first = found.causes[0]
    assert (first.name, found.symptom in "bc", found.unusual) == ("a", True, True)
    assert first.path[0] == "a" and first.path[-1] == found.symptom
    assert first.unexplained > 0.8 and all(one.score < first.score / 2 for one in found.causes[1:])
    assert sum(one.score for one in found.causes) == pytest.approx(1)
    effect = next(one for one in found.causes if one.name == "b")
    assert next(iter(effect.explained)) == "a" and effect.unexplained < 0.5
    assert "a went from" in first.words and f"reaches {found.symptom} over a →" in first.words


def test_the_graph_has_the_edges_that_were_planted() -> None:
    strongest = {(cause, effect) for cause, effect, _ in granger(USUAL).edges[:2]}
    assert strongest == {("a", "b"), ("b", "c")}


def test_a_known_call_graph_leaves_only_neighbours_as_causes() -> None:
    calls = frozenset({("b", "a"), ("d", "c")})
    known = make_series(NAMES, chain(300), calls=calls)
    assert {(cause, effect) for cause, effect, _ in granger(known).edges} <= {
        ("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"),
    }  # fmt: skip


def test_the_symptom_can_be_named_and_nothing_unusual_is_said_so() -> None:
    assert rank(USUAL, BAD, symptom="b").symptom == "b"
    assert not rank(USUAL, make_series(NAMES, chain(100, seed=2))).unusual
    with pytest.raises(BadInput, match="no metric 'z'; there are a, b"):
        rank(USUAL, BAD, symptom="z")


def test_of_one_entity_the_calm_metric_outweighs_the_lively_one() -> None:
    random = np.random.default_rng(0)
    lively, calm = random.normal(1, 0.3, 200), random.normal(100, 0.05, 200)
    other = random.normal(5, 1, 200)
    usual = make_series(["x_cpu", "x_mem", "y_cpu"], np.stack([lively, calm, other], 1))
    both = make_series(["x_cpu", "x_mem", "y_cpu"], np.stack([lively + 90, calm + 200, other], 1))
    only = make_series(["x_cpu", "x_mem", "y_cpu"], np.stack([lively + 90, calm, other], 1))
    assert rank(usual, both).causes[0].name == "x_mem"
    assert rank(usual, only).causes[0].name == "x_cpu"


def quiet(seed: int, rows: int = 200) -> Any:
    """Three that follow nobody; the last is 0 but for some errors."""
    random = np.random.default_rng(seed)
    values = random.normal(5, 1, (rows, 4))
    values[:, 3] = np.arange(rows) % 50 == 7
    return values


@pytest.mark.parametrize("how", ["wider", "stands still", "spikes"])
def test_a_metric_whose_mean_stays_can_be_the_cause(how: str) -> None:
    usual, bad = quiet(0), quiet(1)
    if how == "wider":
        bad[:, 1] = 5 + (bad[:, 1] - 5) * 5
    elif how == "spikes":
        bad[::15, 1] += 12
    else:
        bad[:, 1] = usual[-1, 1]
    names = ["w_x", "x_x", "y_x", "z_errors"]
    found = rank(make_series(names, usual), make_series(names, bad))
    assert found.causes[0].name == "x_x" and found.causes[0].score > 0.5
    assert found.unusual or how == "spikes"


def test_errors_that_are_rare_and_do_not_happen_are_nothing_unusual() -> None:
    names = ["w_x", "x_x", "y_x", "z_errors"]
    bad = quiet(1)[10:45]
    assert not bad[:, 3].any()
    found = rank(make_series(names, quiet(0)), make_series(names, bad))
    assert not found.unusual and found.causes[0].name != "z_errors"


@pytest.mark.parametrize("how", ["wider", "stands still"])
def test_a_stream_that_changes_in_its_width_only_is_split_there(how: str) -> None:
    values = np.concatenate([quiet(0), quiet(1)])
    values[200:, 1] = 5 + (values[200:, 1] - 5) * 6 if how == "wider" else values[199, 1]
    assert abs(change_point(make_series(list("abcd"), values)) - 200) <= 8


def test_what_wanders_is_not_taken_for_a_change() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((400, 4))
    values[:, 0] = np.cumsum(values[:, 0])
    values[300:, 1] += 3
    assert abs(change_point(make_series(list("abcd"), values)) - 300) <= 5


def test_a_constant_that_moves_by_a_hair_is_no_cause() -> None:
    random = np.random.default_rng(0)
    usual, bad = random.normal(10, 1, (100, 2)), random.normal(10, 1, (60, 2))
    usual[:, 0], bad[:, 0], bad[:, 1] = 1000, 1000.001, bad[:, 1] + 20
    assert rank(make_series(["still", "moved"], usual), make_series(["still", "moved"], bad)).causes[0].name == "moved"


@settings(deadline=None, max_examples=25)
@given(st.integers(25, 60), st.integers(25, 60), st.integers(0, 1000))
def test_the_row_where_a_stream_went_bad_is_seen(before: int, after: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((before + after, 4))
    values[before:, :2] += 6
    assert abs(change_point(make_series(list("abcd"), values)) - before) <= 4


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(0, 1000))
def test_blame_is_a_distribution_whatever_explains_what(width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    share = random.random((width, width)) * (1 - np.eye(width))
    left = random.random(width)
    share *= ((1 - left) / np.maximum(share.sum(axis=1), 1e-9))[:, None]
    score = walk(random.random(width), share, left)
    assert score.sum() == pytest.approx(1) and (score >= 0).all()


def test_gaps_are_filled_and_empty_columns_left_out() -> None:
    gap = float("nan")
    series = make_series(["a_x", "b", "none"], [[gap, 1, gap], [2, gap, gap], [gap, 3, gap]])
    assert series.names == ("a_x", "b") and series.values.tolist() == [[2, 1], [2, 1], [2, 3]]
    assert (entity("carts-db_lat_90"), entity("tool re_ad/seconds"), entity("x")) == ("carts-db", "tool re_ad", "x")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadInput, match="no metric in common"):
        rank(USUAL, make_series(["other"], np.ones((20, 1))))
    with pytest.raises(BadInput, match="10 are the fewest"):
        rank(make_series(["a"], np.ones((3, 1))), make_series(["a"], np.ones((3, 1))))
    with pytest.raises(BadInput, match="too few to see where"):
        change_point(make_series(["a"], np.ones((5, 1))))
    with pytest.raises(BadInput, match="no metric ever changes"):
        change_point(make_series(["a"], np.ones((50, 1))))
    with pytest.raises(BadInput, match="lags are a positive number"):
        granger(USUAL, lags=0)
    with pytest.raises(BadInput, match="not an array of shape"):
        make_series(["a"], [1.0, 2.0])


# --- runs ---------------------------------------------------------------------------------------------------------


@weft.step(effect="pure")
async def look(number: int) -> int:
    """Looks."""
    if number >= 30:
        await asyncio.sleep(0.03)
    return number


@weft.workflow
async def slows() -> None:
    for number in range(60):
        await look(number)


async def measured(place: str) -> tuple[str, Series]:
    async with weft.Runtime(place) as runtime:
        run = await runtime.start(slows)
        await run
    opened = open_store(place)
    try:
        with pytest.raises(UnknownRun):
            await series_of_run(opened, "none")
        with pytest.raises(BadInput, match="a positive number of seconds"):
            await series_of_run(opened, run.id, every=0)
        return run.id, await series_of_run(opened, run.id, every=0.05)
    finally:
        await opened.close()


def test_a_run_is_measured_by_entity(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.db")
    run, series = asyncio.run(measured(place))
    tool = next(name for name in series.names if name.endswith("look/seconds")).partition("/")[0]
    assert series.values[:, series.names.index(f"{tool}/calls")].sum() == 60
    seconds = series.values[:, series.names.index(f"{tool}/seconds")]
    assert seconds[-1] >= 0.03 > 2 * seconds[0]
    assert series.calls is not None and any(callee == tool for _, callee in series.calls)
    assert f"{tool}/seconds" in weft_(run, "--store", place, "--every", "0.01", "--top", "20")


def test_time_under_way_is_shared_among_the_bins_it_took() -> None:
    nodes = [
        Node(run="r", effect=1, kind="tool", name="t", started=0.0, ended=3.0, status="failed"),
        Node(run="r", effect=2, kind="tool", name="t", started=2.0, ended=2.5),
    ]
    series = series_of_nodes(nodes, {"r": "agent w"}, every=1.0)
    table = {name: series.values[:, at].tolist() for at, name in enumerate(series.names)}
    assert table["tool t/open"] == [1, 1, 1.5, 0] and table["tool t/calls"] == [0, 0, 1, 1]
    assert table["tool t/errors"] == [0, 0, 0, 1] and series.calls == {("agent w", "tool t")}
    with pytest.raises(BadInput, match="nothing in this run has ended"):
        series_of_nodes([], {})


# --- the command --------------------------------------------------------------------------------------------------


def write(path: Path, values: Any) -> str:
    path.write_text("\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in values)]))
    return str(path)


def weft_(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["trace", "causes", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_ranks_a_file_with_and_without_a_usual_part(tmp_path: Path) -> None:
    usual, bad = write(tmp_path / "usual.csv", USUAL.values), write(tmp_path / "bad.csv", BAD.values)
    whole = write(tmp_path / "whole.csv", np.concatenate([USUAL.values, BAD.values]))
    assert "\na went from" in weft_(bad, "--normal", usual)
    assert "\na went from" in weft_(whole, "--since", "300")
    assert "\na went from" in weft_(whole)
    found = weft_(whole, "--json")
    assert '"symptom"' in found and '"explained"' in found
    quiet = write(tmp_path / "quiet.csv", chain(100, seed=3))
    assert "nothing unusual" in weft_(quiet, "--normal", usual)


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.csv", USUAL.values)
    assert "is not inside 0 to 299" in weft_(whole, "--since", "1000", code=2)
    assert "give one of them" in weft_(whole, "--normal", whole, "--since", "3", code=2)
    assert "there is no file" in weft_(str(tmp_path / "none.csv"), code=2)


# --- the published network ----------------------------------------------------------------------------------------


def test_the_network_learns_what_drives_what_and_its_graph_has_no_cycle() -> None:
    torch = pytest.importorskip("torch", reason="the network needs the extra `torch`")
    torch.set_num_threads(1)  # more of them only wait for each other on tensors so small
    usual = make_series(NAMES, chain(150))
    made = neural_graph(usual, epochs=25)
    assert made.attention.shape == (5, 5) and made.attention[1, 0] == max(made.attention[1])
    reach = (made.graph.gain != 0) & ~np.eye(5, dtype=bool)
    assert not np.linalg.matrix_power(reach.astype(int), 5).any()
    assert sorted(published_ranking(made.graph, "c")) == NAMES
    assert rank(USUAL, BAD, graph=made.graph).causes[0].name in "ab"
    assert np.array_equal(neural_graph(usual, epochs=1).attention, neural_graph(usual, epochs=1).attention)
    with pytest.raises(BadInput, match="no metric 'z' in the graph"):
        published_ranking(made.graph, "z")
    with pytest.raises(BadInput, match="needs 72 usual rows"):
        neural_graph(make_series(["a"], np.ones((20, 1))))
