"""What comes after the last few symbols: a tree of contexts, grown only where it is often walked.

The automaton's companion. A state knows what a deterministic automaton of that size can know; where the source is not
one (a hidden Markov model, say), or a state is young, the last few symbols say more. Each context falls back on the
next shorter one by absolute discounting, so every symbol has a probability everywhere. A context counts a symbol only
if none of the longer ones knew it, as Kneser and Ney do (ICASSP 1995): it is asked only when they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from weft.trace.automata.evidence import END

DISCOUNT = 0.75
"""Taken off each count; the customary value."""


class Context(msgspec.Struct):
    """`visits`: how often it was walked through. `next`: what came after it and no longer context knew, `passed` times
    in all. `longer`: the contexts with one more symbol before (`END`: the beginning)."""

    visits: int = 0
    passed: int = 0
    next: dict[int, int] = {}
    longer: dict[int, Context] = {}


class Contexts(msgspec.Struct):
    """`depth`: symbols that are looked back. `grow`: a context is told apart by the symbol before it once it has been
    passed so often, and while there are fewer than `most`."""

    depth: int = 4
    grow: int = 20
    most: int = 50_000
    root: Context = msgspec.field(default_factory=Context)
    size: int = 1

    def note(self, ended: Sequence[int]) -> None:
        """Learn from one sequence, which ends with `END`."""
        for at, symbol in enumerate(ended):
            for context in reversed(self._walked(ended, at)):
                known = symbol in context.next
                context.passed += 1
                context.next[symbol] = context.next.get(symbol, 0) + 1
                if known:
                    break

    def _walked(self, ended: Sequence[int], at: int) -> list[Context]:
        """As `at`, growing where it has been walked often."""
        found = self.at(ended, at)
        for context in found:
            context.visits += 1
        while (
            self.size < self.most
            and found[-1].visits >= self.grow
            and (back := len(found) - 1) < min(self.depth, at + 1)
        ):
            longer = found[-1].longer[_before(ended, at, back)] = Context(visits=1)
            found.append(longer)
            self.size += 1
        return found

    def at(self, ended: Sequence[int], at: int) -> list[Context]:
        """The contexts before one place of a sequence, the shortest first."""
        context = self.root
        found = [context]
        for back in range(min(self.depth, at + 1)):
            longer = context.longer.get(_before(ended, at, back))
            if longer is None:
                break
            context = longer
            found.append(context)
        return found

    def add(self, other: Contexts, codes: Mapping[int, int]) -> None:
        """What another tree has learnt, too; `codes`: its symbols in this one's alphabet."""
        waiting = [(self.root, other.root)]
        while waiting:
            mine, theirs = waiting.pop()
            mine.visits += theirs.visits
            mine.passed += theirs.passed
            for symbol, count in theirs.next.items():
                mine.next[codes[symbol]] = mine.next.get(codes[symbol], 0) + count
            for before, context in theirs.longer.items():
                if codes[before] not in mine.longer:
                    if self.size >= self.most:
                        continue
                    mine.longer[codes[before]] = Context()
                    self.size += 1
                waiting.append((mine.longer[codes[before]], context))


def _before(ended: Sequence[int], at: int, back: int) -> int:
    """The symbol `back` + 1 places before; `END`: the beginning."""
    return ended[at - back - 1] if back < at else END


def probability(symbol: int, contexts: Sequence[Context], base: float, less: int = 0) -> float:
    """Of `symbol` after these contexts; `base`: where nothing is known. `less`: as of `discounted`."""
    found = base
    for context in contexts:
        found = discounted(symbol, context.passed, context.next, found, less)
    return found


def discounted(symbol: int, passed: int, counts: dict[int, int], lower: float, less: int = 0) -> float:
    """The share of `symbol`; what is taken off each symbol that was seen goes to `lower`, another estimate of it.
    `less` 1: as if `symbol` had been seen once less, which judges an event by the others."""
    count, kinds, passed = counts.get(symbol, 0), len(counts), passed - less
    if less and count:
        count, kinds = count - 1, kinds - (count == 1)
    if passed <= 0:
        return lower
    return (max(count - DISCOUNT, 0.0) + DISCOUNT * kinds * lower) / passed
