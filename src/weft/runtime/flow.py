"""Where what a process has seen may go.

Values in a body are plain Python, so nobody can follow each of them. Instead a process carries a *mark*, the join of
the labels of all that reached its body: its input, outcomes, letters, events, results of children. It only grows
(a high-water mark, as in LOMAC), and whatever the body does carries it, be it an argument or a mere decision. A value
that is to be passed on without being seen stays sealed (`weft.core.sealed`), and the mark stays as it was.

In the middle of a step the same holds of the step: it carries its arguments, and all that it reads meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from weft.core.authority import Decision as Verdict
from weft.core.capability import ACTIONS, Request
from weft.core.clearance import EMPTY, OUTSIDE, line, of_sink, sink
from weft.core.codec import decode, decode_plain
from weft.core.errors import BadInput, ReleaseNeeded
from weft.core.image import Image
from weft.core.label import PUBLIC, Label, join
from weft.core.record import AnyRecord, Cancel, Outcome, Released, Reserved, content_hash
from weft.runtime.mail import RELEASE_BOX

if TYPE_CHECKING:
    from weft.runtime.execute import Execution
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.protect import Protected
    from weft.runtime.runtime import Runtime

DENIED = Verdict("deny", None, False)
_lock = threading.Lock()


def digest(kind: str, name: str, version: str, args: bytes) -> bytes:
    """What a release calls the value that an effect takes out: its arguments, and the code that gets them."""
    return content_hash(repr((kind, name, version)).encode() + args)


def value_of(pending: Pending) -> bytes:
    """The same of an effect that was issued."""
    return digest(pending.kind, pending.name, pending.version, pending.args)


def mark_of(image: Image, records: Iterable[AnyRecord]) -> Label:
    """What a process carries after these records, the first of which are the first since it had this image."""
    labels = (one.label for one in records if isinstance(one, Outcome | Cancel) and one.label is not None)
    return image.mark | join(labels)


# --- before an effect begins ----------------------------------------------------------------------------------------


class Admission(NamedTuple):
    """`asking`: sinks that a person must release it to. `taken`: numbers of the releases that it takes."""

    refused: ReleaseNeeded | None = None
    asking: Sequence[Request] = ()
    taken: tuple[int, ...] = ()


def concerns(process: Process, pending: Pending, action: str) -> bool:
    """Whether labels have a say in an effect that would be free."""
    if process.rules is not None and process.rules.speaks_of(action):
        return True
    if pending.load is None and process.rules is None:
        return False
    return action in OUTSIDE or pending.unseen


def carries(protected: Protected) -> list[Label]:
    """What an effect would take to each place that it asked for: what it was given, and what it brings from the other
    places. What it brings from a place is what is there."""
    pending, rules = protected.pending, protected.process.rules
    if rules is None:
        return [pending.label] * len(protected.requests)
    sources = [rules.source(asked, unseen=_unseen(pending, asked)) for asked in protected.requests]
    pending.brings(join(sources))
    return _others(pending.label, sources)


def _others(label: Label, sources: Sequence[Label]) -> list[Label]:
    if all(source is PUBLIC for source in sources):
        return [label] * len(sources)
    return [label | join([*sources[:at], *sources[at + 1 :]]) for at in range(len(sources))]


def _unseen(pending: Pending, asked: Request) -> bool:
    return pending.unseen and asked.action == "step.run"


def worth_saying(asked: Request, label: Label) -> str:
    """What a decision says about the label that goes there."""
    return str(label) if label is not PUBLIC and asked.action in OUTSIDE else ""


def admit(protected: Protected, labels: Sequence[Label]) -> Admission:
    """Whether an effect may take these to the places that it asked for."""
    if all(label is PUBLIC for label in labels):
        return Admission()
    process, pending = protected.process, protected.pending
    rules = process.rules or EMPTY
    value = value_of(pending)
    asking, taken = [], []
    for asked, label in zip(protected.requests, labels, strict=True):
        clearance = rules.clearance(asked, unseen=_unseen(pending, asked))
        if label.flows_to(clearance):
            continue
        release = _release(process, value, asked, protected.uses)
        if release is not None:
            taken.append(release)
            protected.released[asked] = label
        elif label.flows_to(clearance | rules.askable(asked)):
            asking.append(asked)
        else:
            return Admission(refused=_needed(process, asked, label, clearance, value))
    return Admission(None, asking, tuple(taken))


def passes(process: Process, number: int, value: bytes, label: Label, asked: Request, clearance: Label) -> None:
    """For effects whose outcome is known at once. Raises ReleaseNeeded."""
    if label.flows_to(clearance):
        return
    release = _release(process, value, asked)
    if release is None:
        raise _needed(process, asked, label, clearance, value)
    process.rights.used[release] += 1
    process.runtime.append(process, Reserved(process.runtime.clock(), number, (release,)))


def to_process(process: Process, number: int, value: bytes, label: Label, asked: Request, tenant: str) -> None:
    """What goes to a process on behalf of another tenant stays with its own. Raises ReleaseNeeded."""
    if tenant:
        passes(process, number, value, label, asked, Label("secret", (tenant,)))


def _needed(
    process: Process, asked: Request, label: Label, clearance: Label, value: bytes, *, late: bool = False
) -> ReleaseNeeded:
    """`late`: the step has begun without a word about this."""
    workspace = process.rights.image.workspace
    why = f"what run {process.id} would take there is {label}, and that place is cleared for {clearance}"
    fix = (
        f"clear it in [policy] with: clear = [{line(label, asked, workspace)!r}], or release this value once"
        + (f', which the step must declare (needs="{asked.action}:..."),' if late else "")
        + f" with: await runtime.release({process.id!r}, {sink(asked)!r}, {value.hex()!r})"
    )
    return ReleaseNeeded(*asked, why, fix, str(label), value.hex())


# --- in the middle of a step ----------------------------------------------------------------------------------------


def touch(execution: Execution, asked: Sequence[Request]) -> ReleaseNeeded | None:
    """What a step does in its middle: None, or why it must not. In any thread; writes nothing."""
    process = execution.process
    if process.rules is None and execution.load is None:
        return None
    rules = process.rules or EMPTY
    released = {} if execution.protected is None else execution.protected.released
    with _lock:
        sources = [rules.source(one) for one in asked]
        load = execution.laden()
        for one, label in zip(asked, _others(execution.full, sources), strict=True):
            clearance = rules.clearance(one)
            if not label.flows_to(clearance) and not label.flows_to(clearance | released.get(one, PUBLIC)):
                load.kept[one] = str(label)
                return _needed(process, one, label, clearance, value_of(execution), late=one not in execution.requests)
            if said := worth_saying(one, label):
                load.took[one] = said
        load.brought |= join(sources)
    return None


def learn(execution: Execution, asked: Request) -> None:
    """A step reads something that was allowed in another way."""
    if execution.process.rules is not None:
        with _lock:
            execution.brings(execution.process.rules.source(asked))


# --- releases -------------------------------------------------------------------------------------------------------


def _release(process: Process, value: bytes, asked: Request, reserved: Sequence[int] = ()) -> int | None:
    """A release of this value to this sink that nobody has taken: -1 for the first, and so on. `reserved`: those that
    are set apart for it already."""
    rights = process.rights
    for at, one in enumerate(rights.releases):
        which = -1 - at
        free = not rights.used[which] or which in reserved
        if free and (one.value, one.action, one.resource) == (value, *asked):
            return which
    return None


def take(process: Process, payload: bytes) -> None:
    """A release has come by letter."""
    letter = decode(payload)
    asked = of_sink(letter["sink"])
    _add(process, asked, letter["value"], "", letter["who"])


def _add(process: Process, asked: Request, value: bytes, label: str, who: str) -> None:
    record = Released(process.runtime.clock(), value, *asked, label, who)
    process.runtime.append(process, record)
    process.rights.releases.append(record)


def said_yes(protected: Protected, asking: Iterable[Request], who: str) -> None:
    """A person released it."""
    pending = protected.pending
    for asked in asking:
        _add(protected.process, asked, value_of(pending), str(pending.full), who)


async def release(runtime: Runtime, id: str, to: str, value: str, who: str) -> None:
    """See `Runtime.release`."""
    of_sink(to)
    try:
        digest = bytes.fromhex(value)
    except ValueError:
        raise BadInput(f"{value!r} names no value; the refusal does, in its `value`") from None
    row = await runtime.post.address(id)
    runtime.post.put(row.id, RELEASE_BOX, {"sink": to, "value": digest, "who": who})
    await runtime.journal.barrier()


# --- what people are shown ------------------------------------------------------------------------------------------


def may_see(process: Process, label: Label, queue: str) -> bool:
    """Whether those who answer this queue are cleared for it."""
    return label.flows_to((process.rules or EMPTY).clearance(Request("human.ask", queue)))


def told(asked: Request, visible: bool) -> str:
    """A resource, as far as those may see it who are asked."""
    first, *rest = asked.resource.split(" ")
    return (
        f"{first} <{len(rest)} words>" if ACTIONS[asked.action] == "shell" and rest and not visible else asked.resource
    )


def shape(args: bytes) -> str:
    """What arguments are, without saying what is in them."""
    plain = decode_plain(args)
    named = plain if isinstance(plain, dict) else {"*": plain}
    parts = [_kind(one) for one in named.get("*", ())]
    parts += [f"{name}={_kind(one)}" for name, one in named.get("**", {}).items()]
    return f"({', '.join(parts)})"


def _kind(value: Any) -> str:
    size = f", {len(value)}" if isinstance(value, str | bytes | list | dict) else ""
    return f"<{type(value).__name__}{size}>"
