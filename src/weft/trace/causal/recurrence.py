"""Recurrence: was this failure seen before? Words and meaning, fused by ranks, with an absolute threshold.

Earlier failures are ranked twice: by BM25 over the words of their templates (ids, numbers, paths and times are masked,
so what is left is what the program says), and by the cosine of vectors, where an embedding is given. The two lists are
fused by reciprocal ranks (Cormack et al. 2009, k = 60). The ranks say which is the likest; whether it is the *same* is
judged by a threshold that knows nothing of the other candidates: how much of what the two say they share
(`likeness`). A rule that divides by the best hit's score, as published (github.com/aeriesec/orgforge), can't
reject the best hit, however unlike it is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from weft.core.errors import BadInput

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Vectors of length 1 for texts; `weft.model.embedder` makes such."""

K1, B = 1.2, 0.75
FUSED = 60
SAME, SAME_IN_MEANING = 0.6, 0.66
"""From which likeness on two failures count as the same one; where vectors count, too."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run failed: type of the error, its message, which effect raised it, and, where it is known, the
    template of what that said last. `at`: seconds since the epoch."""

    run: str
    error: str
    message: str = ""
    tool: str = ""
    template: str = ""
    at: float = 0.0

    @property
    def text(self) -> str:
        """What is searched."""
        return " ".join(part for part in (self.error, self.tool, self.message, self.template) if part)


class Recurrence(msgspec.Struct, frozen=True):
    """An earlier failure that is the same. `likeness`: from the threshold to 1."""

    failure: Failure
    likeness: float


TALK = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "could", "did", "error", "errors", "exception",
    "fail", "failed", "failing", "failure", "for", "from", "has", "have", "in", "into", "is", "it", "its", "not",
    "occurred", "of", "on", "or", "raised", "so", "that", "the", "there", "this", "to", "unable", "was", "while",
    "with",
})  # fmt: skip
"""Words that say little about what went wrong."""
_MASKS = [
    (re.compile(r"https?://\S+|(?:/[\w.@+-]+){2,}/?|[A-Za-z]:\\\S+"), " "),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b0x[0-9a-fA-F]+\b|\b(?=\w*\d)[0-9a-fA-F]{7,}\b"), " "),
    (re.compile(r"['\"`][^'\"`]{0,80}['\"`]"), " "),
    (re.compile(r"\b[\w-]*\d[\w.:/-]*"), " "),
]
_WORD = re.compile(r"[A-Za-z][a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+")


def masked(text: str) -> str:
    """A message without what differs from time to time: paths, ids, quoted values, numbers."""
    for pattern, put in _MASKS:
        text = pattern.sub(put, text)
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """The stems of the words of a masked text, camel case and underscores taken apart, in lower case."""
    return [_stem(word.lower()) for word in _WORD.findall(masked(text)) if len(word) > 1]


def _stem(word: str) -> str:
    """Without an ending of English inflection; a word of small talk stays as it is."""
    endings = () if word in TALK else ("ing", "ed", "es", "s", "e")
    return next((word[: -len(end)] for end in endings if word.endswith(end) and len(word) - len(end) >= 4), word)


