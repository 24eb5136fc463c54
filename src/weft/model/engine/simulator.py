"""Serving in virtual time: programs with tools on a machine of four numbers, decided by the engine's own scheduler.

outcome = simulate(agents(0.15, 150, seed=1), Scheduler(120_000, Continuum(machine.reload)), machine)

It steps as the engine does, one token for each turn that draws and a chunk of prompts, so a policy can be tried in a
second on hours of traffic; steps between which nothing can be decided are taken together.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from weft.core.errors import BadInput
from weft.model.engine.policies import Reload
from weft.model.engine.scheduling import Scheduler
from weft.model.engine.turns import Admit, Counts, Turn


class Round(NamedTuple):
    """A turn, and the tool that runs after it."""

    reads: int
    """Tokens that are new in its prompt."""
    draws: int
    tool: str = ""
    seconds: float = 0.0
    """How long the tool takes."""


class Job(NamedTuple):
    """A program: when it comes, and its turns."""

    arrives: float
    rounds: list[Round]


class Machine(NamedTuple):
    """What a step costs in seconds: so much at least, for each prompt token, and for each cell that is attended to."""

    step: float = 0.006
    token: float = 1 / 18_000
    cell: float = 4e-8
    load: float = 1 / 400_000
    """To load one stored cell."""

    @property
    def reload(self) -> Reload:
        """What it takes to compute n tokens again."""
        return Reload(b=self.token)


@dataclass
class Outcome:
    """How it went; times in seconds."""

    took: list[float] = field(default_factory=list)
    """Of each program, from its arrival to its end."""
    waited: list[float] = field(default_factory=list)
    """Of each turn, from its arrival to its first token."""
    drawn: int = 0
    until: float = 0.0
    counts: Counts = field(default_factory=Counts)

    @property
    def mean(self) -> float:
        """The mean time of a program."""
        return fmean(self.took) if self.took else math.nan


TOOLS = {"look": 0.15, "search": 0.8, "edit": 1.2, "run": 3.0, "test": 9.0}
"""The tools of `agents`, and their mean durations."""


def agents(
    rate: float, count: int, seed: int, turns: float = 18.0, spread: float = 0.35, scatter: float = 0.5
) -> list[Job]:
    """Made-up coding agents: `rate` arrive in a second, with about `turns` turns, calling `TOOLS`. All is log-normal:
    turns with a `spread` (of the logarithm), durations of a tool with a `scatter`. No trace with durations of tools is
    published, so these are declared; the larger spread and scatter, the less the past tells of the future."""
    dice, now, jobs = random.Random(seed), 0.0, []
    for _ in range(count):
        now += dice.expovariate(rate)
        rounds = []
        for number in range(max(2, round(dice.lognormvariate(math.log(turns) - spread**2 / 2, spread)))):
            reads = 2000 if number == 0 else round(dice.lognormvariate(math.log(500), 0.8))
            name = dice.choice([*TOOLS])
            rounds.append(
                Round(
                    min(4000, max(16, reads)),
                    min(1000, max(8, round(dice.lognormvariate(math.log(140), 0.6)))),
                    name,
                    dice.lognormvariate(math.log(TOOLS[name]) - scatter**2 / 2, scatter),
                )
            )
        jobs.append(Job(now, rounds))
    return jobs


class _Run:
    """One simulation under way."""

    def __init__(self, jobs: list[Job], scheduler: Scheduler, machine: Machine) -> None:
        self.jobs, self.scheduler, self.machine = jobs, scheduler, machine
        self.now = 0.0
        self.coming = [(job.arrives, number, 0) for number, job in enumerate(jobs)]
        heapq.heapify(self.coming)
        self.rounds: dict[str, int] = {}
        self.left: dict[str, int] = {}
        self.outcome = Outcome(counts=scheduler.counts)

    def arrive(self) -> None:
        while self.coming and self.coming[0][0] <= self.now:
            when, number, at = heapq.heappop(self.coming)
            rounds, program = self.jobs[number].rounds, str(number)
            known = self.left.get(program, 0)
            self.rounds[program] = at
            turn = Turn(
                program, known + rounds[at].reads, common=known, most=rounds[at].draws, last=at + 1 == len(rounds)
            )
            self.scheduler.arrive(turn, when)

    def step(self) -> bool:
        """One step, and those that follow from it. Returns whether anything could run."""
        plan = self.scheduler.plan(self.now)
        loads = sum(act.reuse for act in plan.acts if isinstance(act, Admit) and act.stored)
        read = sum(count for turn, count in plan.feeds if turn.pending > 1)
        if not plan.feeds:
            return False
        self.now += loads * self.machine.load + self._cost(read, sum(count for _, count in plan.feeds))
        self._tell(self.scheduler.fed(plan, self.now))
        if read == 0 and not plan.acts:
            self._repeat()
        return True

    def _cost(self, read: int, fed: int) -> float:
        attended = sum(turn.fed for turn in self.scheduler.running) + fed
        return self.machine.step + read * self.machine.token + attended * self.machine.cell

    def _repeat(self) -> None:
        """Steps in which every running turn draws, nothing arrives, nothing ends and nothing runs out."""
        running = self.scheduler.running
        if not running or any(turn.pending != 1 for turn in running):
            return
        times = min(turn.most - turn.drawn for turn in running) - 1
        times = min(times, (self.scheduler.cells - self.scheduler.used) // len(running))
        until = self.next()
        for _ in range(times):
            cost = self._cost(0, len(running))
            if self.now + cost >= until:
                return
            self.now += cost
            for turn in running:
                turn.fed += 1
                turn.drawn += 1

    def _tell(self, drew: list[Turn]) -> None:
        for turn in drew:
            if turn.drawn == 1:
                self.outcome.waited.append(turn.first - turn.arrived)
            if turn.drawn == turn.most:
                self._end(turn)

    def _end(self, turn: Turn) -> None:
        number = int(turn.program)
        job, at = self.jobs[number], self.rounds[turn.program]
        self.outcome.drawn += turn.drawn
        self.left[turn.program] = turn.prompt + turn.drawn
        if at + 1 == len(job.rounds):
            self.scheduler.done(turn, self.now, None)
            self.outcome.took.append(self.now - job.arrives)
            return
        self.scheduler.policy.foresee(turn.program, job.rounds[at].seconds)
        self.scheduler.done(turn, self.now, job.rounds[at].tool)
        heapq.heappush(self.coming, (self.now + job.rounds[at].seconds, number, at + 1))

    def next(self) -> float:
        """When the next thing happens by itself: an arrival, the end of a pin or of somebody's patience."""
        soonest = self.coming[0][0] if self.coming else math.inf
        if self.scheduler.waiting:
            pins = [held.until for held in self.scheduler.held.values() if held.until > self.now]
            tired = [turn.arrived + self.scheduler.patience for turn in self.scheduler.waiting if turn.drawn == 0]
            soonest = min([soonest, *pins, *(when for when in tired if when > self.now)])
        return soonest


def simulate(jobs: list[Job], scheduler: Scheduler, machine: Machine | None = None) -> Outcome:
    """Serve the jobs to their end. Raises OutOfCells for a job that can never fit."""
    if any(not job.rounds for job in jobs):
        raise BadInput("a job needs at least one round")
    run = _Run(jobs, scheduler, machine or Machine())
    while True:
        run.arrive()
        if not run.step():
            ahead = run.next()
            if ahead == math.inf:
                run.outcome.until = run.now
                return run.outcome
            run.now = max(run.now, ahead)
