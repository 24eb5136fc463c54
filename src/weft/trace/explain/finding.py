"""What an organ of `weft explain` says: one thing that is unusual in a run, with its evidence and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from weft.trace.explain.past import Past
    from weft.trace.explain.profile import Profile

Kind = Literal[
    "refused", "stale", "paused", "failed", "said", "answer", "cause", "count", "slow", "departure", "before"
]  # fmt: skip
"""The more telling first: of several findings about one effect the first of these is kept, with the others' words."""
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`words`: a sentence. `effects`: ids of the effects that show it (`RUN:EFFECT`, or `RUN`), the first the one to
    look at. `sure`: 1 less the estimated share of usual runs in which as much would be found by chance; what the
    journal says in so many words is never by chance. `common`: the share of earlier runs, done, in which it was the
    same; None: there were none, or it is by nature a comparison with them. `at`: when, in seconds since the epoch.
    `more`: what else was found about the same effect."""

    kind: Kind
    words: str
    effects: tuple[str, ...]
    sure: float = 1.0
    common: float | None = None
    at: float = 0.0
    more: tuple[str, ...] = ()

    @property
    def weight(self) -> float:
        """How much it explains: sure, and not so in usual runs."""
        return self.sure * (1 - (self.common or 0.0))

    @property
    def sureness(self) -> str:
        """How sure it is, in words and as a number."""
        if self.kind == "before":
            return f"alike to {self.sure:.0%}"
        if self.sure == 1:
            return "certain: the journal says so"
        words = ("very sure", 0.95), ("fairly sure", 0.8), ("not sure", 0.0)
        return f"{next(word for word, least in words if self.sure >= least)} ({self.sure:.0%})"

    @property
    def links(self) -> tuple[str, ...]:
        """Places of the page that `weft web` serves, to stand after its address."""
        return tuple(link(effect) for effect in self.effects)


def link(effect: str) -> str:
    """The page's place of a run, or of one of its effects."""
    run = effect.partition(":")[0]
    return f"#/run/{run}" + (f"?effect={quote(effect, safe='')}" if ":" in effect else "")


class Organ(Protocol):
    """Looks at one run in one way. `past` holds what is usual."""

    def __call__(self, run: Profile, past: Past) -> list[Finding]: ...
