"""What is asked of people, as those see it who answer: the open questions, wherever their processes are executed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from weft.core.codec import decode, to_plain
from weft.core.errors import BadInput, UnknownQuestion
from weft.core.fit import misfit, read_text, wanted
from weft.store.base import Question, Store

VERDICTS = {"approval": ("once", "always", "never"), "release": ("once", "never")}
"""What each kind may be answered with that is no question of a program."""
YES_OR_NO = {"yes": "once", "y": "once", "no": "never", "n": "never"}
MOST = 1_000_000


class Asked(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What stands in a question, for those who answer it. `schema`: JSON schema of the answer."""

    text: str
    workflow: str = ""
    place: str = ""
    schema: dict[str, Any] | None = None
    requests: list[tuple[str, str]] = []
    """Of an approval or a release: action and resource."""
    label: str = ""
    """Of a release: what would go there carries this; `sinks` are the places that are not cleared for it."""
    sinks: list[tuple[str, str]] = []
    arguments: str = ""
    binding: bytes = b""
    rejected: str = ""
    """Why the last answer was none."""


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question, or the approval of an effect, that waits for its answer. `kind`: question, approval, or release (an
    approval to take what carries `label` to `sinks`, which are not cleared for it); `asked`, `expires`: seconds since
    the epoch; `requests`: of an approval, (action, resource) of what is to be allowed; `arguments`: those of the
    effect; `schema`: JSON schema of the answer; `rejected`: why the last answer was none."""

    id: str
    run: str
    workflow: str
    queue: str
    kind: str
    text: str
    asked: float
    expires: float | None = None
    place: str = ""
    schema: dict[str, Any] | None = None
    requests: tuple[tuple[str, str], ...] = ()
    arguments: str = ""
    label: str = ""
    sinks: tuple[tuple[str, str], ...] = ()
    rejected: str = ""
    binding: bytes = b""

    @property
    def takes(self) -> str:
        """What answers it, in a few words."""
        if self.kind not in VERDICTS:
            return wanted(self.schema or {})
        *most, last = VERDICTS[self.kind]
        return f"{', '.join(most)} or {last}"

    def check(self, answer: Any) -> Any:
        """The answer, if it is one. Raises BadInput that says why not."""
        if self.kind in VERDICTS:
            if answer not in VERDICTS[self.kind]:
                raise BadInput(f"{answer!r} answers no {self.kind}: say {', '.join(VERDICTS[self.kind])}")
        elif reason := misfit(to_plain(answer, whole=True), self.schema or {}):
            raise BadInput(f"{reason}; it takes {self.takes}")
        return answer

    def read(self, text: str) -> Any:
        """What a person typed, as an answer. Raises BadInput that says why it is none."""
        if self.kind in VERDICTS:
            word = text.strip().lower()
            return self.check(YES_OR_NO.get(word, word))
        return read_text(text, self.schema or {})


def opened(question: Question) -> OpenQuestion:
    """A question as the store has it."""
    asked = msgspec.convert(decode(question.body), Asked)
    return OpenQuestion(
        id=question.id,
        run=question.process,
        workflow=asked.workflow,
        queue=question.queue,
        kind=question.kind,
        text=asked.text,
        asked=question.asked,
        expires=question.expires,
        place=asked.place,
        schema=asked.schema,
        requests=tuple(asked.requests),
        arguments=asked.arguments,
        label=asked.label,
        sinks=tuple(asked.sinks),
        rejected=asked.rejected,
        binding=asked.binding,
    )


async def questions(store: Store, queue: str | None = None, process: str | None = None) -> list[OpenQuestion]:
    """Those that are open, the oldest first."""
    return [opened(one) for one in await store.questions(queue, process, MOST)]


async def find(store: Store, part: str) -> OpenQuestion:
    """The question whose id is `part`, or alone ends with it, or alone contains it. Raises UnknownQuestion."""
    if (question := await store.question(part)) is not None:
        return opened(question)
    ids = [one.id for one in await store.questions(limit=MOST)]
    found = [id for id in ids if id.endswith(part)] or [id for id in ids if part in id]
    if len(found) == 1 and (question := await store.question(found[0])) is not None:
        return opened(question)
    if len(found) > 1:
        raise UnknownQuestion(f"{part!r} fits several questions: {', '.join(found[:5])}; give more of the id")
    raise UnknownQuestion(f"there is no open question {part!r}; `weft inbox` lists those there are")


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """The shortest ends of these ids that tell them apart."""
    length = max((len(id.rpartition(":")[2]) for id in ids), default=0) + 5
    while True:
        ends = {id: id[-length:] for id in ids}
        if len(set(ends.values())) == len(ends) or length > max(map(len, ids)):
            return ends
        length += 1