class Failures:
    """Failures of earlier runs, to be searched. `embed`: vectors of texts; without it, words alone decide. Raises
    BadInput if it gives another number of vectors than of texts."""

    def __init__(self, earlier: Iterable[Failure], embed: Embed | None = None) -> None:
        self.all = sorted(earlier, key=lambda one: one.at)
        self.embed = embed
        self.bags = [Counter(words(one.text)) for one in self.all]
        self.spread = Counter(word for bag in self.bags for word in bag)
        self.mean = sum(bag.total() for bag in self.bags) / max(1, len(self.bags))
        self.vectors = self._vectors([masked(one.text) for one in self.all])

    def like(self, failure: Failure, most: int = 10, same: float | None = None) -> list[Recurrence]:
        """The earlier failures that are the same, at most so many, the likest first by the fused ranks. `same`: from 0
        (everything that is found) to 1 (only equal ones); by default 0.6, and 0.66 with an embedding."""
        same = (SAME if self.embed is None else SAME_IN_MEANING) if same is None else same
        if not 0 <= same <= 1:
            raise BadInput(f"same={same}: a likeness is from 0 to 1")
        near = self._cosines(failure)
        found: list[Recurrence] = []
        for at in self._fused(Counter(words(failure.text)), near):
            alike = likeness(failure, self.all[at], self.weight, None if near is None else near[at])
            if alike >= same and self.all[at].run != failure.run:
                found.append(Recurrence(self.all[at], alike))
            if len(found) == most:
                break
        return found

    def weight(self, word: str) -> float:
        """How telling a word is: more if few earlier failures say it, a quarter if it is small talk of errors. Names
        that stand in failures of all kinds tell little."""
        telling = 1 + math.log((len(self.bags) + 1) / (self.spread[word] + 1))
        return telling * (0.25 if word in TALK else 1.0)

    def _fused(self, bag: Counter[str], near: Sequence[float] | None) -> list[int]:
        """Candidates by the sum of the reciprocals of their ranks in both lists."""
        lexical = [(score, -at) for at, score in enumerate(self.scores(bag))]
        lists = [[-at for score, at in sorted(lexical, reverse=True) if score > 0]]
        if near is not None:
            lists.append(sorted(range(len(near)), key=lambda at: (-near[at], at)))
        ranks: dict[int, float] = {}
        for one in lists:
            for rank, at in enumerate(one, 1):
                ranks[at] = ranks.get(at, 0.0) + 1 / (FUSED + rank)
        return sorted(ranks, key=lambda at: (-ranks[at], at))

    def _idf(self, word: str) -> float:
        seen = self.spread[word]
        return math.log1p((len(self.bags) - seen + 0.5) / (seen + 0.5))

    def scores(self, bag: Iterable[str]) -> list[float]:
        """Okapi BM25 (Robertson and Zaragoza 2009) of each earlier failure for these words."""
        return [self._bm25(bag, at) for at in range(len(self.all))]

    def _bm25(self, bag: Iterable[str], at: int) -> float:
        there = self.bags[at]
        norm = K1 * (1 - B + B * there.total() / max(1.0, self.mean))
        return math.fsum(
            self._idf(word) * there[word] * (K1 + 1) / (there[word] + norm) for word in bag if word in there
        )

    def _vectors(self, texts: Sequence[str]) -> Sequence[Sequence[float]] | None:
        if self.embed is None or not texts:
            return None
        found = self.embed(texts)
        if len(found) != len(texts):
            raise BadInput(f"the embedding gave {len(found)} vectors for {len(texts)} texts")
        return found

    def _cosines(self, failure: Failure) -> list[float] | None:
        if self.embed is None or self.vectors is None:
            return None
        (own,) = self.embed([masked(failure.text)])
        return [sum(a * b for a, b in zip(own, other, strict=True)) for other in self.vectors]


Weigh = Callable[[str], float]
"""How telling a word is."""


def likeness(one: Failure, other: Failure, weigh: Weigh, near: float | None = None) -> float:
    """How alike two failures are, from 0 to 1: nine tenths what their wordings share, one tenth whether type and tool
    are the same. `near`: the cosine of their vectors, which is a third of the wording."""
    wording = shared(words(f"{one.message} {one.template}"), words(f"{other.message} {other.template}"), weigh)
    if near is not None:
        wording = (2 * wording + max(0.0, near)) / 3
    return 0.9 * wording + 0.1 * (one.error == other.error and one.tool == other.tool)


def shared(one: Iterable[str], other: Iterable[str], weigh: Weigh) -> float:
    """The cosine of two weighed sets of words."""
    mine, theirs = {*one}, {*other}
    if not mine or not theirs:
        return float(mine == theirs)
    both, left, right = (math.fsum(weigh(word) for word in sorted(each)) for each in (mine & theirs, mine, theirs))
    return both / math.sqrt(left * right)
