"""What processes may spend, and the one rule by which a store lets them: whatever store holds the accounts.

An account's limits bound all that is spent below it. Before an effect its price is *reserved* in the account and
all those above; with its outcome the reservation goes and what was really spent is booked. A store locks the
accounts of the tree, asks `decide`, and writes the answer down.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

import msgspec

from weft.core.errors import StoreError

SLACK = 1e-9
"""What a sum of floats may be off."""

Deltas = dict[tuple[str, str], float]
"""(account, kind) -> what is added."""


class Account(msgspec.Struct):
    """What `process` and those below it may spend, by kind: turns, tokens, money …"""

    process: str
    parent: str | None = None
    """Process whose account bounds this one too."""
    limits: dict[str, float] = {}
    spent: dict[str, float] = {}
    reserved: dict[str, float] = {}
    """What effects under way may cost at most. Only a copy of a store sets it."""


class Charge(msgspec.Struct, frozen=True):
    """What one attempt of an effect may cost."""

    key: str
    """`<process>:<effect>:<attempt>`, unique."""
    account: str
    """Process whose account pays."""
    amounts: dict[str, float] = {}
    settled: bool = False
    """What it did cost is booked. Only a copy of a store sets it."""

    @property
    def process(self) -> str:
        return self.key.rsplit(":", 2)[0]


class Refusal(msgspec.Struct, frozen=True):
    """The limit that a charge would break."""

    account: str
    kind: str
    limit: float
    spent: float
    reserved: float
    asked: float


def chain(accounts: Mapping[str, Account], process: str | None) -> Iterator[Account]:
    """The account of `process` and those above it."""
    seen: set[str] = set()
    while process is not None and process in accounts and process not in seen:
        seen.add(process)
        yield accounts[process]
        process = accounts[process].parent


def decide(
    charges: Sequence[Charge], accounts: Mapping[str, Account], known: Container[str]
) -> tuple[list[Refusal | None], list[Charge], Deltas]:
    """In the order of `charges`: the answer to each; those that are to be remembered; and what to add to the
    reservations, which are `accounts`' already.

    `accounts`: all that the charges reach. `known`: keys that were reserved before, settled or not: they are let in
    and reserve nothing more.
    """
    answers: list[Refusal | None] = []
    taken: dict[str, Charge] = {}
    deltas: Deltas = {}
    for charge in charges:
        if charge.key in known or charge.key in taken:
            answers.append(None)
            continue
        above = list(chain(accounts, charge.account))
        if not above:
            raise StoreError(f"no account is kept for process {charge.account}, which {charge.key} is to be charged to")
        refusal = next(_refusals(charge, above), None)
        answers.append(refusal)
        if refusal is None:
            taken[charge.key] = charge
            for account in above:
                for kind, amount in charge.amounts.items():
                    account.reserved[kind] = account.reserved.get(kind, 0.0) + amount
                    deltas[account.process, kind] = deltas.get((account.process, kind), 0.0) + amount
    return answers, list(taken.values()), deltas


def _refusals(charge: Charge, above: Sequence[Account]) -> Iterator[Refusal]:
    for account in above:
        for kind, asked in charge.amounts.items():
            limit = account.limits.get(kind)
            spent, reserved = account.spent.get(kind, 0.0), account.reserved.get(kind, 0.0)
            if limit is not None and spent + reserved + asked > limit + SLACK:
                yield Refusal(account.process, kind, limit, spent, reserved, asked)
