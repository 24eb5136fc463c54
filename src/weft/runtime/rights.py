"""The rights of living processes: what each holds, what was revoked, and what is decided about a request.

A process holds the capabilities of its image, and what people granted it since. Who is revoked is known by
(process, number): a capability that was handed down names all those it came from, so a revocation reaches every
descendant at its next effect, without anybody being told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from weft.core.authority import Authority, Decision, line
from weft.core.budget import Budget, tighter
from weft.core.capability import ACTIONS, Capability, Request, parse
from weft.core.clearance import Rule, Rules
from weft.core.errors import Denied
from weft.core.image import Image, decode_image, encode_image, image_hash
from weft.core.pattern import EVERYTHING
from weft.core.record import AnyRecord, Granted, Outcome, Released, Reserved, Started, content_hash
from weft.core.workflow import Workflow
from weft.runtime.heritage import inherited
from weft.runtime.look import Look
from weft.runtime.policy import Policy

if TYPE_CHECKING:
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime

WATCHED = ("file.read", "file.write", "file.delete", "net.connect", "shell.run")
"""What steps are watched for."""
MOST_DECIDED = 512
"""Decisions that a process remembers, as long as nothing changes them."""
By = tuple[int, ...]

_BELOW = ""
"""Who is handed something has no name yet."""

granted: ContextVar[tuple[str, ...]] = ContextVar("weft_granted", default=())
"""In a script: what `with weft.grant(...)` adds."""
narrowed: ContextVar[Holder | None] = ContextVar("weft_narrowed", default=None)
"""In a body: what `with weft.grant(...)` leaves of its rights."""


class Rights:
    """Those of one runtime."""

    def __init__(self, runtime: Runtime, policy: Policy) -> None:
        self.runtime = runtime
        self.policy = policy
        self.revoked: set[tuple[str, int]] = set()
        self.epoch = 0
        """Grows with each revocation."""
        self._images: dict[bytes, Image] = {}
        self._roots: dict[object, tuple[bytes, bytes]] = {}
        self._free: dict[tuple[bytes, int], dict[str, By]] = {}
        self._rules: dict[tuple[tuple[Rule, ...], tuple[Rule, ...]], Rules] = {}
        self._seen = 0
        self._look = Look(runtime, self.refresh)

    # --- images ------------------------------------------------------------------------------------------

    def of(self, workflow: Workflow[..., object], parent: Process | None) -> bytes:
        """The hash of the image of a new process."""
        return self._of_root(workflow) if parent is None else self._keep(self._childs(parent, workflow))

    def _of_root(self, workflow: Workflow[..., object]) -> bytes:
        """The hash of the image of a run that is started from outside."""
        policy = self.policy
        extra = (*granted.get(), *workflow.rights) if workflow.rights is not None else granted.get()
        key = (workflow.name, workflow.version, extra, workflow.budget)
        known = None if workflow.caller else self._roots.get(key)
        if known is not None:
            hash, data = known
            self.runtime.journal.batch.images[hash] = data  # others may have deleted it with the last run that had it
            return hash
        if extra:
            policy |= Policy(allow=extra)
        image = self._given(policy, workflow.name, workflow.version, tighter(workflow.budget, policy.budget))
        if workflow.caller:
            return self._keep(replace(image, caller=workflow.caller))
        hash = self._keep(image)
        if "expires=" not in " ".join((*policy.allow, *policy.ask, *policy.deny)):  # counted from each start
            self._roots[key] = hash, self.runtime.journal.batch.images[hash]
        return hash

    def _childs(self, parent: Process, workflow: Workflow[..., object]) -> Image:
        """That of a child: of its parent's rights what it asks for, or all that may be handed on."""
        holder = narrowed.get() or parent.rights
        if workflow.rights is None:
            wanted = None
        else:
            wanted = [
                parse(spec, workspace=holder.image.workspace, issuer=parent.id, now=self.runtime.clock())
                for spec in workflow.rights
            ]
        handed, taken = holder.hand_on(wanted)
        if taken:
            parent.rights.used.update(taken)
            self.runtime.append(parent, Reserved(self.runtime.clock(), parent.issued, taken))
        return Image(
            workflow=workflow.name,
            version=workflow.version,
            workspace=holder.image.workspace,
            capabilities=tuple(handed),
            budget=workflow.budget,
            account=parent.account,
            mark=parent.mark,
            labels=holder.image.labels,
            clear=holder.image.clear,
            approvals=holder.image.approvals,
            caller=holder.image.caller,
        )

    def of_exec(self, process: Process, workflow: Workflow[..., object], number: int) -> tuple[bytes, str]:
        """That of what a process becomes by its effect `number`, and the name under which its rights are known."""
        holder = process.holder()
        if workflow.rights is None and holder is process.rights:
            changed = replace(
                holder.image, workflow=workflow.name, version=workflow.version, account=process.account, budget=None,
                mark=process.mark,
            )  # fmt: skip
            return self.carry(process.id, changed), holder.id
        return self.carry(process.id, self._childs(process, workflow)), f"{process.id}@{number}"

    def of_fork(self, origin: str, image: Image, more: Policy | None = None) -> bytes:
        """That of a fork: what its origin held when it began, under the same revocations, and nothing that may be used
        only so often; and what whoever forks it allows `more`, or forbids. Its owner begins it anew, with its origin's
        budget for itself; what goes on from a checkpoint has not (`Heritage`)."""
        budget = image.budget if more is None else tighter(image.budget, more.budget)
        return self._keep(replace(self.forked(origin, image, more), budget=budget))

    def forked(self, holder: str, image: Image, more: Policy | None = None) -> Image:
        """What a fork holds of the rights of `holder`, each under its number, and `more`."""
        held = tuple(inherited(one, holder, number) for number, one in enumerate(image.capabilities))
        if more is not None:
            held += more.besides(self.runtime.clock(), image.workspace)
        return replace(image, capabilities=held)

    def _given(self, policy: Policy, workflow: str = "", version: str = "", budget: Budget | None = None) -> Image:
        """What a policy gives to a run from outside."""
        labels, clear = policy.rules()
        return Image(
            workflow=workflow,
            version=version,
            workspace=policy.folder,
            capabilities=policy.capabilities(self.runtime.clock(), self.runtime.store.private),
            budget=budget,
            labels=labels,
            clear=clear,
            approvals=policy.approvals,
        )

    def _keep(self, image: Image) -> bytes:
        data = encode_image(image)
        hash = image_hash(data)
        self._images.setdefault(hash, image)
        self.runtime.journal.batch.images[hash] = data
        return hash

    def carry(self, process: str, image: Image) -> bytes:
        """Keep an image that stands in the journal of a process, not in its row, with the payloads of that journal."""
        data = encode_image(image)
        hash = content_hash(data)
        self._images.setdefault(hash, image)
        self.runtime.journal.batch.payloads[hash] = data
        self.runtime.journal.batch.references.add((process, hash))
        return hash

    def known(self, hash: bytes) -> Image:
        """An image that is in memory."""
        return self._images[hash]

    async def image(self, hash: bytes, *, carried: bool = False) -> Image:
        """The image of this hash; for a run from before there were any, what the policy gives to anybody. `carried`:
        it stands in a journal, where a process went on as another program."""
        found = self._images.get(hash)
        if found is None:
            if hash:
                store = self.runtime.store
                found = decode_image(await (store.payload(hash) if carried else store.image(hash)))
            else:
                found = self._given(self.policy)
            self._images[hash] = found
        return found

    def rules(self, image: Image) -> Rules | None:
        """What an image says about labels; None: nothing."""
        if not image.labels and not image.clear:
            return None
        key = (image.labels, image.clear)
        if key not in self._rules:
            self._rules[key] = Rules(*key)
        return self._rules[key]

    def holder(self, process: str, hash: bytes, records: Sequence[AnyRecord] = ()) -> Holder:
        """What a process holds; its image is in memory."""
        return Holder(self, process, hash, self._images[hash], records)

    def free(self, holder: Holder) -> dict[str, By]:
        """Actions that it may do to anything: nothing is to be asked about them."""
        key = (holder.hash, self.epoch)
        plain = not holder.granted and not any(process == holder.id for process, _ in self.revoked)
        if plain and key in self._free:
            return self._free[key]
        found = free_of(holder.authority.capabilities, holder.id, self.revoked)
        if plain:
            if len(self._free) > 10_000:
                self._free.clear()
            self._free[key] = found
        return found

    # --- revocations -------------------------------------------------------------------------------------

    def current(self) -> bool:
        """Whether surely all revocations are known here (cheap)."""
        last = self.runtime.store.last_revocation()
        return last is not None and last <= self._seen

    async def refresh(self) -> None:
        """Learn what was revoked, here or by others."""
        for one in await self.runtime.store.revocations(self._seen):
            self._seen = max(self._seen, one.seq)
            self.take((one.process, one.number))

    def look(self) -> None:
        """Others may have revoked something, which also ends what is free."""
        self._look.ask()

    def take(self, which: tuple[str, int]) -> None:
        if which not in self.revoked:
            self.revoked.add(which)
            self.epoch += 1

    async def revoke(self, process: str, number: int, by: str) -> None:
        """Take a capability from a process and from all it was handed down to. Durable on return."""
        self.take((process, number))
        self.runtime.journal.batch.revoked.append((process, number, by))
        await self.runtime.journal.barrier()


