"""What only metrics and outputs tell: what moved first, and what a tool really said."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.trace import faults, quiet_faults
from benchmarks.trace.quiet_faults import QUIET
from weft.cli.look import ask
from weft.core.errors import MissingExtra
from weft.store import Store
from weft.trace.explain import Explanation, Past, explain, lines, moved
from weft.trace.explain.levels import Call, Level, Usual, level_of
from weft.trace.explain.past import past_of
from weft.trace.explain.profile import Heard, Part, Profile, Seen, profile_of
from weft.trace.explain.unusual import Told

EARLIER = 24
T = TypeVar("T")


class Scene:
    """Earlier runs of one workflow, one run with each fault, and a clean one (named "")."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "journal.db"
        self.runs: dict[str, str] = {}
        asyncio.run(self._make(folder))

    async def _make(self, folder: Path) -> None:
        async with faults.opened(folder, seed=5) as runtime:
            for number in range(EARLIER):
                await faults.run(runtime, quiet_faults.review, number)
            for fault in (*QUIET, ""):
                self.runs[fault] = await faults.run(runtime, quiet_faults.review, 104, fault)

    def ask(self, question: Callable[[Store], Awaitable[T]]) -> T:
        return ask(self.place, question)

    async def past(self, store: Store, limit: int = 1000) -> Past:
        """The clean runs that were before all others."""
        row = await store.row(next(iter(self.runs.values())))
        assert row is not None
        return await past_of(store, row, limit=limit)

    def read(self, fault: str, limit: int = 1000) -> tuple[Profile, Past]:
        async def both(store: Store) -> tuple[Profile, Past]:
            row = await store.row(self.runs[fault])
            assert row is not None
            return await profile_of(store, row), await self.past(store, limit)

        return self.ask(both)

    def explained(self, fault: str) -> Explanation:
        async def look(store: Store) -> Explanation:
            return await explain(store, self.runs[fault], past=await self.past(store))

        return self.ask(look)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    yield Scene(tmp_path_factory.mktemp("quiet"))


@pytest.mark.parametrize("fault", [*QUIET])
def test_a_fault_that_raises_nothing_is_named_first(scene: Scene, fault: str) -> None:
    _, kinds, words = QUIET[fault]
    found = scene.explained(fault).findings
    assert found, "nothing was found"
    assert faults.names(found[0], kinds, words), found[0].words
    assert 0.9 <= found[0].sure < 1 and "sure (" in found[0].sureness


def test_a_clean_run_has_nothing_unusual(scene: Scene) -> None:
    assert scene.explained("").findings == ()


# --- what moved first -----------------------------------------------------------------------------------------------


def test_a_cause_tells_metric_levels_onset_way_and_the_effects_that_show_it(scene: Scene) -> None:
    run, past = scene.read("twice the tokens")
    (found,) = moved.moved(run, past)
    assert found.kind == "cause" and found.words.startswith("model reviewer-2/tokens went from 1,")
    assert " a call (" in found.words and " deviations), from call " in found.words
    assert "it reaches agent review/seconds" in found.words and "model reviewer-2/seconds" in found.words
    shown = {f"{part.id}:{seen.effect}" for part in run.parts for seen in part.seen if seen.symbol == "generation"}
    assert len(shown) / 2 < len(found.effects) and set(found.effects) <= shown


def test_what_began_late_is_told_from_when_it_began(scene: Scene) -> None:
    run, past = scene.read("")
    calls = [seen for seen in run.parts[0].seen if seen.symbol == "step:write_row"]
    slower = {seen.effect: msgspec.structs.replace(seen, seconds=seen.seconds + 0.9) for seen in calls[3:]}
    run.parts[0].seen = [slower.get(seen.effect, seen) for seen in run.parts[0].seen]
    (found,) = moved.moved(run, past)
    assert found.words.startswith("step write_row/seconds") and f"from call 4 of {len(calls)} on" in found.words
    assert found.effects[0].endswith(f":{calls[3].effect}") and found.at == calls[3].at


def test_too_few_runs_tell_nothing_of_metrics_and_lines(scene: Scene) -> None:
    run, past = scene.read("twice the tokens", limit=4)
    assert len(past.usual) == 4 and moved.moved(run, past) == [] and lines.said(run, past) == []


