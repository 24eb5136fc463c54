"""What is read out of traces, beside its peers: `python -m benchmarks.trace NAME [DIR] [--quick] [--json FILE]`

NAME is a module beside this one that has `figures(directory, quick) -> Report`. DIR holds the data that it reads.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

DATA = Path(__file__).parents[3] / "shared" / "data"
NAMES = ("templates", "automata", "causes", "generation", "probes", "recurrence")


def main() -> int:
    there = [name for name in NAMES if find_spec(f"benchmarks.trace.{name}") is not None]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", choices=there, help=", ".join(there))
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, default=DATA, help="[default: ../shared/data]"
    )
    parser.add_argument("--quick", action="store_true", help="within 50 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    given = parser.parse_args()
    if not given.directory.is_dir():
        parser.error(f"there is no folder {given.directory}")
    return int(import_module(f"benchmarks.trace.{given.name}").figures(given.directory, given.quick).finish(given.json))


if __name__ == "__main__":
    sys.exit(main())
