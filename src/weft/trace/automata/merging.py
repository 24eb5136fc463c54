"""What several workers learnt, as one.

Evidence is linear, so each edge of one learner is added to the edge of the other that the same symbols lead to. What
the first has no place for yet is added when a revision has made one.
"""

from __future__ import annotations

from weft.core.errors import BadInput
from weft.trace.automata.evidence import END, nothing
from weft.trace.automata.learner import Edge, Learner


def merged(first: Learner, second: Learner) -> Learner:
    """A new learner that has learnt what both had. Raises BadInput if their evidence is of different shape."""
    if (first.futures, first.width) != (second.futures, second.width):
        raise BadInput("only learners with the same futures and width can be merged")
    whole = Learner.load(first.dump(), test=first.test)
    other = Learner.load(second.dump(), test=second.test)
    codes = {code: whole.code(symbol) for symbol, code in other.alphabet.items()}
    codes[END] = END
    _recode(other, codes)
    whole.states[0].evidence.add(other.states[0].evidence)
    added: set[int] = set()
    while _added(whole, other, added):
        whole.revise()
    whole.contexts.add(other.contexts)
    for number, weights in other.weights.items():
        if number in whole.weights and number < 0:
            whole.weights[number].state += weights.state
            whole.weights[number].contexts += weights.contexts
    whole.usual.add(other.usual)
    whole.seen += other.seen
    whole.peak = max(whole.peak, other.peak)
    return whole


def _added(whole: Learner, other: Learner, added: set[int]) -> bool:
    """Add the edges of all states of the other for which there is a place by now. Whether there were any."""
    pairs, met, grown = [(0, 0)], {0}, False
    while pairs:
        mine, theirs = pairs.pop(0)
        new = theirs not in added
        added.add(theirs)
        for symbol, edge in other.states[theirs].edges.items():
            own = whole.states[mine].edges.get(symbol)
            if own is None:
                own = whole.states[mine].edges[symbol] = Edge(nothing(whole.futures, whole.width))
            if new:
                grown = True
                own.evidence.add(edge.evidence)
                if own.target is not None:
                    whole.states[own.target].evidence.add(edge.evidence)
            if own.target is not None and edge.target is not None and edge.target not in met:
                met.add(edge.target)
                pairs.append((own.target, edge.target))
    return grown


def _recode(learner: Learner, codes: dict[int, int]) -> None:
    """The same in another alphabet. The sketches stay as they are: they are of texts, not of codes."""
    for state in learner.states:
        state.evidence.next = {codes[symbol]: count for symbol, count in state.evidence.next.items()}
        state.edges = {codes[symbol]: edge for symbol, edge in state.edges.items()}
        for edge in state.edges.values():
            edge.evidence.next = {codes[symbol]: count for symbol, count in edge.evidence.next.items()}
    contexts = [learner.contexts.root]
    while contexts:
        context = contexts.pop()
        context.next = {codes[symbol]: count for symbol, count in context.next.items()}
        context.longer = {codes[symbol]: longer for symbol, longer in context.longer.items()}
        contexts += context.longer.values()
