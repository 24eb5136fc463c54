"""Small random histories that are full of edges: moments that coincide, values that agree, tools that come and go."""

from __future__ import annotations

from random import Random

from weft.trace.history import Call, Effect, Operation, Read, Write

CELLS = ("cell0", "cell1", "cell2")
TOOLS = ("tool0", "tool1", "tool2")
VALUES = ("0", "1", "2", None)
EFFECTS: tuple[Effect, ...] = ("ordered", "ordered", "ordered", "commutes", "none")


def random_history(random: Random, most: int = 5) -> list[Operation]:
    """Up to `most` operations of up to three agents on a clock of ten ticks."""
    count = random.randint(1, most)
    return [_operation(random, f"op{number}", count) for number in range(count)]


def _operation(random: Random, name: str, count: int) -> Operation:
    begin = random.randrange(9)
    end = random.randint(begin, 9)
    calls = _calls(random)
    tools = {tool: str(random.randrange(2)) for tool in TOOLS if random.random() < 0.7}
    at_end = {tool: signature for tool, signature in tools.items() if random.random() < 0.9}
    if random.random() < 0.2:
        at_end[random.choice(TOOLS)] = str(random.randrange(2))
    return Operation(
        id=name,
        agent=f"agent{random.randrange(3)}",
        begin=begin,
        end=end,
        reads=tuple(
            Read(random.choice(CELLS), random.choice(VALUES), random.randint(begin, end))
            for _ in range(random.randrange(4))
        ),
        writes=tuple(Write(cell, random.choice(VALUES)) for cell in CELLS if random.random() < 0.4),
        calls=calls,
        tools=tools,
        tools_at_end=at_end if random.random() < 0.7 else None,
        planned=tuple(tool for tool in TOOLS if random.random() < 0.2),
        predecessors=tuple(f"op{other}" for other in range(count) if random.random() < 0.25),
        retracted=random.random() < 0.2,
    )


def _calls(random: Random) -> tuple[Call, ...]:
    count = random.choice((0, 1, 2, 2, 3, 4))
    issues = random.sample(range(8), count)
    in_order = random.random() < 0.3
    calls = []
    for issue in issues:
        done = None if random.random() < 0.08 else issue if in_order else random.randrange(8)
        signature = random.choice(("", "", "", "0", "1", None))
        calls.append(Call(random.choice(TOOLS), issue, done, signature, random.choice(EFFECTS)))
    return tuple(calls)
