"""Budgets: what an effect may cost is reserved before it begins, and what it did cost is booked with its outcome.

The accounts are the store's, so a parent's budget bounds what all its descendants spend, wherever they are executed.
Only a process with a budget, its own or an ancestor's, pays for this: a request to the store before each effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from weft.core.budget import amounts
from weft.core.errors import BudgetExceeded
from weft.runtime.look import Look
from weft.store.base import ProcessRow
from weft.store.ledger import Account, Charge, Refusal

if TYPE_CHECKING:
    from weft.core.image import Image
    from weft.runtime.execute import Execution
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime

Answer = Callable[[BudgetExceeded | None], None]


class Ledger:
    """Of one runtime: reservations of one turn go to the store in one request."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._wants: list[tuple[Charge, Answer]] = []
        self._look = Look(runtime, self._see, runtime.journal.fail)

    def open(self, row: ProcessRow, image: Image | None = None) -> None:
        """The account of a process that has a budget of its own, written with its row, unless there is one."""
        image = image or self.runtime.rights.known(row.image)
        if image.budget is not None:
            self.runtime.journal.batch.accounts[row.id] = Account(
                process=row.id, parent=image.account, limits=image.budget.limits()
            )

    def reserve(self, process: Process, key: str, price: Mapping[str, float], then: Answer) -> None:
        """Call `then` when the price is set apart, or with the reason why it can't be."""
        assert process.account is not None
        self._wants.append((Charge(key, process.account, dict(price)), then))
        self._look.ask()

    async def _see(self) -> None:
        wants, self._wants = self._wants, []
        await self.runtime.journal.barrier()  # the accounts themselves may be new
        answers = await self.runtime.store.reserve([charge for charge, _ in wants])
        for (_, then), refusal in zip(wants, answers, strict=True):
            then(None if refusal is None else _exceeded(refusal))

    def settle(self, key: str, spent: Mapping[str, float]) -> None:
        """Book what it did cost, with what is written next."""
        self.runtime.journal.batch.settled[key] = dict(spent)
        self.runtime.kick()

    async def left(self, process: str) -> dict[str, float]:
        """What a process may still spend, by kind; kinds without a limit are not there."""
        found: dict[str, float] = {}
        for account in await self.runtime.store.accounts(process):
            for kind, limit in account.limits.items():
                rest = limit - account.spent.get(kind, 0.0) - account.reserved.get(kind, 0.0)
                found[kind] = max(0.0, min(rest, found.get(kind, math.inf)))
        return found


class Bill:
    """What one effect was allowed to cost, and what it says that it costs."""

    def __init__(self, process: Process, pending: Pending, price: Mapping[str, float]) -> None:
        self.process = process
        self.pending = pending
        self.price = dict(price)
        self.key = f"{process.id}:{pending.number}:0"
        self.said: dict[str, float] = {}
        self.open = False

    def reserve(self, then: Answer) -> None:
        def reserved(refused: BudgetExceeded | None) -> None:
            self.open = refused is None
            then(refused)

        self.process.runtime.ledger.reserve(self.process, self.key, self.price, reserved)

    def charge(self, spent: Mapping[str, float]) -> None:
        """The effect says what it spent, in place of what was reserved for that kind."""
        for kind, amount in amounts(dict(spent)).items():
            self.said[kind] = self.said.get(kind, 0.0) + amount

    def settle(self, begun: bool) -> None:
        """Its outcome is being written, or it was given up. Nothing is owed for what never began."""
        if self.open:
            self.open = False
            spent = {**self.price, **self.said} if begun else {}
            if begun and self.pending.kind == "step":
                spent["seconds"] = max(0.0, self.process.runtime.clock() - self.pending.started)
            self.process.runtime.ledger.settle(self.key, spent)


def price_of(execution: Execution) -> dict[str, float]:
    """The most that a step may cost, as far as it says."""
    step = execution.step
    found: dict[str, float] = {"effects": 1}
    if step.timeout is not None:
        found["seconds"] = step.timeout
    cost: Any = step.cost
    if cost is not None:
        found |= amounts(dict(cost(**execution.arguments()) if callable(cost) else cost))
    return found


def _exceeded(refusal: Refusal) -> BudgetExceeded:
    left = max(0.0, refusal.limit - refusal.spent - refusal.reserved)
    return BudgetExceeded(refusal.kind, refusal.account, refusal.limit, left, refusal.asked)
