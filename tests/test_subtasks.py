"""Trees of subtasks inside one inference: always JSON, dropped when finished, exact after, and as long as one likes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.engines import HashEngine
from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.protocol import Feed, Sampling
from weft.model.engine.reuse import advance, reuse
from weft.model.engine.subtasks import CONCLUSION, END_LIST, MORE, SUBTASKS, TOOL, Limits, Place, Solved, Tool, solve
from weft.model.engine.together import Together

NUMBERS = {"type": "object", "properties": {"n": {"enum": [1, 22, 333]}}, "required": ["n"],
           "additionalProperties": False}  # fmt: skip
ENDLESS = {"type": "object", "properties": {"s": {"type": "string"}}, "required": ["s"], "additionalProperties": False}


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def shaped(seed: int, lists: float = 0.5, more: float = 0.6, tools: float = 0.3) -> Callable[[Place, list[str]], str]:
    """A tree of a random shape."""
    dice = random.Random(seed)

    def choose(place: Place, texts: list[str]) -> str:
        if MORE in texts:
            return MORE if dice.random() < more else END_LIST
        if TOOL in texts and dice.random() < tools:
            return TOOL
        if SUBTASKS in texts and dice.random() < lists:
            return SUBTASKS
        return CONCLUSION if CONCLUSION in texts else dice.choice(texts)

    return choose


async def double(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"twice": arguments["n"] * 2}


def tasks_of(tree: dict[str, Any]) -> list[dict[str, Any]]:
    found, left = [], [*tree["reasoning"]]
    while left:
        task = left.pop()
        found.append(task)
        left += task.get("subtasks", [])
    return found


async def solved(engine: HashEngine, prompt: bytes = b"Do it. ", **more: Any) -> Solved:
    more.setdefault("limits", Limits(words=6))
    return await solve(engine, [*prompt], **more)


@given(seed=some.integers(0, 10**6), stack=some.integers(0, 3), warm=some.booleans())
@settings(max_examples=8, deadline=None)
def test_whatever_the_model_says_it_is_a_tree(seed: int, stack: int, warm: bool) -> None:
    async def main() -> None:
        engine = HashEngine()
        out = await solved(
            engine,
            f"{seed}".encode(),
            tools=[Tool("double", NUMBERS, double)],
            stack=stack,
            limits=Limits(words=5, tasks=15),
            sampling=Sampling(temperature=1.5 if warm else 0, seed=seed),
        )
        tasks = tasks_of(out.tree)
        assert 1 <= len(tasks) <= 15 + 3 and isinstance(out.answer, str)
        assert out.emitted == len(out.text.encode())  # a token is a byte here
        for task in tasks:
            assert set(task) <= {"thought", "tooluse", "subtasks", "conclusion"}
            if "tooluse" in task:
                use = task["tooluse"]
                assert use["tool_name"] == "double" and use["tool_result"] == {"twice": use["parameters"]["n"] * 2}
        assert out.calls == sum("tooluse" in task for task in tasks)
        assert not engine.sequences

    run(main())


@given(seed=some.integers(0, 10**6), stack=some.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_after_each_cut_the_cells_are_those_of_the_shorter_text(seed: int, stack: int) -> None:
    """The cells hold what was written without the dropped lists, and each as if computed in that text."""

    async def main() -> None:
        engine = HashEngine()
        seen = []

        async def checked(feeds: list[Feed], step: Any = engine.step) -> Any:
            told = await step(feeds)
            sequence: Any = feeds[0].sequence
            seen.append(bytes(sequence.tokens))
            if len(seen) > 1 and len(seen[-1]) < len(seen[-2]):
                fresh = await engine.sequence()
                for token in sequence.tokens:
                    fresh.add(token)
                assert [cell.key for cell in fresh.cells] == [cell.key for cell in sequence.cells]
                await fresh.close()
            return told

        engine.step = checked  # type: ignore[method-assign]
        out = await solved(engine, b"?", choose=shaped(seed), stack=stack, limits=Limits(words=3, tasks=20, depth=4))
        kept = seen[-1][1:].decode(errors="ignore")  # the end of the answer has not been fed
        kept = json.loads(kept[: kept.rindex(', "answer"')] + "}")
        assert kept["reasoning"] == emptied(kept["reasoning"], out.tree["reasoning"])
        whole = out.text.encode()
        assert out.pruned == len(whole[: whole.rindex(b', "answer"')]) - len(json_text(seen[-1][1:]))

    run(main())


def json_text(cells: bytes) -> bytes:
    return cells[: cells.rindex(b', "answer"')]


def emptied(kept: Any, tree: Any) -> Any:
    """The whole tree, with those lists emptied that are empty in `kept`."""
    if isinstance(kept, list):
        return [emptied(one, other) for one, other in zip(kept, tree, strict=True)] if kept else []
    if isinstance(kept, dict):
        return {key: emptied(kept[key], tree[key]) for key in kept}
    return tree


@pytest.mark.parametrize("stack", [0, 2])
def test_the_text_can_be_many_times_longer_than_the_cells(stack: int) -> None:
    async def main() -> None:
        def choose(place: Place, texts: list[str]) -> str:
            if MORE in texts:
                return MORE if place.depth > 1 and place.number < 4 else END_LIST
            return SUBTASKS if SUBTASKS in texts else CONCLUSION

        limits = Limits(words=2, depth=5, tasks=190)
        out = await solved(HashEngine(), choose=choose, limits=limits, stack=stack, room=950)
        assert len(tasks_of(out.tree)) == 190
        assert out.emitted >= 8 * 950
        assert out.pruned >= 0.85 * out.emitted
        assert out.most <= (open_lists(out.tree) if stack == 0 else 950)

    run(main())


def open_lists(tree: dict[str, Any]) -> int:
    """The most cells that the prompt, the root and one list of each depth take, what is finished in them emptied."""
    most, lists = [len(b'Do it. {"reasoning": , "answer": "12"}') + 8], [tree["reasoning"]]
    while lists:
        bare = [[{**task, "subtasks": []} if "subtasks" in task else task for task in each] for each in lists]
        most.append(max(len(json.dumps(each, ensure_ascii=False).encode()) for each in bare))
        lists = [task["subtasks"] for each in lists for task in each if "subtasks" in task]
    return sum(most)


def test_lists_are_dropped_early_only_where_room_is_short() -> None:
    async def main() -> None:
        more: dict[str, Any] = {"choose": shaped(5, lists=0.8), "limits": Limits(words=4, tasks=40), "stack": 100}
        wide = await solved(HashEngine(), **more)
        more["choose"] = shaped(5, lists=0.8)
        tight = await solved(HashEngine(), **more, room=wide.most * 2 // 3)
        assert wide.pruned == 0 and wide.computed_again == 0
        assert tight.pruned > 0 and tight.most <= wide.most * 2 // 3

    run(main())


def test_what_the_open_tasks_need_must_fit() -> None:
    async def main() -> None:
        engine = HashEngine()
        with pytest.raises(OutOfCells, match="no finished list is left"):
            await solved(engine, room=40)
        assert not engine.sequences

    run(main())


def test_a_tool_that_fails_is_an_answer_to_the_model_and_a_long_one_is_cut() -> None:
    async def fails(arguments: dict[str, Any]) -> None:
        raise ValueError('no "such" thing')

    async def long(arguments: dict[str, Any]) -> str:
        return "é" * 500

    async def main() -> None:
        for call, limits in ((fails, Limits(words=3)), (long, Limits(words=3, result=60))):
            out = await solved(
                HashEngine(), tools=[Tool("t", NUMBERS, call)], choose=shaped(1, 0, 0, 1.0), limits=limits
            )
            result = tasks_of(out.tree)[0]["tooluse"]["tool_result"]
            if call is fails:
                assert result == {"error": 'ValueError: no "such" thing'}
            else:
                assert result["cut"].startswith('"é') and "first part" in result["error"]

    run(main())


def test_parameters_that_come_to_no_end_are_taken_back() -> None:
    async def main() -> None:
        called = []

        async def tool(arguments: dict[str, Any]) -> str:
            called.append(arguments)
            return "done"

        out = await solved(
            HashEngine(), tools=[Tool("t", ENDLESS, tool)], choose=shaped(1, 0.5, 0.7, 1.0),
            limits=Limits(words=3, tasks=6),
        )  # fmt: skip
        uses = [task["tooluse"] for task in tasks_of(out.tree)]
        given_up = [use for use in uses if use["parameters"] is None]
        assert given_up and all("no end" in use["tool_result"]["error"] for use in given_up)
        assert len(called) == out.calls == len(uses) - len(given_up)
        assert out.emitted == len(out.text.encode())

    run(main())


def test_several_trees_share_their_steps_and_are_those_of_each_alone() -> None:
    async def main() -> None:
        def one(engine: Any, seed: int) -> Any:
            return solve(engine, [*b"Go ", seed], choose=shaped(seed), limits=Limits(words=4, tasks=10))

        alone = [await one(HashEngine(), seed) for seed in range(4)]
        engine = HashEngine()
        shared = Together(engine)
        together = await asyncio.gather(*(one(shared, seed) for seed in range(4)))
        assert [each.text for each in together] == [each.text for each in alone]
        assert engine.widest == 4
        assert engine.steps < sum(each.drawn for each in alone)

    run(main())


def test_a_step_that_asks_too_much_is_refused_alone() -> None:
    async def main() -> None:
        engine = HashEngine(cells=100)
        shared = Together(engine)
        small, large = await shared.sequence(), await shared.sequence()
        good: Any
        good, bad = await asyncio.gather(
            shared.step([Feed(small, [1] * 60)]), shared.step([Feed(large, [1] * 60)]), return_exceptions=True
        )
        assert len(good[0].tokens) == 1 and isinstance(bad, OutOfCells)
        assert (small.length, large.length) == (60, 0)

    run(main())


@pytest.mark.parametrize(
    "more",
    [
        {"limits": Limits(depth=0)},
        {"stack": -1},
        {"tools": [Tool("a", NUMBERS, double), Tool("a", NUMBERS, double)]},
        {"tools": [Tool('a"b', NUMBERS, double)]},
        {"tools": [Tool("a", {"type": "string"}, double)]},
        {"prompt": b""},
        {"choose": lambda place, texts: "something else"},
    ],
    ids=["depth", "stack", "twice", "name", "schema", "prompt", "choose"],
)
def test_what_makes_no_sense_is_refused(more: dict[str, Any]) -> None:
    async def main() -> None:
        engine = HashEngine()
        with pytest.raises(BadInput):
            await solved(engine, **more)
        assert not engine.sequences

    run(main())


# --- A·B·C becomes A·C·D ------------------------------------------------------------------------------


@given(
    a=some.lists(some.integers(0, 5), max_size=20),
    b=some.lists(some.integers(0, 5), max_size=20),
    c=some.lists(some.integers(0, 5), max_size=20),
    d=some.lists(some.integers(0, 5), min_size=1, max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_as_much_is_kept_as_can_be(a: list[int], b: list[int], c: list[int], d: list[int]) -> None:
    plan = reuse(a + b + c, a + c + d, least=1)
    cells, wanted = a + b + c, a + c + d
    rest = cells[plan.kept :][plan.dropped :] if plan.moved else []
    assert [*cells[: plan.kept], *rest] == wanted[: plan.kept + plan.moved]
    assert plan.kept + plan.moved < len(wanted)
    # No other cut keeps more: the longest common beginning, then the longest end that goes on from there.
    assert plan.kept + plan.moved >= len(a) or cells == wanted[:-1]


def test_only_what_is_new_is_read() -> None:
    async def main() -> None:
        engine = HashEngine()
        sequence = await engine.sequence()
        a, b, c, d = (random.Random(n).randbytes(size) for n, size in enumerate((98, 100, 36, 43)))
        await engine.step([Feed(sequence, [*a, *b, *c])])
        before = engine.computed
        rest = await advance(sequence, [*a, *c, *d], "shift")
        assert bytes(rest) == d
        await engine.step([Feed(sequence, rest)])
        assert engine.computed - before == 43
        assert bytes(sequence.tokens) == a + c + d and sequence.positions == [*range(177)]
        exact = await engine.sequence()
        await engine.step([Feed(exact, [*a, *b, *c])])
        before = engine.computed
        rest = await advance(exact, [*a, *c, *d], "reencode")
        (told,) = await engine.step([Feed(exact, rest)])
        assert engine.computed - before == 36 + 43
        fresh = await engine.sequence()
        assert told == (await engine.step([Feed(fresh, [*a, *c, *d])]))[0]

    run(main())