class Holder:
    """What one process holds. Deciding is safe in any thread."""

    __slots__ = (
        "_decided",
        "_epoch",
        "_free",
        "_free_epoch",
        "_lasting",
        "_watched",
        "authority",
        "granted",
        "hash",
        "id",
        "image",
        "releases",
        "rights",
        "temporary",
        "used",
    )

    def __init__(
        self, rights: Rights, process: str, hash: bytes, image: Image, records: Sequence[AnyRecord] = ()
    ) -> None:
        self.rights = rights
        self.id = process
        self.hash = hash
        self.image = image
        self.granted = [_decode(r.spec) for r in records if type(r) is Granted]
        self.used: Counter[int] = spent(records)
        self.releases = [r for r in records if type(r) is Released]
        self._hold((*image.capabilities, *self.granted))

    def _hold(self, capabilities: Sequence[Capability]) -> None:
        self.authority = Authority(self.id, capabilities)
        self._epoch = self._free_epoch = -1
        self._decided: dict[Request, Decision] = {}
        self._lasting = all(one.expires is None and one.uses is None for one in capabilities)
        self.temporary = any(one.expires is not None for one in capabilities)

    @property
    def watched(self) -> bool:
        """Whether there is something that its steps must not do in their middle."""
        self._look_up()
        return self._watched

    def _trusted(self, by: By) -> bool:
        """Whether it may do this to anything, and nobody wants to know to what: `--allow all` is written down."""
        return bool(by) and self.authority.capabilities[by[0]].issuer == "all"

    def inherit(self, before: Holder) -> None:
        """What the same process was granted and has used under its image before."""
        self.granted, self.used, self.releases = before.granted, before.used, before.releases
        self._hold((*self.image.capabilities, *self.granted))

    @property
    def free(self) -> Mapping[str, By]:
        """Actions that nothing restricts, and the capability that says so."""
        self._look_up()
        return self._free

    def _look_up(self) -> None:
        """What holds as long as nobody is granted or loses anything: it is asked about at every effect."""
        if self._free_epoch != self.rights.epoch:
            self._free_epoch = self.rights.epoch
            self._free = self.rights.free(self)
            self._watched = not all(self._trusted(self._free.get(action, ())) for action in WATCHED)

    def decide(self, request: Request, reserved: Sequence[int] = ()) -> Decision:
        """`reserved`: uses that were set apart for what is asked about."""
        known = self._decided.get(request)
        if known is not None and self._epoch == self.rights.epoch:
            return known
        used = self.used - Counter(reserved) if reserved else self.used
        epoch = self.rights.epoch
        now = self.rights.runtime.clock()
        found = self.authority.decide(request, now=now, revoked=self.rights.revoked, used=used)
        if self._lasting and ACTIONS[request.action] != "shell":  # a command is looked up anew each time
            if self._epoch != epoch or len(self._decided) >= MOST_DECIDED:
                self._decided = {}
            self._epoch = epoch
            self._decided[request] = found
        return found

    def limited(self, numbers: By) -> By:
        """Those of these capabilities that may be used only so often."""
        if not self.authority.counts:
            return ()
        return tuple(number for number in numbers if self.authority.limited(number) is not None)

    def hand_on(self, wanted: Sequence[Capability] | None) -> tuple[list[Capability], By]:
        """What a child gets, of `wanted` or of all that may be handed on; and the uses that go along."""
        now = self.rights.runtime.clock()
        handed = self.authority.delegate(wanted, _BELOW, now=now, revoked=self.rights.revoked, used=self.used)
        return handed.capabilities, tuple(Counter(handed.taken).elements())

    def grant(self, capability: Capability) -> None:
        """By the word of a person."""
        self.rights.epoch += 1
        self.granted.append(capability)
        self._hold((*self.image.capabilities, *self.granted))

    def denied(self, request: Request, decision: Decision) -> Denied:
        """The error for a request that was refused: who refused it, and what to add."""
        if decision.by is not None:
            held = self.authority.capabilities[decision.by]
            why = f"{held.issuer} denies it to run {self.id} ({self.id}#{decision.by})"
            return Denied(*request, why)
        fix = f"allow it with: {line(request, self.image.workspace)}"
        return Denied(*request, f"run {self.id} holds no capability for it", fix)


def free_of(held: Sequence[Capability], process: str, revoked: set[tuple[str, int]]) -> dict[str, By]:
    found: dict[str, By] = {}
    for number, one in enumerate(held):
        lives = one.expires is None and one.uses is None and revoked.isdisjoint((*one.lineage, (process, number)))
        if one.effect == "allow" and lives and set(one.patterns) == {EVERYTHING}:
            for action in one.actions:
                found.setdefault(action, (number,))
    for one in held:
        if one.effect != "allow":
            for action in one.actions:
                found.pop(action, None)
    return found


def spent(records: Sequence[AnyRecord]) -> Counter[int]:
    """Uses that count: of effects that ended, or may have begun."""
    begun = {r.effect for r in records if type(r) is Outcome or (type(r) is Started and r.intent)}
    taken = {r.effect: r.uses for r in records if type(r) is Reserved}  # the last word on each
    return Counter(number for effect, uses in taken.items() if effect in begun for number in uses)


_decode = msgspec.msgpack.Decoder(Capability).decode
