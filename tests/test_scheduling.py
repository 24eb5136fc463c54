"""Which turns run and what is kept: the policies, the scheduler's arithmetic, and serving in virtual time."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.policies import ByProgram, Continuum, Fcfs, Fixed, Oracle, Reload, best_time
from weft.model.engine.scheduling import Scheduler
from weft.model.engine.simulator import Job, Machine, Round, agents, simulate
from weft.model.engine.turns import Admit, Evict, Preempt, Turn

MACHINE = Machine()


def serve(policy: Fcfs, jobs: list[Job], cells: int, **more: Any) -> Any:
    return simulate(jobs, Scheduler(cells, policy, slots=256, chunk=2048, **more), MACHINE)


# --- the time for which a pin pays -------------------------------------------------------------------


def by_brute_force(durations: list[float], benefit: float) -> float:
    return max(
        sum(seconds <= time for seconds in durations) / len(durations) * benefit - time for time in [0.0, *durations]
    )


def test_the_time_to_live_is_the_best_of_a_thousand_histories() -> None:
    dice = random.Random(7)
    for _ in range(1000):
        durations = [round(dice.lognormvariate(0, 1), dice.choice([0, 1, 6])) for _ in range(dice.randint(1, 60))]
        benefit = dice.choice([0.0, dice.uniform(0, 3), dice.uniform(0, 60)])
        time = best_time(sorted(durations), benefit)
        assert time == 0 or time in durations
        gain = sum(seconds <= time for seconds in durations) / len(durations) * benefit - time
        assert gain == pytest.approx(by_brute_force(durations, benefit), abs=1e-9)


def test_without_history_the_time_is_that_of_an_exponential_of_mean_one() -> None:
    policy = Continuum(Reload(b=0.01))
    assert policy.keep("p", "run", 1000) == pytest.approx(math.log(10))
    assert policy.keep("p", "run", 50) == 0  # half a second is saved, less than a pin costs
    assert policy.keep("p", "run", 0) == 0


def test_a_tool_has_its_own_history_only_once_it_is_long_enough() -> None:
    policy = Continuum(Reload(b=0.01), cold=3)
    for _ in range(3):
        policy.took("run", 2.0)
    assert policy.keep("p", "run", 1000) == pytest.approx(math.log(10))  # three are none
    policy.took("look", 0.5)
    assert policy.keep("p", "run", 1000) == 2.0  # those of all tools
    assert policy.keep("p", "never seen", 1000) == 2.0
    for _ in range(3):
        policy.took("look", 0.5)
    assert policy.keep("p", "look", 1000) == 0.5  # its own
    policy.took("run", 50.0)
    assert policy.keep("p", "run", 1000) == 2.0  # waiting for the fourth costs more than it saves


def test_the_mean_delay_counts_as_far_as_past_turns_tell_how_many_are_left() -> None:
    policy = Continuum(Reload())
    policy.delayed(10.0)
    policy.delayed(20.0)
    assert policy.benefit(100) == pytest.approx(15.0)  # nobody has ended: as if the end were foreseeable
    for _ in range(5):
        policy.over(8)
    assert policy.memoryfulness == pytest.approx(1.0)  # all have eight turns
    forgetful = Continuum(Reload())
    forgetful.delayed(15.0)
    dice = random.Random(1)
    for _ in range(3000):
        turns = 1
        while dice.random() < 0.9:
            turns += 1
        forgetful.over(turns)
    assert abs(forgetful.memoryfulness) < 0.1  # how long it was tells nothing
    assert forgetful.benefit(100) < 1.5


def test_the_cost_of_a_reload_is_fitted() -> None:
    fit = Reload.fitted([(n, 0.1 + 0.002 * n + 1e-6 * n * n) for n in (10, 100, 500, 1000, 2000)])
    assert fit(1500) == pytest.approx(0.1 + 3.0 + 2.25)
    assert Reload.fitted([(100, 1.0), (200, 2.0)])(300) == pytest.approx(3.0)
    assert Reload.fitted([(100, 1.0)])(300) == pytest.approx(3.0)
    assert Reload.fitted([])(300) == 0


# --- the scheduler's arithmetic -----------------------------------------------------------------------


def run_turn(scheduler: Scheduler, turn: Turn, now: float, tool: str | None) -> list[Any]:
    """From its arrival to its end. Returns what was done for it."""
    scheduler.arrive(turn, now)
    acts = []
    while turn.drawn < turn.most:
        plan = scheduler.plan(now)
        acts += plan.acts
        scheduler.fed(plan, now)
    scheduler.done(turn, now, tool)
    return acts


def test_what_a_program_left_is_found_again() -> None:
    scheduler = Scheduler(100)
    run_turn(scheduler, Turn("a", 20, most=5), 0, "run")
    assert scheduler.used == 24  # the last token that was drawn has not been fed
    acts = run_turn(scheduler, Turn("a", 40, common=24, most=5), 1, None)
    assert acts == [Admit(acts[0].turn, 24, False)]
    assert scheduler.used == 0
    assert scheduler.counts.hits == 1.0


def test_the_longest_unused_is_evicted_and_a_pin_is_not() -> None:
    scheduler = Scheduler(100, Fixed(10.0))
    run_turn(scheduler, Turn("pinned", 29, most=2), 0, "run")
    scheduler.policy = Fcfs()
    run_turn(scheduler, Turn("b", 19, most=2), 1, "run")
    run_turn(scheduler, Turn("c", 19, most=2), 2, "run")
    acts = run_turn(scheduler, Turn("d", 39, most=2), 3, "run")
    assert [act for act in acts if isinstance(act, Evict)] == [Evict("b", False)]
    acts = run_turn(scheduler, Turn("e", 39, most=2), 20, "run")  # the pin is over
    assert [act.program for act in acts if isinstance(act, Evict)] == ["pinned"]


def test_a_pin_stays_when_its_program_is_back_and_waits() -> None:
    scheduler = Scheduler(100, Fixed(5.0))
    run_turn(scheduler, Turn("a", 29, most=2), 0, "run")
    big = Turn("b", 60, most=10)
    scheduler.arrive(big, 1)
    scheduler.fed(scheduler.plan(1), 1)
    scheduler.arrive(Turn("a", 50, common=30, most=2), 4)
    scheduler.plan(60)
    assert scheduler.pinned("a")


def test_pins_give_way_when_nothing_runs_else() -> None:
    scheduler = Scheduler(100, Fixed(1000.0))
    run_turn(scheduler, Turn("a", 39, most=2), 0, "run")
    run_turn(scheduler, Turn("b", 39, most=2), 1, "run")
    acts = run_turn(scheduler, Turn("c", 55, most=2), 2, "run")
    assert [act.program for act in acts if isinstance(act, Evict)] == ["b"]  # whose pin would have ended last
    assert scheduler.counts.unpinned == 1


def test_the_latest_program_gives_way_unless_it_is_in_its_last_turn() -> None:
    scheduler = Scheduler(40, ByProgram())
    turns = [Turn("a", 10, most=20), Turn("b", 10, most=20), Turn("c", 10, most=20, last=True)]
    for now, turn in enumerate(turns):
        scheduler.arrive(turn, now)
    seen: list[Any] = []
    for now in range(3, 60):
        plan = scheduler.plan(now)
        seen += plan.acts
        assert scheduler.used + sum(count for _, count in plan.feeds) <= 40
        for turn in scheduler.fed(plan, now):
            if turn.drawn == turn.most:
                scheduler.done(turn, now, None)
    first = next(act for act in seen if isinstance(act, Preempt))
    assert first.turn.program == "b"
    assert all(turn.drawn == 20 for turn in turns)
    assert scheduler.used == 0


def test_what_is_evicted_can_be_stored_and_is_loaded() -> None:
    scheduler = Scheduler(100, store=50)
    run_turn(scheduler, Turn("a", 39, most=2), 0, "run")
    acts = run_turn(scheduler, Turn("b", 80, most=2), 1, None)
    assert Evict("a", True) in acts and scheduler.stored("a") == 40
    acts = run_turn(scheduler, Turn("a", 60, common=40, most=2), 2, "run")
    assert (acts[0].reuse, acts[0].stored) == (40, True)
    assert scheduler.counts.reencoded == 0 and scheduler.stored("a") == 0
    run_turn(scheduler, Turn("c", 80, most=2), 3, None)
    assert scheduler.stored("a") == 0  # 61 cells do not fit in a store of 50


def test_who_matters_more_goes_first_and_who_waited_too_long_before_all() -> None:
    def order(patience: float) -> list[str]:
        scheduler = Scheduler(30, patience=patience, slots=1)
        done: list[str] = []
        for number, priority in enumerate((0, 0, 1)):
            scheduler.arrive(Turn("abc"[number], 10, most=2, priority=priority), number / 10)
        now = 1.0
        while scheduler.waiting or scheduler.running:
            plan = scheduler.plan(now)
            for turn in scheduler.fed(plan, now):
                if turn.drawn == turn.most:
                    done.append(turn.program)
                    scheduler.done(turn, now, None)
            now += 1
        return done

    assert order(math.inf) == ["c", "a", "b"]
    assert order(0.5) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "turn", [Turn("a", 0), Turn("a", 5, most=0), Turn("a", 5, common=6), Turn("a", 5, common=-1)], ids=repr
)
def test_a_turn_that_is_none_is_refused(turn: Turn) -> None:
    with pytest.raises(BadInput, match="a turn needs"):
        Scheduler(100).arrive(turn, 0)


def test_a_turn_that_can_never_fit_and_a_second_turn_at_once_are_refused() -> None:
    scheduler = Scheduler(100)
    with pytest.raises(OutOfCells, match="do not fit in 100 cells"):
        scheduler.arrive(Turn("a", 90, most=11), 0)
    scheduler.arrive(Turn("a", 90, most=10), 0)
    with pytest.raises(BadInput, match="under way"):
        scheduler.arrive(Turn("a", 10), 0)
    settings: list[dict[str, Any]] = [{"slots": 0}, {"chunk": 0}, {"store": -1}, {"patience": 0}]
    for bad in settings:
        with pytest.raises(BadInput):
            Scheduler(100, **bad)
    with pytest.raises(BadInput):
        Scheduler(1)


def test_programs_that_never_say_that_they_are_over_are_forgotten_in_the_end() -> None:
    scheduler = Scheduler(100)
    for number in range(5000):
        run_turn(scheduler, Turn(f"{number}", 30, most=2), number, "run")
    assert not scheduler.knows("0") and scheduler.knows("4999")
    assert sum(scheduler.knows(f"{number}") for number in range(5000)) <= 4096
    run_turn(scheduler, Turn("0", 30, most=2), 5000, "run")


@given(
    seed=some.integers(0, 10**6),
    cells=some.integers(60, 300),
    store=some.sampled_from([0, 100]),
    patience=some.sampled_from([0.05, math.inf]),
    policy=some.sampled_from([Fcfs, ByProgram, lambda: Fixed(0.5), lambda: Continuum(Reload(b=0.01), cold=5)]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_everything_ends_within_the_cells(
    seed: int, cells: int, store: int, patience: float, policy: Any
) -> None:
    dice = random.Random(seed)
    jobs = [
        Job(dice.uniform(0, 1), [
            Round(dice.randint(1, 8), dice.randint(1, 6), dice.choice("xy"), dice.expovariate(2))
            for _ in range(dice.randint(1, 4))
        ])
        for _ in range(12)
    ]  # fmt: skip
    scheduler = Scheduler(cells, policy(), slots=5, chunk=9, store=store, patience=patience)
    plan = scheduler.plan

    def watched(now: float) -> Any:
        made = plan(now)
        assert scheduler.used + sum(count for _, count in made.feeds) <= cells
        assert len(scheduler.running) + len(scheduler.held) <= 5
        assert sum(count for _, count in made.feeds) <= 9
        assert sum(map(scheduler.stored, map(str, range(12)))) <= store
        return made

    scheduler.plan = watched  # type: ignore[method-assign]
    outcome = simulate(jobs, scheduler, MACHINE)
    assert len(outcome.took) == 12
    assert outcome.drawn == sum(each.draws for job in jobs for each in job.rounds)
    assert scheduler.used == 0 and not scheduler.waiting


# --- in virtual time ----------------------------------------------------------------------------------


def test_pins_pay_when_memory_is_short() -> None:
    """Not the published 8x, but the published order, and nobody waits longer for it than before. The bars, over more
    traffic, are those of `benchmarks.engine`."""
    jobs = agents(0.5, 70, seed=11)
    base, none, pins, best = (
        serve(policy, jobs, 120_000, patience=60.0 if isinstance(policy, ByProgram) else math.inf)
        for policy in (Fcfs(), ByProgram(), Continuum(MACHINE.reload), Oracle(MACHINE.reload))
    )
    assert base.mean / pins.mean >= 1.5
    assert none.mean / pins.mean >= 1.5
    assert best.mean <= pins.mean
    assert max(pins.waited) <= 3 * max(base.waited)
    assert pins.counts.reencoded < base.counts.reencoded / 2


def test_where_memory_is_not_short_a_policy_changes_nothing() -> None:
    jobs = agents(0.05, 60, seed=3)
    base, pins = (serve(policy, jobs, 400_000).mean for policy in (Fcfs(), Continuum(MACHINE.reload)))
    assert pins == pytest.approx(base, rel=0.02)


def test_the_same_seed_gives_the_same_traffic_and_the_same_outcome() -> None:
    assert agents(0.3, 20, seed=5) == agents(0.3, 20, seed=5) != agents(0.3, 20, seed=6)
    one, other = (serve(Continuum(MACHINE.reload), agents(0.3, 20, seed=5), 60_000) for _ in range(2))
    assert one == other


def test_steps_taken_together_are_those_taken_one_by_one() -> None:
    jobs = [Job(0.0, [Round(10, 50)]), Job(0.1, [Round(20, 30, "x", 0.05), Round(5, 5)])]
    outcome = serve(Fcfs(), jobs, 1000)
    # By hand: 10 tokens are read and one is drawn in the first step; then 49 steps of one token each.
    alone = serve(Fcfs(), jobs[:1], 1000)
    seconds = 50 * MACHINE.step + 10 * MACHINE.token + sum(range(50)) * MACHINE.cell + 50 * 10 * MACHINE.cell
    assert alone.took[0] == pytest.approx(seconds, rel=1e-9)
    assert outcome.drawn == 85 and len(outcome.took) == 2


def test_a_job_without_rounds_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one round"):
        simulate([Job(0.0, [])], Scheduler(100))
