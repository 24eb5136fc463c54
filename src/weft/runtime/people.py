"""People: questions that a process asks, and approvals of what it is about to do. Both may wait for days.

A question is a row of the store until it is answered; the answer is a letter to the process. An approval is bound to
the exact arguments and the code that were shown: an answer to something else is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.approvals import Approvals
from weft.core.capability import Capability, Request, Verdict
from weft.core.codec import decode, encode
from weft.core.errors import BadInput, Denied, QuestionExpired
from weft.core.record import Approved, Granted
from weft.core.resource import capability_for
from weft.runtime import flow
from weft.runtime.divergence import shown
from weft.runtime.inbox import VERDICTS, Asked, OpenQuestion, find, opened, questions
from weft.runtime.mail import ANSWERS
from weft.runtime.protect import note
from weft.store.base import Message, Question

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.protect import Protected
    from weft.runtime.runtime import Runtime

DEFAULT = "default"
"""The queue of questions that name none."""
ANSWERED = "answered"
"""What is written down of a question, in place of once, always or never."""

Judge = Callable[[dict[str, Any]], "str | Callable[[], None]"]
"""Takes an answer: why it is none, or what follows from it."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How long a question waits. `timeout`, `escalate_after`: seconds since it was asked."""

    timeout: float | None = None
    default: Any = msgspec.UNSET
    escalate_after: float | None = None
    escalate_to: str = ""

    @classmethod
    def of(cls, approvals: Approvals) -> Terms:
        """Those of an approval."""
        after, to = approvals.escalate_after, approvals.escalate_to
        return cls(timeout=approvals.timeout, default=approvals.otherwise, escalate_after=after, escalate_to=to)


