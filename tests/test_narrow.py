"""`with weft.grant(...)` in a body: both must agree, the process and the block; uses, words and numbers are the
process's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from tests.stores import eventually
from weft.core.errors import BadInput, Denied
from weft.core.record import Decision, Outcome


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("WEFT_POLICY", "WEFT_ALLOW", "WEFT_ASK", "WEFT_DENY"):
        monkeypatch.delenv(name, raising=False)
    yield


@weft.step(needs="write:{path}")
def write(path: str) -> str:
    Path(path).write_text("x")
    return path


async def tried(path: str) -> str:
    try:
        return await write(path)
    except Denied as error:
        return f"{error.why}; {error.fix}"


@weft.workflow
async def narrowed(specs: list[str], *paths: str) -> list[str]:
    with weft.grant(*specs):
        return [await tried(path) for path in paths]


def run(store: str, allow: str, specs: list[str], *paths: str) -> tuple[list[str], list[Any]]:
    async def use(runtime: weft.Runtime) -> Any:
        started = await runtime.start(narrowed, specs, *paths)
        return await started, await runtime.recovery.records(started.id)

    found: tuple[list[str], list[Any]] = drive(store, use, policy=weft.Policy(base="program", allow=(allow,)))
    return found


def test_a_use_is_one_of_the_process(store: str) -> None:
    found, records = run(store, "write:./ uses=1", ["step:**", "write:./a"], "a", "a")
    assert found[0] == "a" and "holds no capability" in found[1]
    [outcome, *_] = [r for r in records if isinstance(r, Outcome)]
    [decision, *_] = [r for r in records if isinstance(r, Decision)]
    assert decision.by in outcome.by  # under the number that the process knows it by
    assert decision.by == 1 + (store.startswith("/") and 4)


def test_what_the_block_leaves_out_is_said_to_be_its_doing(store: str) -> None:
    found, _ = run(store, "write:./", ["step:**", "write:./a"], "b", "a")
    assert "with weft.grant" in found[0] and "add write:./b there" in found[0]
    assert found[1] == "a"


def test_uses_cannot_be_counted_by_a_block(store: str) -> None:
    with pytest.raises(BadInput, match="a replay would count"):
        run(store, "write:./", ["step:**", "write:./a uses=1"], "a")


@weft.workflow
async def nested(path: str) -> list[str]:
    with weft.grant("step,spawn:**", "write:./x/**", "write:./y"), weft.grant("step:**", "write:./x/a", "write:./z"):
        return [await tried(path) for path in ("x/a", "x/b", "y", "z")]


def test_blocks_narrow_one_another(store: str) -> None:
    Path("x").mkdir()
    found = drive(
        store, lambda runtime: runtime.run(nested, ""), policy=weft.Policy(base="program", allow=("write:/",))
    )
    assert found[0] == "x/a" and all("with weft.grant" in one for one in found[1:])


@weft.workflow
async def twice() -> list[str]:
    with weft.grant("step:**", "write:./"):
        return [await tried("a"), await tried("a")]


@pytest.mark.parametrize(("word", "found"), [("always", ["a", "a"]), ("never", ["eve said no", "human:eve denies"])])
def test_a_word_of_a_person_counts_within(store: str, word: str, found: list[str]) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        started = await runtime.start(twice)
        [asked] = await eventually(runtime.questions)
        await runtime.answer(asked.id, word, who="eve")
        return await started

    policy = weft.Policy(base="program", allow=("write:./",), ask=("write:./",))
    got = drive(store, use, policy=policy)
    assert all(one.startswith(some) for one, some in zip(got, found, strict=True)), got


@weft.workflow
async def parent() -> list[list[str]]:
    with weft.grant("step,spawn:**", "write:./a"):
        one = await narrowed(["step:**", "write:./"], "a", "b")
        other = await narrowed.options(rights=["step:**", "write:./b", "write:./a"])(["step:**", "write:./"], "a", "b")
    return [one, other]


def test_a_child_of_a_block_gets_no_more_than_the_block_leaves_and_its_uses_are_taken(store: str) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        started = await runtime.start(parent)
        found = await started
        children = await runtime.store.rows(parent=started.id)
        images = [await runtime.rights.image(child.image) for child in children]
        return (
            found,
            [{c.lineage[0] for c in image.capabilities if c.effect == "allow"} for image in images],
            started.id,
        )

    policy = weft.Policy(base="program", allow=("write:./ uses=1",))
    found, lineages, id = drive(store, use, policy=policy)
    assert found[0][0] == "a" and "holds no capability" in found[0][1]
    assert all("holds no capability" in one for one in found[1])  # the one use went to the first child
    number = 1 + (4 if store.startswith("/") else 0)
    assert (id, number) in lineages[1] and all(process == id for each in lineages for process, _ in each)
