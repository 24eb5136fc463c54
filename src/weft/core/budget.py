"""What a process may spend, in six kinds; a parent's budget bounds the sum of what all below it spend."""

from __future__ import annotations

import math

import msgspec

from weft.core.errors import BadInput

KINDS = ("turns", "tokens", "money", "seconds", "effects", "children")


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits; None is none. `turns` of an agent, `tokens` and `money` (in the currency of the price table, US dollars
    as shipped) of generations, `seconds` that steps run, `effects` (steps, tool calls and generations), `children`
    started."""

    turns: float | None = None
    tokens: float | None = None
    money: float | None = None
    seconds: float | None = None
    effects: float | None = None
    children: float | None = None

    def __post_init__(self) -> None:
        for kind, limit in self.limits().items():
            if isinstance(limit, bool) or not isinstance(limit, int | float) or math.isnan(limit) or limit < 0:
                raise BadInput(f"Budget({kind}={limit!r}): give a number >= 0")

    def limits(self) -> dict[str, float]:
        """Those that are set, by kind."""
        return {kind: limit for kind in KINDS if (limit := getattr(self, kind)) is not None}


def tighter(one: Budget | None, other: Budget | None) -> Budget | None:
    """Both: of each kind the smaller limit."""
    if one is None or other is None:
        return one or other
    limits = one.limits()
    for kind, limit in other.limits().items():
        limits[kind] = min(limit, limits.get(kind, limit))
    return Budget(**limits)


def amounts(spent: dict[str, float]) -> dict[str, float]:
    """`spent` if it names kinds that there are and amounts >= 0. Raises BadInput."""
    for kind, amount in spent.items():
        if kind not in KINDS:
            raise BadInput(f"there is no budget of {kind!r}; there are {', '.join(KINDS)}")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
            raise BadInput(f"{kind}={amount!r}: give a number >= 0")
    return spent
