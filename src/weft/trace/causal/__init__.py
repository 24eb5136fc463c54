"""Chains: what came of what, over processes, artefacts and time; whether the order can be; and what happened before.

chain = await chain_of(store, run)              # events of a run and its children, with what each came from
violations(chain)                               # an effect before its cause, an actor in two places
past = Failures(earlier)                        # failures of earlier runs
past.like(failure)                              # those that are the same, the likest first; often none
"""

from weft.trace.causal.events import Event, ancestry, artefacts, chain_of
from weft.trace.causal.order import Violation, violations
from weft.trace.causal.recurrence import Embed, Failure, Failures, Recurrence
from weft.trace.causal.simulate import simulated

__all__ = [
    "Embed", "Event", "Failure", "Failures", "Recurrence", "Violation", "ancestry", "artefacts", "chain_of",
    "simulated", "violations",
]  # fmt: skip
