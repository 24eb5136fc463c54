"""What a fork may do and spend: never more than its origin may.

Each of its capabilities descends from that of the origin with the same number, so whatever is revoked there, before or
after, is dead here too. Those that may be used only so often are dead from the start: their uses are the origin's. What
the fork spends is charged to its origin's account too: there is one budget, however many forks spend from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from weft.core.budget import Budget
from weft.core.capability import Capability
from weft.core.image import Image
from weft.core.rename import Names
from weft.store.ledger import Account, chain

_NOWHERE = Names({})


def inherited(one: Capability, holder: str, number: int, names: Names = _NOWHERE) -> Capability:
    """What a fork gets of capability `number` of `holder`. `names`: of those that are forked with it."""
    above = [(names.exactly(process), n) for process, n in one.lineage]
    lineage = tuple(dict.fromkeys((*one.lineage, *above, (holder, number))))
    uses = 0 if one.effect == "allow" and one.uses is not None else one.uses
    return replace(one, lineage=lineage, uses=uses)


class Heritage:
    """That of one fork of a process (`root`, its name before) and all below it."""

    def __init__(self, names: Names, root: str, accounts: Sequence[Account]) -> None:
        """`accounts`: as they were at the cut."""
        self.names = names
        self.root = root
        self.accounts = {account.process: account for account in accounts}
        self.opened: dict[str, Account] = {}
        """Those of the fork."""
        for id, account in self.accounts.items():
            if id in names.new:
                parent = id if id == root else self._payer(account.parent)
                self.opened[names.new[id]] = Account(names.new[id], parent, account.limits, account.spent)

    def image(self, image: Image, holder: str) -> Image:
        """The image of what `holder` becomes; its capabilities keep their numbers."""
        held = tuple(inherited(one, holder, number, self.names) for number, one in enumerate(image.capabilities))
        return replace(image, capabilities=held, account=self._payer(image.account))

    def uppermost(self, image: Image) -> Image:
        """That of the root: its account hangs below the one that its origin spends from."""
        found = self.image(image, self.root)
        if image.budget is not None:
            return replace(found, account=self.root)
        if image.account is None:
            return found
        left = self._left(image.account)
        id = self.names.new[self.root]
        self.opened[id] = Account(id, image.account, left)
        return replace(found, account=image.account, budget=Budget(**left))

    def _payer(self, account: str | None) -> str | None:
        """Whose account a process below the root spends from: what bounds them from outside bounds the new root."""
        return None if account is None else self.names.new.get(account, self.names.new[self.root])

    def _left(self, account: str) -> dict[str, float]:
        """What could be spent from it at the cut."""
        left: dict[str, float] = {}
        for one in chain(self.accounts, account):
            for kind, limit in one.limits.items():
                rest = max(0.0, limit - one.spent.get(kind, 0.0))
                left[kind] = min(rest, left.get(kind, rest))
        return left
