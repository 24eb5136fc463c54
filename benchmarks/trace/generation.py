"""Made cases against real ones that the generator has not seen: near, new, and of the kind that was asked for.

Sepsis: fitted to its parts but the last, ten logs of the size and label mix of that. Beside it, in the same run: a
3-gram sampler (activities by the two before, of the same label; times and resources of an event of that name) and a
sampler of the log that was learnt from. The condition is judged by a random forest that was trained on real cases only.

Coding agents: each half of their runs is made after the other half, conditioned on model and outcome; the durations of
all that were made against those of all real ones (two-sample Kolmogorov-Smirnov statistic).
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.report import Measure, Report
from benchmarks.trace import coding_agents
from benchmarks.trace.sepsis import distances, parts
from weft.core.errors import BadInput
from weft.trace.generation import Case, Event, Generator, Settings, Validity, fit

BARS = {"2-gram": 0.10, "RED": 40.0, "CTD": 400.0}
UNITS = {"2-gram": "", "RED": "h", "CTD": "h"}
QUICK = Settings(epochs=70)
LOOSER = 1.25
"""Bars of a quick figure are looser by this: it is fitted for half as long."""

PARTS = 4

Maker = Callable[[int], list[Case]]


def figures(report: Report, directory: Path, quick: bool) -> None:
    import torch

    torch.set_num_threads(1)
    learnt, test = parts(directory)
    began = time.process_time()
    generator = fit(learnt, ["label"], QUICK if quick else None)
    spent = time.process_time() - began
    report.add("fit", Measure(name="Weft", unit="CPU-s", runs=[spent], note=f"{len(learnt)} cases, one thread"))
    report.bar("fit", "at most 5 CPU-minutes", spent, most=300, unit="CPU-s")
    logs = {
        name: [maker(seed) for seed in range(2 if quick else 10)]
        for name, maker in _makers(generator, learnt, test).items()
    }
    _distances(report, logs, test, quick)
    _novelty(report, logs, learnt)
    _control(report, logs, learnt, test, 0.8)
    if quick:
        return
    _parts(report, learnt + test)
    if recorded := coding_agents.cases(directory):
        _durations(report, recorded)


def _parts(report: Report, cases: list[Case]) -> None:
    """Each of four parts, by chance and in time order, made after the other three: how much a figure owes to what is
    held out. No bars."""
    mixed = random.Random(0).sample(cases, len(cases))
    for kind, order in (("by chance", mixed), ("in time order", sorted(cases, key=lambda case: case.start))):
        for number in range(PARTS):
            test = order[number * len(order) // PARTS : (number + 1) * len(order) // PARTS]
            held = {case.id for case in test}
            learnt = [case for case in order if case.id not in held]
            makers = _makers(fit(learnt, ["label"]), learnt, test)
            for name in ("Weft", "log sampler"):
                logs = [makers[name](seed) for seed in range(10)]
                each = [distances(test, log) for log in logs]
                told = {metric: mean(one[metric] for one in each) for metric in BARS}
                told["new"] = _new(logs, learnt)
                judge = _judge(learnt)
                told["label"] = mean(judge(log) for log in logs) / judge(test)
                what = f"{name}, part {number + 1}"
                report.add(f"four parts {kind}", Measure(name=what, unit="", runs=[told.pop("2-gram")], more=told))
            print(f"four parts {kind}: {number + 1} done", file=sys.stderr, flush=True)


def _new(logs: list[list[Case]], learnt: list[Case]) -> float:
    """The part of cases, on average over logs, whose activities are in no case that was learnt from."""
    known = {tuple(case.activities) for case in learnt}
    return mean(mean(tuple(case.activities) not in known for case in log) for log in logs)


def _makers(generator: Generator, learnt: list[Case], test: list[Case]) -> dict[str, Maker]:
    counts = Counter(str(case.attributes["label"]) for case in test)
    mix = {label: count / len(test) for label, count in counts.items()}
    valid = Validity.of(learnt)
    return {
        "Weft": lambda seed: generator.generate(len(test), mix=mix, valid=valid, seed=seed),
        "3-gram": lambda seed: _three_gram(learnt, counts, seed),
        "log sampler": lambda seed: _sampled(learnt, counts, seed),
    }


def _distances(report: Report, logs: dict[str, list[list[Case]]], test: list[Case], quick: bool) -> None:
    for name, made in logs.items():
        each = [distances(test, log) for log in made]
        for metric in BARS:
            report.add(metric, Measure(name=name, unit=UNITS[metric], runs=[one[metric] for one in each],
                                       more={"mean": mean(one[metric] for one in each)}))  # fmt: skip
    for metric, bar in BARS.items():
        runs = {one.name: mean(one.runs) for one in report.figures[metric]}
        peers = ", ".join(f"{name} {value:.3g}" for name, value in runs.items() if name != "Weft")
        looser = bar * LOOSER if quick else bar
        report.bar(metric, f"mean at most {looser:g}", runs["Weft"], most=looser, unit=UNITS[metric], why=peers)


def _novelty(report: Report, logs: dict[str, list[list[Case]]], learnt: list[Case]) -> None:
    known = {tuple(case.activities) for case in learnt}
    for name, made in logs.items():
        shares = [mean(tuple(case.activities) not in known for case in log) for log in made]
        report.add("new variants", Measure(name=name, unit="", runs=shares))
    ours = report.one("new variants", "Weft")
    report.bar("new variants", "at least 30 %", ours.value if ours else None, least=0.3)


def _control(
    report: Report, logs: dict[str, list[list[Case]]], learnt: list[Case], test: list[Case], least: float
) -> None:
    judge = _judge(learnt)
    real = judge(test)
    report.add("label recognised", Measure(name="real cases", unit="", runs=[real], note="balanced accuracy"))
    for name, made in logs.items():
        report.add("label recognised", Measure(name=name, unit="", runs=[judge(log) for log in made]))
    ours = report.one("label recognised", "Weft")
    ratio = ours.value / real if ours and ours.value else None
    report.bar(
        "label recognised",
        f"at least {least:g} × that of real cases",
        ratio,
        least=least,
        unit="×",
        why=f"real {real:.3g}",
    )


def _judge(learnt: list[Case]) -> Callable[[Sequence[Case]], float]:
    """Balanced accuracy of a classifier of labels, trained on these."""
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score

    names = sorted({name for case in learnt for name in case.activities})
    places = {name: at for at, name in enumerate(names)}

    def features(cases: Sequence[Case]) -> Any:
        rows = []
        for case in cases:
            counted = Counter(case.activities)
            gaps = [event.after for event in case.events]
            times = np.log1p([case.seconds, max(gaps), gaps[-1]])
            rows.append([*(counted[name] for name in names), places.get(case.activities[-1], -1), len(gaps), *times])
        return np.array(rows)

    def labels(cases: Sequence[Case]) -> list[str]:
        return [str(case.attributes["label"]) for case in cases]

    forest = RandomForestClassifier(200, class_weight="balanced_subsample", min_samples_leaf=3, random_state=0)
    forest.fit(features(learnt), labels(learnt))
    return lambda cases: float(balanced_accuracy_score(labels(cases), forest.predict(features(cases))))


def _durations(report: Report, real: list[Case]) -> None:
    from scipy.stats import ks_2samp

    random.Random(0).shuffle(real)
    halves = real[::2], real[1::2]
    made: list[float] = []
    for learnt, test in zip(halves, halves[::-1], strict=True):
        generator = fit(learnt, ["model", "outcome"], Settings(most=128, batch=16))
        valid = Validity.of(learnt)
        for seed in range(10):
            made += [case.seconds for case in _alike(generator, test, valid, seed)]
    durations = [case.seconds for case in real]
    ours = float(ks_2samp(durations, made).statistic)
    report.add("duration KS", Measure(name="Weft", unit="", runs=[ours], note=f"{len(real)} runs of coding agents"))
    apart = ks_2samp(*([case.seconds for case in half] for half in halves)).statistic
    report.add("duration KS", Measure(name="one real half, the other", unit="", runs=[float(apart)]))
    report.bar("duration KS", "at most 0.15", ours, most=0.15, why=f"real halves {apart:.3g}")


def _alike(generator: Generator, test: list[Case], valid: Validity, seed: int) -> list[Case]:
    """As many of each model and outcome as in the test, where the generator has seen any."""
    counts = Counter((str(case.attributes["model"]), str(case.attributes["outcome"])) for case in test)
    made = []
    for (model, outcome), count in counts.items():
        try:
            made += generator.generate(count, {"model": model, "outcome": outcome}, valid=valid, seed=seed)
        except BadInput:  # no such case was learnt from
            made += generator.generate(count, {"model": model}, valid=valid, seed=seed)
    return made


# --- peers --------------------------------------------------------------------------------------------------------


def _sampled(learnt: list[Case], counts: Counter[str], seed: int) -> list[Case]:
    rng = random.Random(seed)
    of = {label: [case for case in learnt if case.attributes["label"] == label] for label in counts}
    return [case for label, count in counts.items() for case in rng.sample(of[label], min(count, len(of[label])))]


def _three_gram(learnt: list[Case], counts: Counter[str], seed: int) -> list[Case]:
    rng = random.Random(seed)
    made = []
    for label, count in counts.items():
        after: dict[tuple[str, str], list[str]] = defaultdict(list)
        events: dict[str, list[Event]] = defaultdict(list)
        for case in learnt:
            if case.attributes["label"] == label:
                run = ["", "", *case.activities, ""]
                for one, two, three in zip(run, run[1:], run[2:], strict=False):
                    after[one, two].append(three)
                for event in case.events:
                    events[event.activity].append(event)
        for number in range(count):
            here, found = ("", ""), []
            while (name := rng.choice(after[here])) != "":
                found.append(rng.choice(events[name]))
                here = (here[1], name)
            made.append(Case(f"{label}-{number}", found, {"label": label}))
    return made