class People:
    """Those who answer the processes of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.open: dict[str, OpenQuestion] = {}
        """What processes of this runtime have asked since it was opened, and nobody answered."""
        self.observers: list[Callable[[], None]] = []
        """Called when something is asked, or needs no answer any more, once that is durable."""

    # --- asking ------------------------------------------------------------------------------------------

    def ask(self, process: Process, pending: Pending, asked: Asked, terms: Terms, fits: Callable[[Any], Any]) -> None:
        """A body's question; its outcome is the answer."""

        def judge(answer: dict[str, Any]) -> str | Callable[[], None]:
            try:
                value = fits(answer["value"])
            except Exception as error:
                return str(error)
            return partial(self._answered, process, pending, value, str(answer.get("who") or "somebody"))

        asked.workflow, asked.place = process.workflow, pending.place
        Waiting(self.runtime, process, pending, asked, terms, "question", pending.name, judge).begin()

    def _answered(self, process: Process, pending: Pending, value: Any, who: str) -> None:
        self.runtime.append(process, Approved(self.runtime.clock(), pending.number, b"", ANSWERED, who))
        process.arrive(pending, True, value)

    def approve(self, protected: Protected, asking: Sequence[Request], sinks: Sequence[Request] = ()) -> None:
        """Ask whether an effect may be done, and take what it carries to `sinks`; then it goes on, or is refused."""
        process, pending = protected.process, protected.pending
        binding = protected.binding()
        kind = "release" if sinks else "approval"
        label = pending.full
        wanted = list(dict.fromkeys((*asking, *sinks)))
        approvals = protected.holder.image.approvals or Approvals()
        visible = flow.may_see(process, label, approvals.queue)
        requests = [(one.action, flow.told(one, visible)) for one in wanted]
        asked = Asked(
            text=f"{pending.name} wants to: {'; '.join(f'{action} {what}' for action, what in requests)}"
            + (f", with what is {label}" if sinks else ""),
            workflow=process.workflow,
            place=pending.place,
            requests=requests,
            label=str(label) if sinks else "",
            sinks=[(one.action, flow.told(one, visible)) for one in sinks],
            arguments=_shown(process, pending.args, visible),
            binding=binding,
            schema={"enum": list(VERDICTS[kind])},
        )

        def judge(answer: dict[str, Any]) -> str | Callable[[], None]:
            verdict, who = answer["value"], str(answer.get("who") or "somebody")
            if verdict not in VERDICTS[kind]:
                return f"{verdict!r} is none of {', '.join(VERDICTS[kind])}"
            if answer.get("binding") != binding:
                return "it was about other arguments or other code"
            return partial(self._decided, protected, asking, sinks, binding, verdict, who)

        process.rests(pending, True)
        waiting = Waiting(self.runtime, process, pending, asked, Terms.of(approvals), kind, approvals.queue, judge)
        waiting.protected = protected
        waiting.expired = partial(self._silence, protected, asking, sinks, approvals)
        waiting.begin()

    # --- what follows ------------------------------------------------------------------------------------

    def _decided(
        self, protected: Protected, asking: Sequence[Request], sinks: Sequence[Request], binding: bytes, verdict: str,
        who: str,
    ) -> None:  # fmt: skip
        process, pending = protected.process, protected.pending
        record = Approved(self.runtime.clock(), pending.number, binding, verdict, who)
        self.runtime.append(process, record)
        process.history.approved[pending.number] = record
        if verdict == "once":
            flow.said_yes(protected, sinks, who)
        elif not sinks:
            effect: Verdict = "allow" if verdict == "always" else "deny"
            for one in asking:
                self._grant(process, capability_for(one, effect, f"human:{who}"))
        process.rests(pending, False)
        if verdict == "never":
            self._refuse(protected, (*asking, *sinks)[0], f"{who} said no", "ask for something else")
        else:
            protected.approved()
        if verdict != "once":
            self._reconsider(process)

    def _silence(
        self, protected: Protected, asking: Sequence[Request], sinks: Sequence[Request], approvals: Approvals
    ) -> None:
        """Nobody has answered in time. That counts for this effect, and for no other."""
        if approvals.otherwise == "once":
            self._decided(protected, asking, sinks, protected.binding(), "once", "nobody, in time")
            return
        protected.process.rests(protected.pending, False)
        self._refuse(
            protected, (*asking, *sinks)[0], f"nobody answered within {approvals.timeout:g} s", "ask again later"
        )

    def _refuse(self, protected: Protected, asked: Request, why: str, instead: str) -> None:
        """The effect is not done, and that is written down."""
        process, pending = protected.process, protected.pending
        note(process, pending.number, asked, protected.holder.decide(asked)._replace(verdict="deny"))
        process.arrive(pending, False, Denied(*asked, why, f"do something else, or {instead}"))

    def _grant(self, process: Process, capability: Capability) -> None:
        data = msgspec.msgpack.encode(capability)
        if self.runtime.journal.redactor.redact(data) is None:  # a secret is not written down: it is asked again
            self.runtime.append(process, Granted(self.runtime.clock(), data))
            process.rights.grant(capability)

    def _reconsider(self, process: Process) -> None:
        """Others of its effects may have waited for the same word."""
        for pending in list(process.pending.values()):
            waiting = pending.host
            if isinstance(waiting, Waiting) and waiting.protected is not None and not waiting.protected.asks():
                waiting.close()
                process.rests(pending, False)
                waiting.protected.approved()

    def ended(self, process: Process) -> None:
        """Nobody is to answer what it still asks."""
        for pending in process.pending.values():
            if isinstance(pending.host, Waiting):
                pending.host.close()
        if not process.live:  # killed before it came to where it had asked
            self.runtime.task(self._forget(process.id))

    async def _forget(self, process: str) -> None:
        for one in await self.runtime.store.questions(process=process):
            self.runtime.journal.batch.answered.append(one.id)
            self.changed(one.id, None)
        self.runtime.kick()

    def settled(self, process: Process, pending: Pending) -> None:
        """What was asked about an effect is decided anew: perhaps nobody need be asked."""
        id = f"{process.id}:{pending.number}"
        self.runtime.journal.batch.answered.append(id)
        self.changed(id, None)

    def changed(self, id: str, question: OpenQuestion | None) -> None:
        """Something is asked, or asked otherwise, or needs no answer any more (None)."""
        if question is None:
            self.open.pop(id, None)
        else:
            self.open[id] = question
        if self.observers:
            self.runtime.journal.when_durable(self._tell)

    def _tell(self) -> None:
        for observer in self.observers:
            observer()

    # --- answering ---------------------------------------------------------------------------------------

    async def questions(self, queue: str | None) -> list[OpenQuestion]:
        await self.runtime.journal.barrier()
        return await questions(self.runtime.store, queue)

    async def answer(self, id: str, value: Any, who: str) -> OpenQuestion:
        """Answer an open question; returns it. Durable on return. Raises UnknownQuestion, RunMoved, and BadInput for a
        value that does not fit."""
        await self.runtime.journal.barrier()
        question = await find(self.runtime.store, id)
        await self.runtime.post.address(question.run)  # or it goes on in another store
        letter = {"value": question.check(value), "who": who}
        if question.kind in VERDICTS:
            letter["binding"] = question.binding
        self.runtime.post.put(question.run, box(int(question.id.rpartition(":")[2])), letter)
        await self.runtime.journal.barrier()
        return question


