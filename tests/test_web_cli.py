"""`weft web`, `weft worker --web` and `weft export --page`, as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.page import CHANGE, Client, until

PROGRAM = """
import weft

@weft.step
async def double(number: int) -> int:
    return 2 * number

@weft.workflow
async def child(number: int) -> int:
    return await double(number)

@weft.workflow
async def main(number: int = 1) -> int:
    sure = await weft.ask("Double it, or </script>?", bool) if number > 9 else True
    return await child(number) if sure else 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page_program.py").write_text(PROGRAM)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "WEFT_STORE": str(folder / "journal.db"), "WEFT_POLICY": "all", "WEFT_WEB_TOKEN": ""}


def weft(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "weft", *words], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def serving(folder: Path, *words: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A command that serves the page; what it says of its place."""
    process = subprocess.Popen(
        [sys.executable, "-m", "weft", *words], cwd=folder, env={**environment(folder), **variables},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        said: list[str] = []
        while not (found := re.search(r"the page is at (\S+)", "".join(said))):
            line = process.stderr.readline()
            assert line, "".join(said)
            said.append(line)
        yield found[1], process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stderr.close()


def test_the_page_shows_a_run_and_forks_it(folder: Path) -> None:
    weft(folder, "run", "page_program.py:main", "--input", "number=4")
    with serving(folder, "web", "--port", "0") as (address, _):
        client = Client(address)
        run = client.get("/api/runs")["items"][0]
        assert run["state"] == "done"
        fork = client.post(f"/api/runs/{run['id']}/fork", {"at": 1, "input": {"number": 5}})
        found = until(lambda: (one := client.get(f"/api/runs/{fork['run']}"))["state"] == "done" and one)
        assert found["result"]["value"] == 10
        assert client.get(f"/api/runs/{run['id']}/template")["nodes"]


def test_a_token_is_made_said_once_and_needed(folder: Path) -> None:
    with serving(folder, "web", "--port", "0", "--token", "--read-only") as (address, _):
        place, _, token = address.partition("/#token=")
        assert len(token) >= 32
        client = Client(place)
        assert client.get("/api/runs")["status"] == 401
        status, headers, _ = client.ask("POST", "/api/session", {"token": token}, **CHANGE)
        assert status == 204
        held = headers["set-cookie"].partition(";")[0]
        assert client.get("/api/runs", Cookie=held) == {"items": [], "next": None, "partial": False}
        assert client.post("/api/runs/x/cancel", {}, Cookie=held)["error"]["code"] == "read_only"
    with serving(folder, "web", "--port", "0", WEFT_WEB_TOKEN="a-token-of-my-own-choice") as (address, _):
        assert "token" not in address
        assert Client(address).get("/api/runs", Authorization="Bearer a-token-of-my-own-choice")["items"] == []


def test_what_can_not_be_is_said(folder: Path) -> None:
    for words, variables, said in (
        (["web", "--host", "256.0.0.1"], {}, "can't listen on 256.0.0.1"),
        (["web", "--port", "70000"], {}, "65535"),
        (["web"], {"WEFT_WEB_TOKEN": "short"}, "16 characters"),
        (["export", "nobody", "--page", "out"], {}, "there is no run"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "weft", *words], cwd=folder, env={**environment(folder), **variables},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode in (2, 3) and said in done.stderr, done.stderr


def test_a_worker_serves_the_page_of_what_it_does(folder: Path) -> None:
    with serving(folder, "worker", "page_program.py", "--web", "0") as (address, _):
        client = Client(address)
        id = weft(folder, "submit", "page_program.py:main", "--input", "number=20")
        one = until(lambda: client.get("/api/inbox")["items"])[0]
        assert one["run"] == id
        assert client.post(f"/api/inbox/{one['id']}/answer", {"value": True})["run"] == id
        done = until(lambda: (run := client.get(f"/api/runs/{id}"))["state"] == "done" and run)
        assert done["result"]["value"] == 40
        with client.events(f"/api/runs/{id}/live") as events:
            assert [event.name for event in events] == ["hello", "end"]


def test_a_run_is_saved_as_a_folder(folder: Path) -> None:
    weft(folder, "run", "page_program.py:main", "--input", "number=4")
    id = json.loads(weft(folder, "ps", "--json"))[0]["id"]
    told = json.loads(weft(folder, "export", id, "--page", "out/run", "--json"))
    out = folder / "out" / "run"
    assert Path(told["file"]) == Path("out/run/index.html") and (out / "index.html").is_file()

    def data(name: str) -> tuple[str, object]:
        text = (out / "data" / f"{name}.js").read_text()
        assert text.startswith("weftData(") and text.endswith(");\n")
        path, answer = json.loads(f"[{text.removeprefix('weftData(').removesuffix(');' + chr(10))}]")
        return path, answer

    assert data("about")[1]["static"] is True  # type: ignore[index]
    path, run = data("run")
    assert path == f"/api/runs/{id}" and run["result"]["value"] == 8  # type: ignore[index]
    rows = data("rows-0")[1]["rows"]  # type: ignore[index]
    assert len(rows) == told["spans"] == data("run")[1]["total"]["effects"] + 2  # type: ignore[index]
    effects = data("effects-0")[1]
    assert {row["id"] for row in rows if row["kind"] != "process"} == set(effects)  # type: ignore[call-overload]
    for name in ("runs", "tree", "graph", "template", "costs", "logs", "memory", "buckets", "bands"):
        data(name)
