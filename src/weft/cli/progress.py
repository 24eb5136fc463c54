"""What a run is doing, live, on stderr: a tree of its processes and what each of them makes, redrawn on a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from weft.cli.render import counted, effect_name
from weft.core.record import AnyRecord, Attempt, End, Outcome

if TYPE_CHECKING:
    from rich.tree import Tree

    from weft.runtime.runtime import Runtime

QUIET = frozenset({"timer", "child", "now", "random", "uuid"})
MOST = 12
"""Children of one process, and kinds of effects of one, that are drawn."""


class Seen:
    """What one process has made so far."""

    def __init__(self) -> None:
        self.name = ""
        self.parent: str | None = None
        self.began = monotonic()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.state = "running"

    @property
    def effects(self) -> int:
        return self.done.total() + self.failed.total()


class Progress:
    """A context manager: a tree that is redrawn on a terminal; elsewhere only a line at the beginning and the end. Make
    it before the run begins, and say by `of` which one it is."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.run = self.workflow = ""
        self.began = monotonic()
        self.seen: dict[str, Seen] = {}
        self.live: Any = None
        runtime.observe(self._saw)

    def of(self, run: str, workflow: str) -> None:
        self.run, self.workflow = run, workflow
        self.seen.setdefault(run, Seen()).name = workflow

    def _saw(self, process: str, record: AnyRecord) -> None:
        seen = self.seen.setdefault(process, Seen())
        if isinstance(record, Outcome) and record.kind not in QUIET:
            name = effect_name(record.kind, record.name)
            (seen.done if record.ok else seen.failed)[name] += 1
            if record.kind in ("spawn", "detach") and record.ok and isinstance(record.value, bytes):
                self._begun(process, record.name, record.value)
        elif isinstance(record, Attempt):
            seen.retried[record.name] += 1
        elif isinstance(record, End):
            seen.state = record.state

    def _begun(self, parent: str, workflow: str, value: bytes) -> None:
        from weft.core.codec import decode

        child = self.seen.setdefault(str(decode(value)), Seen())
        child.name, child.parent = workflow, parent

    def __enter__(self) -> Progress:
        print(f"run {self.run}  ({self.workflow}; look at it with: weft show {self.run})", file=sys.stderr, flush=True)
        self.show()
        return self

    def show(self) -> None:
        """Draw the tree, if there is a terminal to draw it on."""
        if self.live is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(
                get_renderable=self.tree, console=Console(stderr=True), refresh_per_second=8, transient=True
            )
            self.live.start()

    def hide(self) -> None:
        """Leave the terminal to somebody else."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.hide()
        seconds = monotonic() - self.began
        effects = sum(each.effects for each in self.seen.values())
        if kind is None:
            print(f"run {self.run} done in {seconds:.1f} s, {counted(effects, 'effect')}", file=sys.stderr)

    # --- the tree ---------------------------------------------------------------------------------------------------

    def tree(self) -> Tree:
        running: dict[str, Counter[str]] = {}
        for each in self.runtime.steps.running.values():
            running.setdefault(each.process.id, Counter())[each.step.name] += 1
        children: dict[str | None, list[str]] = {}
        for id, seen in self.seen.items():
            children.setdefault(seen.parent, []).append(id)
        return self._grown(self.run, running, children)

    def _grown(self, id: str, running: dict[str, Counter[str]], children: dict[str | None, list[str]]) -> Tree:
        from rich.tree import Tree

        seen = self.seen[id]
        made = Tree(self._head(id, seen))
        now = running.get(id, Counter())
        names = sorted({*now, *seen.done, *seen.failed}, key=lambda name: (not now[name], name))
        for name in names[:MOST]:
            made.add(_line(seen, name, now[name]))
        if len(names) > MOST:
            made.add(f"[dim]… {len(names) - MOST} more kinds of effects[/]")
        below = sorted(children.get(id, ()), key=lambda one: self.seen[one].state != "running")
        at_work = [one for one in below if self.seen[one].state == "running"]
        for one in at_work[:MOST]:
            made.children.append(self._grown(one, running, children))
        if len(below) > len(at_work[:MOST]):
            made.add(f"[dim]{len(below) - len(at_work[:MOST]):,} more children, {len(below) - len(at_work):,} ended[/]")
        return made

    def _head(self, id: str, seen: Seen) -> Any:
        from rich.text import Text

        seconds = monotonic() - seen.began
        rate = f", {seen.effects / max(seconds, 0.1):.1f}/s" if seen.effects else ""
        return Text.assemble(
            (seen.name or id, "bold"), f"  {id}  ", (f"{seconds:.0f} s, {seen.effects:,} effects{rate}", "dim")
        )


def _line(seen: Seen, name: str, running: int) -> Any:
    from rich.text import Text

    text = Text(name)
    for count, word, colour in (
        (running, "running", "yellow"), (seen.done[name], "done", "green"), (seen.failed[name], "failed", "red"),
        (seen.retried[name], "retried", "yellow"),
    ):  # fmt: skip
        if count:
            text.append(f"  {count:,} {word}", colour)
    return text
