"""Random workflow programs as source: branches, loops, gathers, groups, tasks, helpers, children, generators, failures.

Each effect's outcome is a number that a hash of its arguments decides, so the way that a program takes depends on its
input and on outcomes, and is the same each time. A program is a module of its own, written to a file, since a template
is read from source.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEAD = '''"""Made by benchmarks.observe.programs; seed {seed}."""
import asyncio
from contextlib import asynccontextmanager

import weft
from weft.tool import tool


def turned(word, number):
    return sum(ord(c) * (n + 7) for n, c in enumerate(f"{{word}} {{number}}")) % 97


@weft.step(effect="pure")
async def plan(number):
    return turned("plan", number)


@weft.step(effect="pure")
async def draft(number):
    return turned("draft", number)


@weft.step(effect="pure")
async def slow(number):
    await asyncio.sleep((number % 5) / 2000)
    return turned("slow", number)


@weft.step(effect="pure")
async def risky(number):
    if number % 3 == 0:
        raise ValueError(f"{{number}} is too risky")
    return turned("risky", number)


@tool(effect="pure")
async def look(number: int) -> int:
    """Look at a number.

    Args:
        number: Which.
    """
    return turned("look", number)


TOOLS = {{"plan": plan, "look": look}}

'''
CALLS = ("plan", "draft", "slow", "look")


class Program:
    """One random module: some helpers, a child workflow, and `main`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.names = 0
        self.helpers: list[str] = []
        self.children: list[str] = []
        self.text = HEAD.format(seed=seed)
        for number in range(self.chance.randint(0, 3)):
            self.function(f"helper{number}", self.chance.randint(1, 3), 2)
            self.helpers.append(f"helper{number}")
        if self.chance.random() < 0.5:
            self.function("below", 2, 1, workflow=True)
            self.children.append("below")
        self.text += (
            "async def stream(number):\n    for each in range(number % 4):\n        yield await draft(each)\n\n\n"
            "async def deep(number):\n    if number <= 0:\n        return 0\n"
            "    await plan(number)\n    return await deep(number - 1)\n\n\n"
            "@asynccontextmanager\nasync def around(number):\n    await plan(number)\n    yield number\n"
            "    await draft(number)\n\n\n"
        )
        self.function("main", self.chance.randint(3, 7), 3, workflow=True)

    def function(self, name: str, length: int, depth: int, workflow: bool = False) -> None:
        mark = "@weft.workflow\n" if workflow else ""
        lines = self.block(length, depth, 1)
        self.text += f"{mark}async def {name}(x):\n" + "\n".join(lines) + "\n    return x % 97\n\n\n"

    def block(self, length: int, depth: int, indent: int, loop: bool = False) -> list[str]:
        lines = [line for _ in range(length) for line in self.statement(depth, loop)]
        return ["    " * indent + line for line in lines] if lines else ["    " * indent + "pass"]

    def statement(self, depth: int, loop: bool) -> list[str]:
        ways = [self.effect, self.effect, self.choice]
        if depth > 0:
            ways += [self.branch, self.repeat, self.while_, self.together, self.each, self.group, self.tasks,
                     self.attempt, self.mapped, self.streamed, self.bracketed, self.recursion]  # fmt: skip
        way = self.chance.choice(ways)
        if way is self.effect and loop and self.chance.random() < 0.2:
            return [f"if x % {self.chance.randint(2, 5)} == 0:", f"    {self.chance.choice(['break', 'continue'])}"]
        if way is self.effect and self.chance.random() < 0.08:
            return [f"if x % {self.chance.randint(4, 9)} == 1:", "    return x"]
        return way(depth - 1)

    # --- statements -------------------------------------------------------------------------------------------------

    def call(self, argument: str = "x") -> str:
        """A coroutine."""
        kinds = list(CALLS) + self.helpers * 2 + self.children
        return f"{self.chance.choice(kinds)}({argument} + {self.chance.randint(0, 9)})"

    def effect(self, depth: int) -> list[str]:
        if self.chance.random() < 0.1:
            return [self.chance.choice(["await weft.sleep(0.0001)", "x += int(weft.random() * 0)", "weft.now()"])]
        return [f"x = x + await {self.call()}"]

    def choice(self, depth: int) -> list[str]:
        if self.chance.random() < 0.5:
            return [f"x += (await {self.call()}) if x % 2 else (await {self.call()})"]
        return ['x += await TOOLS["plan" if x % 2 else "look"](x)']

    def branch(self, depth: int) -> list[str]:
        lines = [f"if x % {self.chance.randint(2, 4)} == 0:", *self.block(self.chance.randint(1, 2), depth, 1)]
        if self.chance.random() < 0.5:
            lines += ["else:", *self.block(1, depth, 1)]
        return lines

    def repeat(self, depth: int) -> list[str]:
        turns, length = self.chance.randint(2, 4), self.chance.randint(1, 2)
        return [f"for i in range(x % {turns}):", *self.block(length, depth, 1, True)]

    def while_(self, depth: int) -> list[str]:
        self.names += 1
        name = f"left{self.names}"
        return [f"{name} = x % 4", f"while {name} > 0:", f"    {name} -= 1", *self.block(1, depth, 1, True)]

    def together(self, depth: int) -> list[str]:
        calls = ", ".join(self.call() for _ in range(self.chance.randint(2, 3)))
        return [f"x += sum(await asyncio.gather({calls}))"]

    def each(self, depth: int) -> list[str]:
        self.names += 1
        name = f"found{self.names}"
        if self.chance.random() < 0.5:
            calls = f"{self.call('each')} for each in range(x % 5)"
            return [f"{name} = await asyncio.gather(*[{calls}])", f"x += sum({name})"]
        return [
            f"{name} = [asyncio.create_task({self.call('each')}) for each in range(x % 4)]",
            f"x += sum(await asyncio.gather(*{name}))",
        ]

    def group(self, depth: int) -> list[str]:
        return [
            "async with asyncio.TaskGroup() as calls:",
            f"    calls.create_task({self.call()})",
            "    for each in range(x % 3):",
            f"        calls.create_task({self.call('each')})",
        ]

    def tasks(self, depth: int) -> list[str]:
        self.names += 1
        name = f"task{self.names}"
        return [f"{name} = asyncio.create_task({self.call()})", f"x += await {self.call()}", f"x += await {name}"]

    def attempt(self, depth: int) -> list[str]:
        lines = ["try:", "    x += await risky(x)", *self.block(1, depth, 1)]
        lines += ["except ValueError:", *self.block(1, depth, 1)]
        if self.chance.random() < 0.4:
            lines += ["finally:", f"    x += await {self.call()}"]
        return lines

    def mapped(self, depth: int) -> list[str]:
        fn = self.chance.choice([*CALLS, *self.helpers])
        if self.chance.random() < 0.5:
            return [f"x += sum(await weft.map({fn}, range(x % 5), concurrency=2))"]
        turns = f"async for one in weft.map({fn}, range(x % 4), concurrency=2):"
        return [turns, f"    x += one + await {self.call('one')}"]

    def streamed(self, depth: int) -> list[str]:
        return ["async for one in stream(x):", *self.block(1, depth, 1, True)]

    def bracketed(self, depth: int) -> list[str]:
        return ["async with around(x):", *self.block(1, depth, 1)]

    def recursion(self, depth: int) -> list[str]:
        return ["await deep(x % 4)"]


def write(folder: Path, seed: int) -> Any:
    """The module of this seed, written and imported."""
    name = f"weft_observed_{seed}"
    path = folder / f"{name}.py"
    path.write_text(Program(seed).text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def inputs(count: int) -> Sequence[int]:
    return [3 + 7 * number for number in range(count)]
