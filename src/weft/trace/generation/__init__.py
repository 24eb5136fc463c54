"""The runs that are needed: a generator learnt from traces makes more of them, of the kinds that are asked for.

cases = read_cases(Path("log.xes"))                                # or cases_of_runs(store, runs)
generator = fit(cases)                                             # a conditional variational auto-encoder, on the CPU
more = generator.generate(1000, where={"outcome": "failed", "length": "long"}, valid=Validity.of(cases))
"""

from weft.trace.generation.cases import Case, Event, cases_of_runs, read_cases, write_cases
from weft.trace.generation.generator import Generator, Settings, Step, fit
from weft.trace.generation.validity import Likelihood, Rule, Validity, rules_of

__all__ = [
    "Case", "Event", "Generator", "Likelihood", "Rule", "Settings", "Step", "Validity", "cases_of_runs", "fit",
    "read_cases", "rules_of", "write_cases",
]  # fmt: skip
