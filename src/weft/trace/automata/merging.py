"""What several workers learnt, as one.

Evidence is linear, so each edge of one learner is added to the edge of the other that the same symbols lead to. What
the first has no place for yet is added when a revision has made one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from weft.core.errors import BadInput
from weft.trace.automata.evidence import END, Evidence, nothing
from weft.trace.automata.learner import Edge, Learner
from weft.trace.automata.model import NOWHERE, Weights


def merged(first: Learner, second: Learner) -> Learner:
    """A new learner that has learnt what both had; its limits and test are the first's. Raises BadInput if their
    evidence is of different shape."""
    if (first.futures, first.width) != (second.futures, second.width):
        raise BadInput("only learners with the same futures and width can be merged")
    whole = Learner.load(first.dump(), test=first.test)
    codes = {code: whole.code(symbol) for symbol, code in second.alphabet.items()}
    codes[END] = END
    whole.states[0].evidence.add(_beginnings(second).recoded(codes))
    added: set[int] = set()
    while _added(whole, second, codes, added):
        whole.revise()
    whole.contexts.add(second.contexts, codes)
    if NOWHERE in second.weights:
        whole.weights.setdefault(NOWHERE, Weights()).add(second.weights[NOWHERE])
    whole.usual.add(second.usual)
    whole.seen += second.seen
    whole.peak = max(whole.peak, second.peak)
    whole.revise()
    return whole


def _beginnings(learner: Learner) -> Evidence:
    """What the first state knows of its own: without what the edges say that lead back to it."""
    found = nothing(learner.futures, learner.width)
    found.add(learner.states[0].evidence)
    for state in learner.states:
        for edge in state.edges.values():
            if edge.target == 0:
                found.add(edge.evidence, -1)
    return found


def _added(whole: Learner, other: Learner, codes: Mapping[int, int], added: set[int]) -> bool:
    """Add the edges of all states of the other for which there is a place by now. Whether there were any."""
    pairs, met, grown = deque([(0, 0)]), {0}, False
    while pairs:
        mine, theirs = pairs.popleft()
        new = theirs not in added
        added.add(theirs)
        if new and theirs in other.weights:
            whole.weights.setdefault(mine, Weights()).add(other.weights[theirs])
        for symbol, edge in other.states[theirs].edges.items():
            own = whole.states[mine].edges.get(codes[symbol])
            if own is None:
                own = whole.states[mine].edges[codes[symbol]] = Edge(nothing(whole.futures, whole.width))
            if new:
                grown = True
                evidence = edge.evidence.recoded(codes)
                own.evidence.add(evidence)
                if own.target is not None:
                    whole.states[own.target].evidence.add(evidence)
            if own.target is not None and edge.target is not None and edge.target not in met:
                met.add(edge.target)
                pairs.append((own.target, edge.target))
    return grown
