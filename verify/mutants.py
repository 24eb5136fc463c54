"""Ways to get shared memory wrong, as edits of the model. TLC must find every one, or its silence would mean nothing.

The first three are faults of the paper's own stores (docs/methods/consistency.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from verify.bounds import CHAIN, FULL, SMALL, Bounds

CHECK = "    /\\ Valid(o)\n    /\\ log'"


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in the model; then `broken` does not hold among operations at `levels` any more."""

    name: str
    old: str
    new: str
    levels: tuple[int, ...]
    broken: str
    bounds: Bounds = SMALL

    def applied(self, model: str) -> str:
        """The model with the fault in it. Raises `ValueError` if the place is not there exactly once."""
        if model.count(self.old) != 1:
            raise ValueError(f"{self.name}: the model says {self.old!r} {model.count(self.old)} times, not once")
        return model.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "cells that are also written are not validated",
        CHECK,
        "    /\\ Sound(o) /\\ \\A c \\in Validated(o) \\ written : Version(c) = op[o].reads[c].version\n    /\\ log'",
        (1,),
        "NoA1",
    ),
    Mutant(
        "operations that only read are not validated",
        CHECK,
        "    /\\ Sound(o) /\\ (written = {} \\/ Fresh(o))\n    /\\ log'",
        (1,),
        "NoA1",
    ),
    Mutant(
        "a retraction restores nothing",
        "IF Writer(c, Version(c)) \\in falling THEN Append(log[c], Newest(c, Version(c), falling)) ELSE log[c]",
        "log[c]",
        (2,),
        "LiveValues",
    ),
    Mutant(
        "a retraction takes no dependants with it",
        "Falling(o) == {p \\in Dependants(o) : op[p].level >= 2}",
        "Falling(o) == {}",
        (2,),
        "NoA3",
    ),
    Mutant(
        "effects are released as they are computed",
        "op[o].level >= 3 /\\ op[o].effects[i].tool \\in Ordered => Turn(o, i)",
        "TRUE",
        (3,),
        "NoA6",
    ),
    Mutant(
        "tools are resolved when they are called",
        "IF op[o].level >= 4 THEN op[o].pinned[t] ELSE registry[t]",
        "registry[t]",
        (4,),
        "NoA2",
    ),
    Mutant(
        "values are compared, not versions",
        "Version(c) = op[o].reads[c].version",
        "Writer(c, Version(c)) = ValueRead(o, c)",
        (1,),
        "NoA1",
    ),
    Mutant(
        "a retraction takes direct readers only",
        "Falling(o) == {p \\in Dependants(o) : op[p].level >= 2}",
        "Falling(o) == {p \\in Dependants(o) : op[p].level >= 2 /\\ o \\in Producers(p)}",
        (2,),
        "NoA3",
        CHAIN,
    ),
    Mutant(
        "a retraction restores the version before, whoever wrote it",
        "Append(log[c], Newest(c, Version(c), falling))",
        "Append(log[c], Writer(c, Version(c) - 1))",
        (2,),
        "LiveValues",
    ),
    Mutant(
        "beside operations at L1, an operation at L2 does not ask whether its producers are live",
        "Sound(o) == op[o].level >= 2 =>",
        "Sound(o) == FALSE =>",
        (1, 2),
        "Promise",
        CHAIN,
    ),
    Mutant(
        "an effect waits until earlier ones are computed, not released",
        'op[o].effects[k].tool \\in Ordered => op[o].effects[k].state = "released"',
        'op[o].effects[k].tool \\in Ordered => op[o].effects[k].state # "issued"',
        (3,),
        "NoA6",
    ),
    Mutant(
        "a snapshot pins the names of tools, not their signatures",
        "IF op[o].level >= 4 THEN op[o].pinned[t] ELSE registry[t]",
        "IF op[o].level >= 4 /\\ registry[t] = Absent THEN op[o].pinned[t] ELSE registry[t]",
        (4,),
        "NoA2",
        FULL,
    ),
)
