"""The laws of the house that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import weft

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "weft"
FLOORS = {
    "core": 1, "store": 1, "runtime": 2, "model": 3, "tool": 3, "agent": 4, "trace": 5, "evaluate": 5, "code": 6,
    "optimize": 6, "train": 6, "cli": 7, "web": 7,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Rooms of Weft that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""] if node.module != "weft" else [f"weft.{a.name}" for a in node.names]
        rooms |= {match[1] for name in names if (match := re.match(r"weft\.(\w+)", name))}
    return rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_arrows_point_down_and_files_have_one_idea(file: Path) -> None:
    assert file.read_text().count("\n") <= 520
    room = file.relative_to(SOURCE).parts[0]
    if room not in FLOORS:
        return  # the door
    for other in imported(file) & FLOORS.keys():
        assert FLOORS[other] <= FLOORS[room], f"{file} imports weft.{other}: an arrow that points up"
        if room == "core":
            assert other == "core", f"{file}: core imports nothing of Weft"
        if room == "store":
            assert other in ("core", "store")


def cpu(*command: str) -> float:
    """Least user and system seconds of five runs."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)"
    )
    runs = (subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True) for _ in range(5))
    return min(float(done.stdout) for done in runs)


def test_the_door_is_light() -> None:
    bare = cpu(sys.executable, "-c", "pass")
    assert cpu(sys.executable, "-c", "import weft") - bare <= 0.150
    assert cpu(sys.executable, "-c", "import weft; weft.step; weft.workflow; weft.run") - bare <= 0.250
    assert cpu(str(Path(sys.executable).parent / "weft"), "--help") <= 0.300


def test_import_brings_nothing_heavy() -> None:
    code = "import sys, weft; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"typer", "rich", "sqlite3", "httpx2", "pydantic", "xllamacpp", "numpy"}
    assert not heavy & set(done.stdout.split())


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in weft.__all__:
        value = getattr(weft, name)
        assert value.__doc__, f"weft.{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        weft.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    forbidden = re.compile(r"(?<![\w.])/(?:work|root|opt/pypi)[/-]\w")
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if name == "tests/test_repository.py" or not file.is_file() or file.suffix in (".gz", ".png"):
            continue
        found = forbidden.search(file.read_text(errors="replace"))
        assert found is None, f"{name}: {found}"
