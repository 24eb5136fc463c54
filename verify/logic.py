"""One text for two readers: formulas that Python evaluates on a history, and that z3 solves for all of them.

The definitions (`verify.definitions`) and the account of the detectors (`verify.encoding`) are written over a
`Logic`. With `PLAIN` they are computed; with `verify.symbolic.SYMBOLIC` they are terms. So the oracle of the random
tests and the specification of the solver are the same lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

Truth = Any
"""A bool, or a z3 term of that sort; numbers likewise are ints or integer terms."""


class Logic(Protocol):
    """The connectives that Python's operators don't give."""

    def all(self, parts: Iterable[Truth]) -> Truth: ...
    def any(self, parts: Iterable[Truth]) -> Truth: ...
    def no(self, part: Truth) -> Truth: ...
    def choose(self, test: Truth, yes: Any, other: Any) -> Any: ...


class Plain:
    """Logic on Python's own values; stops as soon as the answer is known."""

    def all(self, parts: Iterable[Truth]) -> Truth:
        return all(parts)

    def any(self, parts: Iterable[Truth]) -> Truth:
        return any(parts)

    def no(self, part: Truth) -> Truth:
        return not part

    def choose(self, test: Truth, yes: Any, other: Any) -> Any:
        return yes if test else other


PLAIN = Plain()
