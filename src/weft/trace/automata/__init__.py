"""What is usual: an automaton learnt from a stream of runs, in one pass and in bounded memory.

learner = Learner()
for run in runs: learner.feed(run)              # each a sequence of symbols: tool, status, template ...
model = learner.model()
model.surprise(run)                             # bits, event by event
model.departures(run)                           # where it left what is known, and what was expected there

habits = Habits()
for calls in runs: habits.feed(calls)           # each a sequence of calls
habits.signs(calls), habits.score(calls)        # what may be wrong with one, and how unusual it is by that
"""

from weft.trace.automata.evidence import ChiSquare, Hoeffding
from weft.trace.automata.export import to_dot, to_pnml
from weft.trace.automata.habits import Habits
from weft.trace.automata.learner import Learner
from weft.trace.automata.merging import merged
from weft.trace.automata.model import Automaton, Departure
from weft.trace.automata.signs import Sign, Tails
from weft.trace.automata.symbols import Call, calls_of_run, symbols_of_calls, symbols_of_run

__all__ = [
    "Automaton", "Call", "ChiSquare", "Departure", "Habits", "Hoeffding", "Learner", "Sign", "Tails", "calls_of_run",
    "merged", "symbols_of_calls", "symbols_of_run", "to_dot", "to_pnml",
]  # fmt: skip
