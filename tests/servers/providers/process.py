"""The providers in a process of their own, for whoever measures its own."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from tests.servers.providers.fault import Fault, Faults
from tests.servers.providers.rules import Received
from tests.servers.providers.script import Turn
from tests.servers.providers.server import KEY, base_of


class InProcess:
    """The same in a process of its own."""

    def __init__(self, *turns: Turn, faults: Sequence[Fault | Faults | None] = (), key: str = KEY) -> None:
        self.key = key
        self.port = 0
        self._plan = msgspec.json.encode({"turns": turns, "faults": faults, "key": key})
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def base(self, provider: str) -> str:
        """The base URL as users of this provider write it."""
        return self.url + base_of(provider)

    def __enter__(self) -> Self:
        root = Path(__file__).resolve().parents[3]
        command = [sys.executable, "-m", "tests.servers.providers"]
        self._child = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write(self._plan + b"\n")
        self._child.stdin.flush()
        self.port = int(self._child.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child is not None and self._child.stdin and self._child.stdout
        self._child.stdin.close()  # at which it ends
        self._child.wait(30)
        self._child.stdout.close()

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def requests(self) -> list[Received]:
        with urllib.request.urlopen(f"{self.url}/-/requests", timeout=30) as answer:
            return msgspec.json.decode(answer.read(), type=list[Received])
