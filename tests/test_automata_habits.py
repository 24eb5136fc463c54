"""Signs of what is wrong with a run, judged by usual runs."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.terminal import Terminal
from weft.core.errors import BadInput
from weft.trace.automata import Call, Habits, Learner, Sign, Tails, symbols_of_calls

NAMES = ("search", "read", "edit", "test", "commit")


def usual(seed: int) -> list[Call]:
    """An agent that searches, then reads, edits and tests one file after the other, and commits."""
    rng = random.Random(seed)
    calls = [Call("search", {"for": "bug"}, f"found {rng.random()}")]
    for number in range(rng.randint(2, 5)):
        path = {"path": f"{number}.py"}
        calls += [Call("read", path, f"text {rng.random()}") for _ in range(rng.randint(1, 2))]
        calls += [Call("edit", path, "done"), Call("test", None, f"passed in {rng.random()}")]
    return [*calls, Call("commit", {"message": "mended"}, "done")]


@cache
def habits() -> Habits:
    found = Habits()
    for seed in range(200):
        found.feed(usual(seed))
    return found


def rare(calls: list[Call]) -> dict[str, tuple[int, ...]]:
    """The signs that at most 2 % of usual runs give as much evidence of, and where."""
    return {sign.kind: sign.at for sign in habits().signs(calls) if habits().tails.rare(sign) <= 0.02}


def test_calls_in_each_others_place_are_found() -> None:
    calls = usual(1001)
    at = next(at for at, call in enumerate(calls) if call.name == "edit")
    calls[at], calls[at + 1] = calls[at + 1], calls[at]
    assert rare(calls)["exchanged"] == (at, at + 1)


def test_calls_that_are_made_again_and_again_are_found() -> None:
    calls = usual(1002)
    odd = calls[:3] + calls[1:3] * 5 + calls[3:]
    first, last = rare(odd)["repeated"]
    assert first == 3 and last == 12


def test_a_call_that_nobody_ever_made_is_found() -> None:
    calls = usual(1003)
    calls[2] = Call("teleport", calls[2].arguments)
    assert rare(calls)["unknown"] == (2,)


def test_calls_that_stand_elsewhere_are_found() -> None:
    calls = usual(1004)
    tests = [call for call in calls if call.name == "test"]
    late = [call for call in calls if call.name != "test"] + tests
    found = rare(late)
    assert found["misplaced"] == (*range(len(late) - len(tests), len(late)),) and "ended" in found


def test_a_run_that_is_spoilt_scores_above_a_usual_one() -> None:
    fresh = [habits().score(usual(seed)) for seed in range(2000, 2040)]
    most = sorted(fresh)[-4]
    calls = usual(1005)
    for odd in (calls[::-1], calls[:3] * 6 + calls[3:], [*calls[:2], Call("teleport"), *calls[2:]], calls[:-1]):
        assert habits().score(odd) > most


def test_usual_runs_are_seldom_called_rare() -> None:
    false = sum(habits().tails.rare(sign) <= 0.05 for seed in range(3000, 3060) for sign in habits().signs(usual(seed)))
    assert false / (60 * 6) < 0.12


def test_few_runs_are_each_judged_by_the_others() -> None:
    few = Habits.of([usual(seed) for seed in range(40)], lambda: Learner(least=10, depth=2, grow=3))
    assert {len(values) for values in few.tails.usual.values()} == {40}
    odd = usual(50)
    assert few.score([*odd[:2], Call("teleport"), *odd[2:]]) > few.score(odd)
    shares = [few.tails.rare(sign) for seed in range(60, 80) for sign in few.signs(usual(seed))]
    assert sum(share <= 0.1 for share in shares) / len(shares) < 0.25


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*NAMES, "teleport"]), max_size=30))
def test_any_run_has_its_signs(names: list[str]) -> None:
    found = habits().signs([Call(name) for name in names])
    assert len({sign.kind for sign in found}) == len(found) == 6
    for sign in found:
        assert all(0 <= at < len(names) for at in sign.at) and 0 < habits().tails.rare(sign) <= 1
    assert habits().tails.score(found) >= 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*NAMES, "teleport"]), max_size=30))
def test_what_is_told_again_is_what_was_told(names: list[str]) -> None:
    model = habits().learner.latest
    tell, run = model.teller(), symbols_of_calls([Call(name) for name in names])
    assert tell(run) == tell(run) == model.surprise(run)


def test_a_long_run_is_told_as_well() -> None:
    calls = [call for seed in range(60) for call in usual(seed)][:500]
    odd = calls[:100] + calls[98:100] * 40 + calls[100:]
    [repeated] = [sign for sign in habits().signs(odd) if sign.kind == "repeated"]
    assert repeated.at[1] - repeated.at[0] >= 70


def test_nothing_is_rare_before_anything_is_usual() -> None:
    young = Habits()
    assert young.score(usual(1)) == 0 and {young.tails.rare(sign) for sign in young.signs(usual(1))} == {1.0}
    young.feed([])
    assert young.score([]) == 0
    assert Habits.of([]).score(usual(1)) == Habits.of([usual(2)]).score(usual(1)) == 0


def test_evidence_beyond_all_that_was_usual_still_counts() -> None:
    tails = Tails()
    for bits in range(50):
        tails.note([Sign("ended", bits / 10)])
    some, much, more = (tails.score([Sign("ended", bits)]) for bits in (2.0, 10.0, 20.0))
    assert 0 < some < much < more


def test_habits_that_were_kept_go_on_as_if_nothing_had_happened() -> None:
    first = Habits()
    for seed in range(30):
        first.feed(usual(seed))
    first.learner.revise()
    again = Habits.load(first.dump())
    assert again.signs(usual(7)) == first.signs(usual(7)) and again.score(usual(7)) == first.score(usual(7)) > 0
    for one in (first, again):
        one.feed(usual(4000))
    assert again.tails == first.tails and again.places == first.places


@pytest.mark.parametrize("data", [b"", b"\x90", Learner().dump()], ids=["nothing", "a list", "a learner"])
def test_what_are_no_habits_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="this is no learner of calls"):
        Habits.load(data)


def test_the_terminal_tells_signs_where_they_are_seldom(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "")

    def told(runs: list[list[Call]]) -> str:
        return "".join(
            json.dumps([{"name": one.name, "arguments": one.arguments, "result": one.result} for one in run]) + "\n"
            for run in runs
        )

    calls = usual(1006)
    (terminal.folder / "usual.jsonl").write_text(told([usual(seed) for seed in range(120)]))
    (terminal.folder / "odd.jsonl").write_text(told([calls[:3] + calls[1:3] * 5 + calls[3:]]))
    terminal("trace", "learn", "usual.jsonl", "--model", "m")
    assert "#4 to #13 are the same again and again; 1% of usual runs look so" in terminal(
        "trace", "surprise", "odd.jsonl", "--model", "m"
    )
    [found] = terminal.json("trace", "surprise", "odd.jsonl", "--model", "m")
    [repeated] = [sign for sign in found["signs"] if sign["kind"] == "repeated"]
    assert repeated["at"] == [3, 12] and repeated["rare"] <= 0.02
    terminal.close()