class Waiting:
    """A question that a process in memory waits with; `cancel` when it leaves memory or gives up."""

    def __init__(
        self, runtime: Runtime, process: Process, pending: Pending, asked: Asked, terms: Terms, kind: str, queue: str,
        judge: Judge,
    ) -> None:  # fmt: skip
        self.runtime = runtime
        self.process = process
        self.pending = pending
        self.asked = asked
        self.terms = terms
        self.kind = kind
        self.queue = queue
        self.judge = judge
        self.protected: Protected | None = None
        """What is to be approved."""
        self.expired: Callable[[], None] = self._unanswered
        self.id = f"{process.id}:{pending.number}"
        self.timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        started = self.process.history.intents.get(self.pending.number)
        if started is None and not self.pending.noted:
            self.process.note(self.pending, intent=False)
        self.since = started.at if started is not None else self.runtime.clock()
        self.pending.host = self
        self._put()
        self._set_timer()
        self.process.mail.listen(box(self.pending.number), self._letter)

    def _put(self) -> None:
        now = self.runtime.clock() - self.since
        terms, batch = self.terms, self.runtime.journal.batch
        escalated = terms.escalate_after is not None and now >= terms.escalate_after
        if escalated and not flow.may_see(self.process, self.pending.label, terms.escalate_to):
            escalated = False  # it stays with those who may see it
        queue = terms.escalate_to if escalated else self.queue
        body = encode(msgspec.to_builtins(self.asked, builtin_types=(bytes,)))
        question = Question(
            id=self.id, process=self.process.id, queue=queue, kind=self.kind, asked=self.since,
            expires=None if terms.timeout is None else self.since + terms.timeout,
            body=self.runtime.journal.clean(body),
        )  # fmt: skip
        batch.questions[self.id] = question
        batch.answered = [id for id in batch.answered if id != self.id]
        self.runtime.people.changed(self.id, opened(question))
        self.runtime.kick()

    def _set_timer(self) -> None:
        waited = self.runtime.clock() - self.since
        times = [t for t in (self.terms.escalate_after, self.terms.timeout) if t is not None and t > waited]
        over = self.terms.timeout is not None and self.terms.timeout <= waited
        self.pending.deadline = self.since + min(times) if times and not over else None
        if over:
            self.timer = self.runtime.host.call_later(0, self._expire)
        elif times:
            self.timer = self.runtime.host.call_later(min(times) - waited, self._time)

    def _time(self) -> None:
        self._put()
        self._set_timer()

    def _expire(self) -> None:
        self.close()
        self.expired()

    def _unanswered(self) -> None:
        if self.terms.default is not msgspec.UNSET:
            self.process.arrive(self.pending, True, self.terms.default)
        else:
            self.process.arrive(
                self.pending,
                False,
                QuestionExpired(f"nobody answered within {self.terms.timeout:g} s: {self.asked.text}"),
            )

    def _letter(self, letter: Message) -> None:
        """An answer has come; perhaps it is none, and the question stays."""
        answer = decode(letter.payload)
        self.runtime.journal.batch.taken.append(letter.id)
        found = self.judge(answer) if isinstance(answer, dict) and "value" in answer else "it says nothing"
        if isinstance(found, str):
            self.asked.rejected = found
            self.runtime.log.warning("an answer to question %s was none: %s", self.id, found)
            self._put()
        else:
            self.close()
            found()

    def close(self) -> None:
        """Nobody is to answer it any more."""
        self._hush()
        batch = self.runtime.journal.batch
        batch.answered.append(self.id)
        batch.questions.pop(self.id, None)
        self.runtime.people.changed(self.id, None)
        self.runtime.kick()

    def cancel(self) -> None:
        if self.process.stopping or self.pending.number in self.process.pending:
            self._hush()
        else:
            self.close()  # the body gave it up

    def _hush(self) -> None:
        self.process.mail.deafen(box(self.pending.number))
        self.pending.host = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def box(number: int) -> str:
    """Where the answer to effect `number` of a process goes."""
    return f"{ANSWERS}{number}"


def terms_of(timeout: Any, default: Any, escalate: Any) -> Terms:
    """Those of `weft.ask(...)`. Raises BadInput for what is no time."""
    after: Any = None
    queue: Any = ""
    if escalate is not None:
        try:
            after, queue = escalate
        except (TypeError, ValueError):
            raise BadInput(f"weft.ask(escalate={escalate!r}): give (seconds, queue), as in (3600, 'lead')") from None
        if not isinstance(queue, str) or not queue:
            raise BadInput(f"weft.ask(escalate={escalate!r}): the queue is a non-empty text")
    for name, seconds in (("timeout", timeout), ("escalate", after)):
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 <= seconds < float("inf")):
            raise BadInput(f"weft.ask({name}={seconds!r}): give a number of seconds >= 0")
    return Terms(timeout=timeout, default=default, escalate_after=after, escalate_to=queue)


def _shown(process: Process, args: bytes, visible: bool) -> str:
    """The arguments of an effect; only their kinds, where those who are asked are not cleared for more."""
    args = process.runtime.journal.clean(args)
    return shown(args, 2000) if visible else flow.shape(args)
