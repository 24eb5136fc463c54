"""Labels: how far a value may go. They ride on values through effects, and only ever grow.

A label says how sensitive a value is and whose it is (its tenants). Labels form a lattice: two values taken together
are as sensitive as the more sensitive one, and belong to the tenants of both (Denning, A Lattice Model of Secure
Information Flow, 1976). The same points say what a place may take: its *clearance*.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from weft.core.errors import BadInput

Sensitivity = Literal["public", "internal", "confidential", "secret"]
LEVELS: tuple[Sensitivity, ...] = get_args(Sensitivity)
ANY = "*"
"""Every tenant: as a label, that nobody knows whose it is; as a clearance, that it does not matter."""

_RANK = {level: rank for rank, level in enumerate(LEVELS)}
_UNFIT = frozenset(", \t\n'\"=")


class Label(msgspec.Struct, frozen=True, array_like=True):
    """``Label("confidential", ["acme"])``. `tenants`: on whose behalf it was brought in; any iterable, kept sorted."""

    sensitivity: Sensitivity = "public"
    tenants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sensitivity not in _RANK:
            raise BadInput(f"{self.sensitivity!r} is no sensitivity; there are {', '.join(LEVELS)}")
        if self.tenants:
            msgspec.structs.force_setattr(self, "tenants", _tenants(self.tenants))

    def flows_to(self, clearance: Label) -> bool:
        """Whether what carries this label may go where this much is cleared."""
        if _RANK[self.sensitivity] > _RANK[clearance.sensitivity]:
            return False
        return clearance.tenants == (ANY,) or set(self.tenants) <= set(clearance.tenants)

    def __or__(self, other: Label) -> Label:
        """That of what was made of both."""
        if other is PUBLIC or other.flows_to(self):
            return self
        if self.flows_to(other):
            return other
        return Label(max(self.sensitivity, other.sensitivity, key=_RANK.__getitem__), (*self.tenants, *other.tenants))

    def __str__(self) -> str:
        return f"{self.sensitivity} tenant={','.join(self.tenants)}" if self.tenants else self.sensitivity


def _tenants(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        given = (given,)
    found = sorted(set(given))
    for one in found:
        if not isinstance(one, str) or not one or not _UNFIT.isdisjoint(one):
            raise BadInput(f"{one!r} is no name of a tenant: give a text without spaces, commas, quotes and '='")
    return (ANY,) if ANY in found else tuple(found)


PUBLIC = Label()
TOP = Label("secret", (ANY,))
"""What may hold anything."""


def join(labels: Iterable[Label]) -> Label:
    """That of what was made of all of these; of nothing: public."""
    found = PUBLIC
    for label in labels:
        found |= label
    return found
