"""A folder with a program and the `weft` command in it, as a user has them: real processes, real signals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WEFT = str(Path(sys.executable).parent / "weft")


class Terminal:
    """`store`: WEFT_STORE, if that is set. No policy but the default one and what the words say."""

    def __init__(self, folder: Path, program: str, store: str | None = None) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
        self.store = store or str(folder / ".weft" / "journal.db")
        if store is not None:
            self.environment["WEFT_STORE"] = store
        self.children: list[subprocess.Popen[str]] = []
        self.write(program)

    def close(self) -> None:
        """Leave nothing behind."""
        for child in self.children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    def write(self, program: str) -> None:
        (self.folder / "shop.py").write_text(program)

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run `weft`, check its exit code, return what it printed (of one that failed, on stderr)."""
        done = subprocess.run(
            [WEFT, *words], cwd=self.folder, capture_output=True, text=True, timeout=60, env=self.environment
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout if done.stdout or not code else done.stderr

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))

    def begin(self, *words: str) -> tuple[subprocess.Popen[str], str]:
        """Start `weft run` or `resume` in the background: the process, and the run's id."""
        with (self.folder / "said").open("w") as said:
            child = subprocess.Popen(
                [WEFT, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
                text=True, env=self.environment, start_new_session=True,
            )  # fmt: skip
        self.children.append(child)
        while not (found := re.search(r"^run (\w+) ", self.said(), re.MULTILINE)):
            assert child.poll() is None, self.said()
            time.sleep(0.01)
        return child, found[1]

    def said(self) -> str:
        """What the run that was begun last has printed on stderr."""
        return (self.folder / "said").read_text()

    def asked(self, text: str = "", seconds: float = 30) -> Any:
        """The open question with `text` in it, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while True:
            found = [one for one in self.json("inbox") if text in one["text"]]
            if found:
                return found[0]
            assert time.monotonic() < deadline, f"nobody asked {text!r}"
            time.sleep(0.05)

    def lines(self, name: str = "log") -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []
