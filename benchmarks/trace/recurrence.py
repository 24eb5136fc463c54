"""Chains and recurrence: the figures of `weft.trace.causal`.

*Recurrence*: 200 labelled pairs of failures, half the same cause in another instance and wording, half another cause in
the same words. Each pair's first is in a history of 60 other failures; the second is asked about. Pairs are judged by
the threshold that is shipped, and, which is what the bar is on, each subject by a threshold chosen on the others. The
published rule is run beside it.

*Order*: simulated events by actors' clocks, and how many of them can't be; then how many of a thousand that were moved
before their causes are found.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.report import Measure, Report
from benchmarks.trace.failures import GROUPS, Pair, failure_of, pairs
from weft.trace.causal import Embed, Failure, Failures, simulated, violations
from weft.trace.causal.recurrence import SAME, SAME_IN_MEANING, words

SUBJECTS = [*GROUPS]
PUBLISHED = 0.40
"""What the published rule accepts."""


def figures(report: Report, directory: Path, quick: bool) -> None:
    """Add the figures of recurrence and order. No data is needed from `directory`."""
    recurrence(report)
    order(report, 20_000 if quick else 100_000)


# --- recurrence -----------------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """`f1`, and the share of decoys that were accepted."""

    f1: float
    decoys: float


def recurrence(report: Report) -> None:
    """200 pairs: with the threshold that is shipped; and each subject with the one that is best for all the others."""
    tried = pairs(200, SUBJECTS, seed=11)
    vectors = _static_vectors()
    judged: dict[str, Embed | None] = {"words": None} | ({"words and meaning": vectors} if vectors else {})
    for way, embed in judged.items():
        alike = [_alike(embed, pair) for pair in tried]
        shipped = _score(tried, [one >= (SAME if embed is None else SAME_IN_MEANING) for one in alike])
        crossed = _score(tried, _crossed(tried, alike))
        for name, score in ((way, shipped), (f"{way}, subject left out", crossed)):
            more = {"decoys accepted, %": 100 * score.decoys}
            report.add("recurrence", Measure(name=name, unit="F1", runs=[score.f1], more=more))
        least = 0.9 if embed is None else None  # which is what `weft explain` does unless it is told otherwise
        report.bar("recurrence", f"{way}: F1 on 200 pairs, subject left out of choosing", crossed.f1, least=least)
    rule = _score(tried, [_history(pair)[-1] in _published(_history(pair), pair.other) for pair in tried])
    more = {"decoys accepted, %": 100 * rule.decoys}
    report.add("recurrence", Measure(name="published rule", unit="F1", runs=[rule.f1], more=more))
    report.bar("recurrence", "published rule: share of decoys accepted", rule.decoys, least=0.9, why="the peer")


def _history(pair: Pair) -> list[Failure]:
    """60 failures of other subjects, and the pair's earlier one."""
    chance = random.Random(pair.one.run)
    picked = [chance.choice([name for name in SUBJECTS if name != pair.group]) for _ in range(60)]
    return [failure_of(chance.choice(GROUPS[name]), name, f"other-{at}", chance) for at, name in enumerate(picked)] + [
        pair.one
    ]


def _alike(embed: Embed | None, pair: Pair) -> float:
    """How alike the later failure finds the earlier one in that history."""
    found = Failures(_history(pair), embed).like(pair.other, most=1000, same=0)
    return next((one.likeness for one in found if one.failure == pair.one), 0.0)


def _crossed(tried: Sequence[Pair], alike: Sequence[float]) -> list[bool]:
    """Accepted or not, by the threshold that is best for the pairs of all other subjects."""
    chosen: dict[str, float] = {}
    for subject in SUBJECTS:
        rest = [(pair, one) for pair, one in zip(tried, alike, strict=True) if pair.group != subject]
        scores = {t: _score([pair for pair, _ in rest], [one >= t / 100 for _, one in rest]).f1 for t in range(100)}
        good = [t for t, f1 in scores.items() if f1 >= max(scores.values()) - 0.005]
        chosen[subject] = sum(good) / len(good) / 100
    return [one >= chosen[pair.group] for pair, one in zip(tried, alike, strict=True)]


def _score(tried: Sequence[Pair], accepted: Sequence[bool]) -> Score:
    counts = Counter((pair.same, one) for pair, one in zip(tried, accepted, strict=True))
    right, wrong, missed = counts[True, True], counts[False, True], counts[True, False]
    f1 = 2 * right / max(1, 2 * right + wrong + missed)
    return Score(f1, wrong / max(1, wrong + counts[False, False]))


def _published(past: Sequence[Failure], new: Failure) -> list[Failure]:
    """OrgForge's rule: full-text scores over the best one's, on a scale of logarithms; 0.40 and above is accepted."""
    index = Failures(past)
    scores = index.scores(Counter(words(new.text)))
    best = max(scores, default=0.0)
    if best <= 0:
        return []
    ratios = zip(index.all, scores, strict=True)
    return [one for one, score in ratios if math.log1p(score) / math.log1p(best) >= PUBLISHED]


def _static_vectors() -> Embed | None:
    """WordLlama's vectors; None where the extra `embed` or the file is not there."""
    from weft.core.errors import MissingExtra, ModelUnavailable
    from weft.model.embed import embedder

    model = embedder("wordllama")
    known: dict[str, list[float]] = {}

    def embed(texts: Sequence[str]) -> list[list[float]]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, asyncio.run(model(new)), strict=True))
        return [known[text] for text in texts]

    try:
        embed(["a text"])
    except (MissingExtra, ModelUnavailable):
        return None
    return embed


# --- order ----------------------------------------------------------------------------------------------------------


def order(report: Report, count: int) -> None:
    """Simulated events, and simulated ones of which some are moved."""
    began = time.process_time()
    events = [*simulated(count, seed=3)]
    found = violations(events)
    rate = count / (time.process_time() - began)
    report.add(
        "order", Measure(name="simulated and checked", unit="events/CPU-s", runs=[rate], note=f"{count:,} events")
    )
    report.bar("order", f"violations in {count:,} simulated events", len(found), most=0)
    chance = random.Random(4)
    known = {one.id: one for one in events}
    moved = chance.sample([one for one in events if one.causes], 1000)
    for one in moved:
        begin = known[one.causes[0]].end - chance.uniform(1, 60)
        known[one.id] = msgspec.structs.replace(one, begin=begin)
    caught = {one.event for one in violations(known.values())}
    share = sum(one.id in caught for one in moved) / len(moved)
    report.bar("order", "events moved before their cause that are found", share, least=1.0)
