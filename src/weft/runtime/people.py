"""People: questions that a process asks, and approvals of what it is about to do. Both may wait for days.

A question is a row of the store until it is answered; the answer is a letter to the process. An approval is bound to
the exact arguments and the code that were shown: an answer to something else is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.capability import Capability, Request, Verdict
from weft.core.codec import decode, encode
from weft.core.errors import BadInput, Denied, QuestionExpired, UnknownQuestion
from weft.core.record import Approved, Granted
from weft.core.resource import capability_for
from weft.runtime.divergence import shown
from weft.store.base import Message, Question

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.protect import Protected
    from weft.runtime.runtime import Runtime

VERDICTS = ("once", "always", "never")
DEFAULT = "default"
"""The queue of questions that name none."""


class Asked(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What stands in a question, for those who answer it. `schema`: JSON schema of the answer."""

    text: str
    workflow: str = ""
    place: str = ""
    schema: dict[str, Any] | None = None
    requests: list[tuple[str, str]] = []
    """Of an approval: action and resource."""
    arguments: str = ""
    binding: bytes = b""
    rejected: str = ""
    """Why the last answer was none."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How long a question waits. `timeout`, `escalate_after`: seconds since it was asked."""

    timeout: float | None = None
    default: Any = msgspec.UNSET
    escalate_after: float | None = None
    escalate_to: str = ""


class People:
    """Those who answer the processes of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def ask(self, process: Process, pending: Pending, asked: Asked, terms: Terms, fits: Callable[[Any], Any]) -> None:
        """A body's question; its outcome is the answer."""

        def answered(answer: Any) -> str | None:
            try:
                value = fits(answer["value"])
            except Exception as error:
                return str(error)
            process.arrive(pending, True, value)
            return None

        asked.workflow, asked.place = process.workflow, pending.place
        Waiting(self.runtime, process, pending, asked, terms, "question", answered).begin()

    def approve(self, protected: Protected, asking: Sequence[Request]) -> None:
        """Ask whether an effect may be done; then it goes on, or is refused."""
        process, pending = protected.process, protected.pending
        binding = protected.binding()
        what = "; ".join(f"{one.action} {one.resource}" for one in asking)
        asked = Asked(
            text=f"{pending.name} wants to: {what}",
            workflow=process.workflow,
            place=pending.place,
            requests=[(one.action, one.resource) for one in asking],
            arguments=_shown(process, pending.args),
            binding=binding,
            schema={"enum": list(VERDICTS)},
        )

        def answered(answer: Any) -> str | None:
            verdict, who = answer["value"], str(answer.get("who") or "somebody")
            if verdict not in VERDICTS:
                return f"{verdict!r} is none of {', '.join(VERDICTS)}"
            if answer.get("binding", binding) != binding:
                return "it was about other arguments or other code"
            now = self.runtime.clock()
            self.runtime.append(process, Approved(now, pending.number, binding, verdict, who))
            process.history.approved[pending.number] = Approved(now, pending.number, binding, verdict, who)
            if verdict != "once":
                effect: Verdict = "allow" if verdict == "always" else "deny"
                for one in asking:
                    self._grant(process, capability_for(one, effect, f"human:{who}"))
            process.rests(pending, False)
            if verdict == "never":
                refused = Denied(*asking[0], f"{who} said no", "do something else, or ask for something else")
                process.arrive(pending, False, refused)
            else:
                protected.approved()
            return None

        process.rests(pending, True)
        Waiting(self.runtime, process, pending, asked, Terms(), "approval", answered).begin()

    def _grant(self, process: Process, capability: Capability) -> None:
        self.runtime.append(process, Granted(self.runtime.clock(), msgspec.msgpack.encode(capability)))
        process.rights.grant(capability)

    async def answer(self, id: str, value: Any, who: str) -> None:
        """Answer an open question. Durable on return. Raises UnknownQuestion."""
        await self.runtime.journal.barrier()
        question = await self.runtime.store.question(id)
        if question is None:
            raise UnknownQuestion(f"there is no open question {id!r}; `weft inbox` lists those there are")
        asked = read(question)
        if question.kind == "approval" and value not in VERDICTS:
            raise BadInput(f"{value!r} answers no approval: say {', '.join(VERDICTS)}")
        letter = {"value": value, "who": who}
        if question.kind == "approval":
            letter["binding"] = asked.binding
        process, _, number = id.rpartition(":")
        self.runtime.post.put(process, box(int(number)), letter)
        await self.runtime.journal.barrier()


class Waiting:
    """A question that a process in memory waits with; `cancel` when it leaves memory or gives up."""

    def __init__(
        self, runtime: Runtime, process: Process, pending: Pending, asked: Asked, terms: Terms, kind: str,
        answered: Callable[[Any], str | None],
    ) -> None:  # fmt: skip
        self.runtime = runtime
        self.process = process
        self.pending = pending
        self.asked = asked
        self.terms = terms
        self.kind = kind
        self.answered = answered
        """Takes an answer; or says why it is none, and the question stays."""
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
        terms = self.terms
        escalated = terms.escalate_after is not None and now >= terms.escalate_after
        queue = terms.escalate_to if escalated else self.pending.name if self.kind == "question" else DEFAULT
        body = encode(msgspec.to_builtins(self.asked, builtin_types=(bytes,)))
        self.runtime.journal.batch.questions[self.id] = Question(
            id=self.id, process=self.process.id, queue=queue, kind=self.kind, asked=self.since,
            expires=None if terms.timeout is None else self.since + terms.timeout,
            body=self.runtime.journal.clean(body),
        )  # fmt: skip
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
        self._close()
        if self.terms.default is not msgspec.UNSET:
            self.process.arrive(self.pending, True, self.terms.default)
        else:
            self.process.arrive(
                self.pending,
                False,
                QuestionExpired(f"nobody answered within {self.terms.timeout:g} s: {self.asked.text}"),
            )

    def _letter(self, letter: Message) -> bool:
        """An answer has come; whether it was one."""
        answer = decode(letter.payload)
        self.runtime.journal.batch.taken.append(letter.id)
        why = self.answered(answer) if isinstance(answer, dict) and "value" in answer else "it says nothing"
        if why is None:
            self._close()
            return True
        self.asked.rejected = why
        self.runtime.log.warning("an answer to question %s was none: %s", self.id, why)
        self._put()
        return False

    def _close(self) -> None:
        self.cancel()
        self.runtime.journal.batch.answered.append(self.id)
        self.runtime.journal.batch.questions.pop(self.id, None)
        self.runtime.kick()

    def cancel(self) -> None:
        self.process.mail.deafen(box(self.pending.number))
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.process.stopping and self.pending.number not in self.process.pending:
            self.runtime.journal.batch.answered.append(self.id)  # the body gave it up


def box(number: int) -> str:
    """Where the answer to effect `number` of a process goes."""
    return f"weft.answer:{number}"


def read(question: Question) -> Asked:
    """What stands in a question."""
    return msgspec.convert(decode(question.body), Asked)


def _shown(process: Process, args: bytes) -> str:
    return shown(process.runtime.journal.clean(args), 2000)
