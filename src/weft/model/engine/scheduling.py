"""Which turns run, on a budget of cells: the decisions of continuous batching, without an engine or a clock of its own.

A *program* (an agent, a conversation) makes one *turn* after another: a prompt that begins with what the turns before
left, and an answer. What a program leaves is *held* in cells until its next turn, or evicted when room is needed.
Before each step of the engine, `plan` says what to do: evict, store, preempt, admit, and how much each turn feeds.
`Batcher` does it on an engine, `simulate` in numbers; a policy (`policies`) orders the queue and pins what is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.policies import Fcfs
from weft.model.engine.turns import Admit, Alike, Counts, Evict, Held, Plan, Preempt, Program, Turn

REMEMBERED = 4096
"""How many programs are known at once, or more if more of them hold something."""


@dataclass
class Scheduler:
    """Decides for a budget of `cells`. Times are seconds of any clock that does not go backwards."""

    cells: int
    policy: Fcfs = field(default_factory=Fcfs)
    slots: int = 64
    """The most sequences, running or held."""
    at_once: int | None = None
    """The most of these that run (all)."""
    alike: Callable[[Turn], Alike | None] | None = None
    """Finds what a turn can share with another program; None: programs share nothing. Shared cells count for each that
    has them: what is counted is at least what is used."""
    chunk: int = 512
    """The most tokens of a step."""
    store: int = 0
    """How many tokens' cells may be saved outside of the engine instead of lost."""
    patience: float = math.inf
    """A turn that has waited for so many seconds goes ahead of all, and pins give way to it."""
    waiting: list[Turn] = field(default_factory=list)
    running: list[Turn] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    _programs: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cells < 2 or self.slots < 1 or self.chunk < 1 or self.store < 0 or not self.patience > 0:
            raise BadInput("a scheduler needs cells >= 2, slots >= 1, chunk >= 1, store >= 0 and patience > 0")

    @property
    def used(self) -> int:
        return sum(turn.fed for turn in self.running) + sum(held.cells for held in self.held.values())

    # --- what happens -------------------------------------------------------------------------------

    def arrive(self, turn: Turn, now: float) -> None:
        """A turn waits from now on. Raises OutOfCells if it can never fit; BadInput if its program's turn goes on."""
        if not 0 <= turn.common <= turn.prompt or turn.prompt < 1 or turn.most < 1:
            raise BadInput("a turn needs a prompt of at least 1 token, 0 <= common <= prompt, and most >= 1")
        if turn.prompt + turn.most > self.cells:
            raise OutOfCells(
                f"a prompt of {turn.prompt} tokens and an answer of {turn.most} do not fit in {self.cells} cells; "
                "shorten it, ask for fewer tokens, or open the engine with more cells"
            )
        if any(other.program == turn.program for other in (*self.waiting, *self.running)):
            raise BadInput(f"program {turn.program!r} has a turn under way; wait for it, or use another program")
        program = self._program(turn.program, now)
        if program.away is not None:
            tool, since = program.away
            self.policy.took(tool, now - since)
            program.away = None
        program.turns += 1
        turn.arrived = turn.queued = now
        turn.entered = program.entered
        self.waiting.append(turn)

    def _program(self, name: str, now: float) -> Program:
        """What is known of a program; the longest unused that hold nothing are forgotten when there are too many."""
        if name not in self._programs and len(self._programs) >= REMEMBERED:
            busy = {turn.program for turn in (*self.waiting, *self.running)} | self.held.keys()
            idle = [each for each, known in self._programs.items() if each not in busy and not known.stored]
            for each in sorted(idle, key=lambda one: self._programs[one].used)[: REMEMBERED // 2]:
                del self._programs[each]
        return self._programs.setdefault(name, Program(now))

    def knows(self, name: str) -> bool:
        """Whether a program has made a turn and is neither over nor forgotten."""
        return name in self._programs

    def fed(self, plan: Plan, now: float) -> list[Turn]:
        """The step of a plan is done. Returns the turns that drew a token in it."""
        drew = []
        for turn, count in plan.feeds:
            turn.fed += count
            if turn.pending == 0:
                turn.drawn += 1
                if turn.drawn == 1:
                    turn.first = now
                drew.append(turn)
        return drew

    def done(self, turn: Turn, now: float, tool: str | None) -> bool:
        """A running turn is over, and its program now waits for `tool` ("" if not known); None: the program is over.
        Returns whether what it leaves is held."""
        self.running.remove(turn)
        program = self._programs[turn.program]
        program.left, program.used = turn.fed, now
        if tool is None:
            self.policy.over(program.turns)
            del self._programs[turn.program]
            return False
        program.away = (tool, now)
        keep = self.policy.keep(turn.program, tool, turn.fed)
        self.held[turn.program] = Held(turn.fed, tool, now, now + keep if keep > 0 else -math.inf)
        return True

    def leave(self, turn: Turn, now: float) -> None:
        """A running turn is over, and so is its program; what it leaves stays for others until room is needed."""
        self.running.remove(turn)
        program = self._programs[turn.program]
        program.left, program.used = turn.fed, now
        self.held[turn.program] = Held(turn.fed, "", now, -math.inf)
        self.release(turn.program)

    def release(self, name: str) -> None:
        """A program that makes no turn is over. What it holds stays, unpinned, for others alike."""
        program = self._programs.get(name)
        if program is None:
            return
        if program.turns:
            self.policy.over(program.turns)
        program.turns, program.stored, program.away = 0, 0, None
        if name in self.held:
            self.held[name].until = -math.inf
        else:
            del self._programs[name]

    def calls(self, name: str, tool: str, now: float) -> float:
        """The program, whose turn is over, now waits for `tool`. Returns the seconds for which what it left is pinned
        from now on, 0 if it is not or no longer there."""
        program = self._programs.get(name)
        if program is None or program.away is None:
            raise BadInput(f"program {name!r} has no turn that ended; ask it something first")
        program.away = (tool, program.away[1])
        held = self.held.get(name)
        if held is None:
            return 0.0
        keep = self.policy.keep(name, tool, held.cells)
        held.tool, held.until = tool, now + keep if keep > 0 else -math.inf
        return max(0.0, keep)

    def cancel(self, turn: Turn, now: float) -> None:
        """A turn is given up; what its program holds stays, unpinned."""
        if turn in self.running:
            self.running.remove(turn)
            self._programs[turn.program].left = turn.fed
            self.held[turn.program] = Held(turn.fed, "", now, -math.inf)
        else:
            self.waiting.remove(turn)
            held = self.held.get(turn.program)
            if held is not None:
                held.until = -math.inf

    def forget(self, name: str) -> None:
        """A program that makes no turn is over: what it holds is given back by the caller. No turn of it may wait."""
        self.held.pop(name, None)
        program = self._programs.pop(name, None)
        if program is not None and program.turns:
            self.policy.over(program.turns)

    # --- what to do -----------------------------------------------------------------------------------

    def plan(self, now: float) -> Plan:
        """What to do before the next step at `now`. No feeds: nothing can run before something arrives."""
        acts: list[Evict | Preempt | Admit] = []
        self._expire(now)
        self._admit(now, acts)
        if not self.running and self.waiting:
            self._unblock(now, acts)
        while True:
            feeds = self._feeds()
            if self._room(sum(count for _, count in feeds), 0, None, acts):
                return Plan(acts, feeds)
            self._give_way(now, acts)

    def stored(self, name: str) -> int:
        """How many cells of a program are saved outside of the engine."""
        program = self._programs.get(name)
        return program.stored if program is not None else 0

    def pinned(self, name: str) -> bool:
        held = self.held.get(name)
        return held is not None and held.until > -math.inf

    def _expire(self, now: float) -> None:
        back = {turn.program for turn in self.waiting}
        for name, held in self.held.items():
            if held.until <= now and name not in back:
                held.until = -math.inf

    def _queue(self, now: float) -> list[Turn]:
        def place(turn: Turn) -> tuple[float, ...]:
            if self._starves(turn, now):
                return (0, turn.arrived)
            return (1, -turn.priority, *self.policy.order(turn, self.pinned(turn.program)))

        return sorted(self.waiting, key=place)

    def _starves(self, turn: Turn, now: float) -> bool:
        return turn.drawn == 0 and now - turn.arrived >= self.patience

    def _admit(self, now: float, acts: list[Evict | Preempt | Admit]) -> None:
        for turn in self._queue(now):
            alike = self.alike(turn) if self.alike is not None and not turn.admitted else None
            if alike is not None and alike.soon:
                continue
            while not self._fits(turn, acts):
                if not (self._starves(turn, now) and self._unpin(turn.program)):
                    return
            self.counts.starved += self._starves(turn, now)
            self._begin(turn, now, acts, alike if alike is not None and self._here(alike.program) else None)

    def _here(self, name: str) -> bool:
        """Whether a program has cells."""
        return name in self.held or any(turn.program == name for turn in self.running)

    def _fits(self, turn: Turn, acts: list[Evict | Preempt | Admit]) -> bool:
        """Whether there is room for all that it knows beside what the running ones know; idle cells give way to it."""
        if len(self.running) + 1 > min(self.slots, self.at_once or self.slots):
            return False
        held = self.held.get(turn.program)
        growth = turn.prompt + turn.drawn + 1 - (held.cells if held is not None else 0)
        return self._room(sum(other.target - other.fed for other in self.running) + growth, 1, turn.program, acts)

    def _begin(self, turn: Turn, now: float, acts: list[Evict | Preempt | Admit], alike: Alike | None = None) -> None:
        program = self._programs[turn.program]
        held = self.held.pop(turn.program, None)
        known = program.left if turn.admitted else min(turn.common, program.left)
        found = held.cells if held is not None else program.stored
        reuse = min(known, found, turn.prompt + turn.drawn - 1)
        if alike is not None and reuse < alike.cells < turn.prompt:
            reuse = alike.cells
            self._programs[alike.program].used = now
            acts.append(Admit(turn, reuse, False, alike.program))
        else:
            if held is None and program.stored:
                self.counts.loaded += reuse
            acts.append(Admit(turn, reuse, held is None and program.stored > 0))
        program.stored = 0
        turn.fed = reuse
        self.counts.reencoded += max(0, min(known, turn.prompt + turn.drawn - 1) - reuse)
        if turn.admitted or (known > reuse and program.turns > 1):
            self.policy.delayed(now - turn.queued)
        if not turn.admitted:
            turn.admitted, turn.reused = True, reuse
            self.counts.turns += 1
            self.counts.prompted += turn.prompt
        self.counts.reused += reuse
        self.waiting.remove(turn)
        self.running.append(turn)

    def _feeds(self) -> list[tuple[Turn, int]]:
        """One token of each turn that draws, then as much of the prompts as a step takes, first come first."""
        drawing = [(turn, 1) for turn in self.running if turn.pending == 1][: self.chunk]
        room = self.chunk - len(drawing)
        reading = []
        for turn in self.running:
            if turn.pending > 1 and room > 0:
                reading.append((turn, min(turn.pending, room)))
                room -= reading[-1][1]
        return drawing + reading

    def _room(self, need: int, seats: int, keep: str | None, acts: list[Evict | Preempt | Admit]) -> bool:
        """Whether `need` cells and `seats` sequences are free, idle cells evicted for it, the longest unused first."""
        if keep in self.held:
            seats = 0
        missing = need + self.used - self.cells
        over = len(self.running) + len(self.held) + seats - self.slots
        if missing <= 0 and over <= 0:
            return True
        loose = [name for name, held in self.held.items() if held.until == -math.inf and name != keep]
        if sum(self.held[name].cells for name in loose) < missing or len(loose) < over:
            return False
        for name in sorted(loose, key=lambda name: self._programs[name].used):
            if missing <= 0 and over <= 0:
                break
            missing -= self.held[name].cells
            over -= 1
            self._evict(name, acts)
        return True

    def _evict(self, name: str, acts: list[Evict | Preempt | Admit]) -> None:
        cells = self.held.pop(name).cells
        self.counts.evicted += cells
        if not self._programs[name].turns:  # it was only here for others
            del self._programs[name]
            acts.append(Evict(name, False))
            return
        acts.append(Evict(name, self._store(name, cells)))

    def _store(self, name: str, cells: int) -> bool:
        """Whether the cells of a program are saved, the longest unused of the store lost for it."""
        if cells > self.store or cells < 1:
            return False
        full = sum(program.stored for program in self._programs.values())
        oldest = sorted((p for p in self._programs.values() if p.stored), key=lambda program: program.used)
        for program in oldest:
            if full + cells <= self.store:
                break
            full -= program.stored
            program.stored = 0
        self._programs[name].stored = cells
        self.counts.stored += cells
        return True

    def _unpin(self, keep: str | None = None) -> bool:
        """The pin that would end last gives way."""
        pins = [name for name, held in self.held.items() if held.until > -math.inf and name != keep]
        if not pins:
            return False
        self.held[max(pins, key=lambda name: self.held[name].until)].until = -math.inf
        self.counts.unpinned += 1
        return True

    def _unblock(self, now: float, acts: list[Evict | Preempt | Admit]) -> None:
        """Nothing runs, and the first of the queue does not fit beside what is pinned: pins give way until it does."""
        first = self._queue(now)[0]
        while not self._fits(first, acts) and self._unpin(first.program):
            pass
        self._admit(now, acts)

    def _give_way(self, now: float, acts: list[Evict | Preempt | Admit]) -> None:
        """The running turns do not fit: one is preempted; a pin gives way if there is only one."""
        if len(self.running) == 1 and self._unpin():
            return
        patient = [turn for turn in self.running if not self._starves(turn, now)]
        turn = self.policy.preempted(patient or self.running)
        if len(self.running) == 1:
            raise OutOfCells(f"a turn of {turn.target} tokens does not fit in {self.cells} cells")
        self.running.remove(turn)
        self.waiting.append(turn)
        program = self._programs[turn.program]
        program.left, program.used = turn.fed, now
        self.counts.preempted += 1
        self.counts.evicted += turn.fed
        acts.append(Preempt(turn, self._store(turn.program, turn.fed)))
        turn.fed, turn.queued = 0, now
