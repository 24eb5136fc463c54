"""Automata learnt from streams: on the problems of PAutomaC, and on traces of agents with something wrong in them.

- *perplexity*: of what was learnt from the training file in one pass, over the true one, on the competition's test file
  (both renormalised over it, as the competition does); 1 is perfect. Beside it our own batch, which has all at once,
  and AALpy's ALERGIA, smoothed by the best of four weights on the test file itself, in its favour;
- *anomalies*: five kinds are put into held-out runs (five folds); the area under the curve says how often one of these
  scores above an untouched held-out run. Scored by how surprising it is, and by its signs; beside either a 3-gram of
  the same symbols, smoothed alike, whose signs are judged alike.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import random
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.report import Measure, Report
from weft.trace.automata import Call, Habits, Learner, symbols_of_calls
from weft.trace.automata.contexts import Contexts, probability
from weft.trace.automata.evidence import END
from weft.trace.automata.model import scored
from weft.trace.automata.signs import Teller, signs, tails_of

Run = list[str]


def figures(report: Report, directory: Path, quick: bool) -> None:
    with _unpacked(directory, "pautomac") as folder:
        _perplexity(report, folder, quick)
    with _unpacked(directory, "agent_traces") as folder:
        _anomalies(report, folder, quick)


@contextlib.contextmanager
def _unpacked(directory: Path, name: str) -> Iterator[Path]:
    """The folder of this name, or what the archive of this name holds."""
    archive = directory / f"{name}.tar.gz"
    if not archive.exists():
        yield directory / name
        return
    with tempfile.TemporaryDirectory(prefix="weft-automata-") as place, tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
        yield Path(place)


# --- PAutomaC ---------------------------------------------------------------------------------------------------------


def _perplexity(report: Report, folder: Path, quick: bool) -> None:
    problems = sorted(folder.rglob("*.pautomac.train"), key=lambda path: path.name)
    measured = [_problem(path) for path in (problems[:3] if quick else problems)]
    ratios = {name: [one[name] for one in measured if name in one] for name in ("stream", "batch", "ALERGIA")}
    names = {"stream": "Weft, one pass", "batch": "Weft, all at once", "ALERGIA": "AALpy, ALERGIA"}
    for key, values in ratios.items():
        note = f"ratio, geometric mean: {_mean(values):.4f}" if values else "AALpy is not installed"
        over = [100 * (value - 1) for value in values]
        report.add("perplexity above the true one", Measure(name=names[key], unit="%", runs=over, note=note))
    for one in measured:
        over = {key: 100 * (one[key] - 1) for key in ratios if key in one}
        more = {key: value for key, value in one.items() if isinstance(value, float) and key not in over}
        more |= {f"{key} %": value for key, value in over.items() if key != "stream"}
        report.add("problems, one pass", Measure(name=one["name"], unit="%", runs=[over["stream"]], more=more))
    if not measured:
        problem = f"no *.pautomac.train in {folder.name}"
        report.bar("perplexity", "above the true one, geometric mean, one pass", None, most=6, why=problem)
        return
    peers = [one for one in measured if "ALERGIA" in one]
    solved = [one["stream"] for one in peers if one["ALERGIA"] <= 1.01]
    better = _mean([one["stream"] / one["ALERGIA"] for one in peers]) if peers else None
    stream = _mean(ratios["stream"])
    against_batch = 100 * (stream / _mean(ratios["batch"]) - 1)
    worst = max((100 * (ratio - 1) for ratio in solved), default=None)
    report.bar("perplexity", "above the true one, geometric mean, one pass", 100 * (stream - 1), most=6, unit="%")
    report.bar("perplexity", "÷ AALpy's", better, most=1.0, unit="×", why="ALERGIA on the same problems")
    report.bar("perplexity", "above own batch's", against_batch, most=2, unit="%", why="all sequences at once")
    if peers and not solved:
        report.bar("perplexity", "the worst that ALERGIA solves", 0.0, unit="%", why="it solves none within 1 %")
    else:
        why = f"{len(solved)} problems that it solves within 1 %" if peers else "AALpy is not installed"
        report.bar("perplexity", "the worst that ALERGIA solves", worst, most=3, unit="%", why=why)
    report.bar(
        "memory", "most states and edges alive ÷ states at the end", max(one["peak ÷ final"] for one in measured),
        most=20, unit="×", why="the worst problem",
    )  # fmt: skip
    report.bar(
        "cost", "CPU of one pass, 20 problems of this kind", 20 * sum(one["CPU s"] for one in measured) / len(measured),
        most=300, unit="s",
    )  # fmt: skip


def _problem(path: Path) -> dict[str, Any]:
    name = path.name.partition(".")[0]
    train, test = _sequences(path), _sequences(path.with_suffix(".test"))
    solution = path.with_name(f"{name}.pautomac_solution.txt").read_text().split()[1:]
    true = [float(number) for number in solution]
    began = process_time()
    learner = Learner().feed_all(train)
    model = learner.model()
    seconds = process_time() - began
    found: dict[str, Any] = {
        "name": name,
        "stream": _ratio([model.probability(run) for run in test], true),
        "batch": _ratio([*map(Learner().feed_at_once(train).model().probability, test)], true),
        "states": float(len(model.vertices)),
        "peak ÷ final": learner.peak / len(model.vertices),
        "contexts": float(model.contexts.size),
        "contexts ÷ states": model.contexts.size / len(model.vertices),
        "undone": float(learner.undone),
        "CPU s": seconds,
    }
    if find_spec("aalpy") is not None:
        found["ALERGIA"] = _alergia(train, test, true)
    return found


def _sequences(path: Path) -> list[Run]:
    return [line.split()[1:] for line in path.read_text().splitlines()[1:] if line.strip()]


def _ratio(told: Sequence[float], true: Sequence[float]) -> float:
    """Perplexity of what is told over the true one: 2 to the power of what its code is longer."""
    whole, all_true = math.fsum(told), math.fsum(true)
    each = zip(told, true, strict=True)
    return 2 ** math.fsum(p / all_true * (math.log2(p / all_true) - math.log2(q / whole)) for q, p in each if p)


def _mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _alergia(train: list[Run], test: list[Run], true: Sequence[float]) -> float:
    """The best ratio of AALpy's Markov chain, mixed with some of the symbols' plain frequencies."""
    from aalpy.learning_algs import run_Alergia

    chain = run_Alergia([["(start)", *run, "(end)"] for run in train], "mc", eps=0.05)
    edges = {id(state): {to.output: (to, share) for to, share in state.transitions} for state in chain.states}
    counts = Counter(symbol for run in train for symbol in (*run, "(end)"))
    share = {symbol: count / counts.total() for symbol, count in counts.items()}

    def told(run: Run, rest: float) -> float:
        state, found = chain.initial_state, 1.0
        for symbol in (*run, "(end)"):
            plain = share.get(symbol, 1e-6)
            to, likely = (None, plain) if state is None else edges[id(state)].get(symbol, (None, 0.0))
            found *= (1 - rest) * likely + rest * plain
            state = to
        return found

    return min(_ratio([told(run, rest) for run in test], true) for rest in (1e-4, 1e-3, 1e-2, 3e-2))


# --- anomalies --------------------------------------------------------------------------------------------------------

FOLDS = 5
DEPTH, GROW = 2, 5
"""For so few runs; chosen by the bits of usual held-out runs."""
LEAST = 8
"""Calls from which on a run is taken."""
FAILED = re.compile(r"(?i)\s*(exit code [1-9]|error|<tool_use_error|traceback)")
TESTS = re.compile(r"pytest|unittest|tox|runtests|python.*test|\b(make|npm|go|cargo)( run)? test")


def _anomalies(report: Report, folder: Path, quick: bool) -> None:
    runs = [calls for path in sorted(folder.rglob("tool_calls.json.gz")) if len(calls := _calls(path)) >= LEAST]
    if not runs:
        report.bar("anomalies", "area under the curve", None, least=0.85, why=f"no tool_calls.json.gz in {folder.name}")
        return
    random.Random(3).shuffle(runs)
    areas: dict[str, dict[str, list[float]]] = {}
    for fold in range(2 if quick else FOLDS):
        known = [run for number, run in enumerate(runs) if number % FOLDS != fold]
        scores = _scores(known)
        usual = {name: [score(run) for run in runs[fold::FOLDS]] for name, score in scores.items()}
        for kind, spoil in KINDS.items():
            rng = random.Random(fold)
            odd = [spoil(run, rng) for run in runs[fold::FOLDS] for _ in range(1 if quick else 4)]
            for name, score in scores.items():
                area = _area([score(run) for run in odd], usual[name])
                areas.setdefault(name, {}).setdefault(kind, []).append(area)
    for name, kinds in areas.items():
        means = {kind: sum(values) / len(values) for kind, values in kinds.items()}
        folds = f"2 of {FOLDS} folds" if quick else f"{FOLDS} folds"
        note = f"{len(runs)} runs of {sum(map(len, runs)) / len(runs):.0f} calls on average, {folds}"
        area = sum(means.values()) / len(means)
        report.add("anomalies", Measure(name=name, unit="", runs=[area], more=means, note=note))
    ours, gram, plain = (report.one("anomalies", name) for name in ("Weft", "3-gram, signs", "3-gram, surprise"))
    assert ours and gram and plain and ours.value and gram.value and plain.value
    report.bar("anomalies", "area under the curve, mean of five kinds", ours.value, least=0.85)
    report.bar("anomalies", "÷ the 3-gram's", ours.value / plain.value, least=1.0, unit="×", why="the same symbols")
    report.bar("anomalies", "÷ the 3-gram's signs'", ours.value / gram.value, unit="×", why="Weft's signs upon it")


def _scores(known: list[list[Call]]) -> dict[str, Callable[[list[Call]], float]]:
    """How unusual a run is, by what was learnt of these and by its signs or its surprise alone."""
    habits = Habits.of(known, lambda: Learner(least=20, depth=DEPTH, grow=GROW))
    gram, tails = _three_gram(known), tails_of(known, _three_gram)
    return {
        "Weft": habits.score,
        "Weft, surprise": lambda run: habits.learner.latest.score(symbols_of_calls(run)),
        "3-gram, signs": lambda run: tails.score(signs(run, gram, habits.places)),
        "3-gram, surprise": lambda run: scored(gram(symbols_of_calls(run))),
    }


def _calls(path: Path) -> list[Call]:
    with gzip.open(path) as packed:
        calls = json.load(packed)
    found = []
    for call in calls:
        given, result = call.get("input") or {}, call.get("result_preview") or ""
        result = result if isinstance(result, str) else json.dumps(result)
        tests = call["tool"] == "Bash" and TESTS.search(given.get("command", ""))
        found.append(Call("Bash test" if tests else call["tool"], given, result, bool(FAILED.match(result))))
    return found


def _three_gram(runs: Sequence[Sequence[Call]]) -> Teller:
    known = [symbols_of_calls(run) for run in runs]
    codes = {symbol: code for code, symbol in enumerate({symbol: 0 for run in known for symbol in run})}
    tree = Contexts(depth=2, grow=1)
    for run in known:
        tree.note([*(codes[symbol] for symbol in run), END])

    @cache
    def one(first: int, second: int, symbol: int) -> float:
        ended = [code for code in (first, second) if code != END]
        return -math.log2(probability(symbol, tree.at([*ended, symbol], len(ended)), 1 / (len(codes) + 2)))

    def bits(run: Sequence[str]) -> list[float]:
        coded = [END, END, *(codes.get(symbol, len(codes)) for symbol in run), END]
        return [one(*coded[at : at + 3]) for at in range(len(run) + 1)]

    return bits


def _swap(run: list[Call], rng: random.Random) -> list[Call]:
    """Two calls that lie 2 to 6 apart change places."""
    first = rng.randrange(len(run) - 6)
    second = first + rng.randint(2, 6)
    found = [*run]
    found[first], found[second] = run[second], run[first]
    return found


def _drop(run: list[Call], rng: random.Random) -> list[Call]:
    """An eighth of the run, two calls at least, is missing."""
    missing = max(2, len(run) // 8)
    first = rng.randrange(1, len(run) - missing)
    return run[:first] + run[first + missing :]


def _loop(run: list[Call], rng: random.Random) -> list[Call]:
    """Two calls are made five more times."""
    first = rng.randrange(len(run) - 2)
    return run[: first + 2] + run[first : first + 2] * 5 + run[first + 2 :]


def _unknown(run: list[Call], rng: random.Random) -> list[Call]:
    """A tool that nobody has ever called."""
    found = [*run]
    at = rng.randrange(len(run))
    found[at] = Call("Teleport", run[at].arguments, run[at].result, run[at].failed)
    return found


def _late(run: list[Call], rng: random.Random) -> list[Call]:
    """All tests come last; a run without any is turned round."""
    tests = [call for call in run if "test" in call.name]
    return [call for call in run if call not in tests] + tests if tests else run[::-1]


KINDS: dict[str, Callable[[list[Call], random.Random], list[Call]]] = {
    "swap": _swap, "drop": _drop, "loop": _loop, "unknown": _unknown, "late": _late,
}  # fmt: skip


def _area(odd: Sequence[float], usual: Sequence[float]) -> float:
    """How often a score of `odd` lies above one of `usual`; a tie is half a time."""
    above = sum((one > other) + 0.5 * (one == other) for one in odd for other in usual)
    return above / (len(odd) * len(usual))