def test_without_numpy_nothing_is_said_of_metrics(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise MissingExtra("causes need the extra `trace`")

    run, past = scene.read("twice the tokens")
    monkeypatch.setattr("weft.trace.causes.journal.numpy", missing)
    assert moved.moved(run, past) == []


def calls(values: list[float]) -> list[Call]:
    return [Call(value, float(at), Part("p", "w", "done"), None) for at, value in enumerate(values)]


def usual_of(metric: str, runs: list[list[float]]) -> tuple[Usual, list[Level]]:
    levels = [level_of(metric, calls(values)) for values in runs]
    return Usual(metric, levels), levels


def test_one_slow_call_is_less_news_than_many() -> None:
    chance = random.Random(1)
    usual, _ = usual_of("step a/seconds", [[math.exp(chance.gauss(0, 0.5)) for _ in range(20)] for _ in range(30)])
    far = [usual.far(level_of("step a/seconds", calls([2.0] * count))) for count in (1, 4, 20)]
    assert 1 < far[0] < 2 < far[1] < far[2]
    assert usual.far(level_of("step a/seconds", calls([0.1] * 20))) < 0  # less of a time is not far


def test_shares_of_errors_are_as_noisy_as_they_should_be() -> None:
    usual, _ = usual_of("tool t/errors", [[1.0] + [0.0] * 19] * 30)
    assert (
        usual.far(level_of("tool t/errors", calls([1.0]))) < 3 < usual.far(level_of("tool t/errors", calls([1.0] * 8)))
    )
    assert usual.far(level_of("tool t/errors", calls([1.0, 1.0] + [0.0] * 18))) == 0.0  # a twentieth more is nothing


@given(st.lists(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=6), min_size=6, max_size=12))
def test_a_level_is_judged_by_the_others_as_if_it_were_not_there(runs: list[list[float]]) -> None:
    usual, levels = usual_of("model m/tokens", runs)
    others, _ = usual_of("model m/tokens", runs[1:])
    assert usual.far(levels[0], among=True) == pytest.approx(others.far(levels[0]), abs=1e-3)


# --- what a tool said -----------------------------------------------------------------------------------------------


def test_only_what_was_never_said_is_quoted_of_a_long_output(scene: Scene) -> None:
    run, past = scene.read("says an error")
    (found,) = lines.said(run, past)
    assert found.words == (
        "step:check said what it never said so far: 'error: the report could not be written: no space left on device'"
    )


def told(*outputs: str, status: str = "ok", symbol: str = "tool:make") -> Profile:
    heard = Heard()
    seen = [
        Seen(at, symbol, status if text is outputs[-1] else "ok", 0.0, 0.1, 0.0, 1, lines=heard.news(symbol, text))
        for at, text in enumerate(outputs, 1)
    ]
    return Profile("r", "w", "v", "done", len(seen), 0.0, [Part("r", "w", "done", seen=seen)])


PAST = Past([told(f"compiled {n} files in {n / 7:.2f} s", "exit status 0", f"wrote /out/{n}.bin") for n in range(30)])


def test_another_number_path_or_order_is_no_news_and_another_status_is() -> None:
    assert lines.said(told("wrote /tmp/x/77.bin", "exit status 0", "compiled 512 files in 3.25 s"), PAST) == []
    (found,) = lines.said(told("compiled 3 files in 1.00 s", "exit status 2"), PAST)
    assert found.words.endswith("'exit status 2' (so far 0)") and found.effects == ("r:2",)


def test_of_many_new_lines_those_about_errors_are_quoted_and_the_rest_is_counted() -> None:
    fine = ["looking for a compiler", "three cores, so three jobs", "the cache is warm", "linking it all", "stripped"]
    (found,) = lines.said(told("\n".join([*fine, "fatal: no disk", "bye now"])), PAST)
    assert found.words.endswith(
        "'looking for a compiler', 'three cores, so three jobs', 'fatal: no disk' and 4 more lines"
    )


def test_of_a_failure_the_lines_are_told_that_do_not_always_come() -> None:
    message = "compiled 4 files in 0.57 s\nexit status 0\nlinker: symbol main is missing\ngave up"
    (found,) = lines.said(told("exit status 0", message, status="failed"), PAST)
    assert found.sure == 1.0 and found.common == 0.0
    assert found.words.endswith("so far: 'linker: symbol main is missing', 'gave up'")
    assert lines.said(told("exit status 0", "one line is told with the failure", status="failed"), PAST) == []


def test_who_always_says_something_new_is_not_judged_and_spoils_nobody_else() -> None:
    words = [random.Random(seed).choices("abcdefghijklmnop", k=9) for seed in range(40)]
    noisy = [f"{''.join(word)} {''.join(reversed(word))}" for word in words]
    runs = [told(text, symbol="tool:poet") for text in noisy]
    for one in runs:
        one.parts[0].seen += told("all is well", symbol="tool:ping").parts[0].seen
    run = told("a new poem of mine", symbol="tool:poet")
    run.parts[0].seen += told("all is lost", symbol="tool:ping").parts[0].seen
    found = lines.said(run, Past(runs))
    assert ["all is lost" in one.words for one in found] == [True]


def test_how_sure_news_are_counts_the_usual_runs_that_had_as_telling_ones() -> None:
    runs = [told("as ever") for _ in range(18)] + [told("once"), told("twice")]
    judged = Told(Past(runs), lambda part, one: [((one.symbol,), line) for line in one.lines])
    assert judged.sure(("tool:make",), "thrice") == pytest.approx(1 - 3 / 21)
    assert judged.sure(("tool:make",), "once") == 0.0 and judged.sure(("tool:other",), "x") == 0.0
    assert judged.usual(("tool:make",)) == "as ever"
