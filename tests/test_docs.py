"""The README's program and the tutorial do what they say: their files are written, their commands run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.M | re.S)


def run(command: str, folder: Path) -> tuple[int, str]:
    words = shlex.split(command)
    words[0] = {"python": sys.executable, "weft": str(Path(sys.executable).parent / "weft")}.get(words[0], words[0])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")} | {"COLUMNS": "160"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stdout if done.returncode in (0, -9) else done.stdout + done.stderr


def fits(expected: str, actual: str) -> bool:
    """Line by line; `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.search(pattern, actual, re.S) is not None


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tutorial.md",
        "docs/how-to/files-and-output.md",
        "docs/how-to/tools.md",
        "docs/how-to/mcp.md",
        "docs/how-to/slow-tools.md",
        "docs/how-to/agents.md",
        "docs/how-to/model-written-programs.md",
    ],
)
def test_the_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    commands = 0
    for language, title, body in BLOCK.findall((ROOT / page).read_text()):
        if title:
            (tmp_path / title).write_text(body)
        elif language == "console" and body.startswith("$ "):
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                command, _, expected = part.partition("\n")
                code, output = run(command, tmp_path)
                commands += 1
                if expected.startswith("exit: "):
                    assert code == int(expected.removeprefix("exit: ")), output
                else:
                    assert code == 0, f"{command}: {output}"
                    assert fits(expected, output), f"{command} printed\n{output}\nnot\n{expected}"
    assert commands >= 1


def test_every_python_block_of_the_docs_compiles() -> None:
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "src/weft/AGENTS.md"]
    blocks = [
        (page, body)
        for page in pages
        if page.exists()
        for kind, _, body in BLOCK.findall(page.read_text())
        if kind == "python"
    ]
    assert len(blocks) > 10
    for page, body in blocks:
        compile(body, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
