"""Threads inside one generation: the machine, the engine whose forks share the prefix, and servers' completions."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
import weft.model
from tests.programs import drive
from weft.core.errors import BadInput, Denied, EngineUnfit, ModelError, OutOfCells
from weft.core.record import Outcome
from weft.model import Woven
from weft.model.engine import Feed, LocalEngine, Sampling, Told, open_engine, shared_server
from weft.model.engine.threads import EngineHand, Run, Written, decode, numbers_of, spread, weave

T = TypeVar("T")
SPEC = "smollm2-135m?slots=2&context=512"
PREFIX = "Tom went to three shops. "


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture(scope="module", autouse=True)
def end_engines() -> Iterator[None]:
    yield
    weft.model.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    engine = run(open_engine(weft.model.fetch("smollm2-135m"), cells=1024, sequences=16))
    yield engine
    engine.shut()


# --- the machine ----------------------------------------------------------------------------------------------------


class Scripted:
    """A hand that writes what it was told to: texts for going on, and for each fork by its number."""

    def __init__(self, trunk: list[Written], forks: dict[str, Written]) -> None:
        self.text = "P"
        self.trunk, self.forks = trunk, forks
        self.seen: list[str] = []

    async def go_on(self, stop: str, most: int) -> Written:
        assert stop == "</Outlines>"
        written = self.trunk.pop(0)
        self.text += written.text
        return written

    async def fork(self, heads: Sequence[str], stops: Sequence[str], most: int) -> list[Written]:
        assert list(stops) == ["</Thread>"]
        self.seen += [self.text + head for head in heads]
        return [self.forks[head.removeprefix("\n<Thread>\n").removesuffix(":")] for head in heads]

    async def join(self, heads: Sequence[str], parts: Sequence[Written], tail: str) -> str:
        joined = "".join(head + part.text for head, part in zip(heads, parts, strict=True)) + tail
        self.text += joined
        return joined


PLAN = "<Outlines>\n<Outline>1: a</Outline>\n<Outline>2.1: b</Outline>\n</Outlines>"


def test_outlines_are_written_at_once_and_joined_in_order() -> None:
    hand = Scripted(
        [Written(PLAN, 10, "stop"), Written("\n</Parallel> so", 4, "end")],
        {"1": Written(" one</Thread>", 3, "stop"), "2.1": Written(" two two</Thread>", 5, "stop")},
    )
    woven = run(weave(hand, 100))
    threads = "\n<Thread>\n1: one</Thread><Thread>\n2.1: two two</Thread>\n"
    assert woven.text == PLAN + threads + "\n</Parallel> so" and hand.text == "P" + woven.text
    assert hand.seen == [f"P{PLAN}\n<Thread>\n1:", f"P{PLAN}\n<Thread>\n2.1:"]
    assert (woven.count, woven.longest, woven.finish) == (22, 19, "end")
    assert [thread.text for thread in woven.threads] == [" one</Thread>", " two two</Thread>"]


def test_a_text_without_outlines_is_a_text() -> None:
    assert run(weave(Scripted([Written("just words", 3, "end")], {}), 9)) == Woven("just words", (), 3, 3, "end")
    unfinished = run(weave(Scripted([Written("<Outlines><Outline>1: a", 9, "length")], {}), 9))
    assert unfinished.finish == "length" and unfinished.threads == ()
    nothing = run(weave(Scripted([Written("<Outlines></Outlines>", 4, "stop")], {}), 9))
    assert nothing.text == "<Outlines></Outlines>" and nothing.threads == ()


def test_a_thread_without_an_end_ends_all_and_so_does_the_most(engine: LocalEngine) -> None:
    parts = {"1": Written(" one", 30, "length"), "2.1": Written(" two</Thread>", 5, "stop")}
    woven = run(weave(Scripted([Written(PLAN, 10, "stop")], parts), 100))
    assert woven.finish == "length" and woven.text.endswith("1: one<Thread>\n2.1: two</Thread>\n")
    parts["1"] = Written(" one</Thread>", 30, "stop")
    assert run(weave(Scripted([Written(PLAN, 10, "stop")], parts), 45)).finish == "length"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=3), max_size=6), st.text(max_size=20))
def test_numbers_are_those_of_the_last_outlines(numbers: list[list[int]], noise: str) -> None:
    names = [".".join(map(str, number)) for number in numbers]
    lines = "".join(f"<Outline> {name} : {noise}</Outline>\n" for name in names)
    text = f"{noise}<Outlines><Outline>7:x</Outline></Outlines>{noise}<Outlines>{lines}</Outlines>"
    assert numbers_of(text) == list(dict.fromkeys(names))
    assert numbers_of(lines) == []


# --- the engine -----------------------------------------------------------------------------------------------------


def test_threads_write_what_each_would_alone(engine: LocalEngine) -> None:
    """The same tokens, in as many steps as the longest takes, and the prefix is there once."""
    heads = ["First, he", "Second, he bought", "At the third shop"]
    sampling = Sampling(temperature=0.7, seed=5)

    async def together() -> tuple[Woven, int, int, int]:
        sequence = await engine.sequence()
        prompt = await engine.tokenize(PREFIX)
        steps, most = engine.steps, 0
        real = engine.step

        async def counted(feeds: list[Feed]) -> list[Told]:
            nonlocal most
            told = await real(feeds)
            most = max(most, engine.used)
            return told

        engine.step = counted  # type: ignore[method-assign]
        try:
            woven = await spread(EngineHand(engine, sequence, prompt, sampling), heads, ["."], 9)
        finally:
            del engine.step  # type: ignore[method-assign]
        assert sequence.tokens == prompt
        await sequence.close()
        return woven, engine.steps - steps, most, len(prompt)

    woven, steps, most, prefix = run(together())
    assert len({thread.text for thread in woven.threads}) == 3
    longest = max(thread.count for thread in woven.threads)
    assert steps <= longest + 2 and woven.longest == longest
    assert most <= prefix + sum(thread.count + 6 for thread in woven.threads)
    for n, thread in enumerate(woven.threads):

        async def alone(n: int = n) -> Woven:
            sequence = await engine.sequence()
            hand = EngineHand(engine, sequence, await engine.tokenize(PREFIX), sampling)
            return await spread(hand, [*["x"] * n, heads[n]], ["."], 9)

        assert run(alone()).threads[n] == thread


class Forced:
    """The engine, whose draws are made to follow a script: a function of the text so far to the text that comes."""

    def __init__(self, engine: LocalEngine, script: Callable[[str], str]) -> None:
        self.real, self.script = engine, script

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def step(self, feeds: list[Feed]) -> list[Told]:
        told = await self.real.step(feeds)
        return [Told([await self._next(feed)] if heard.tokens else []) for feed, heard in zip(feeds, told, strict=True)]

    async def _next(self, feed: Feed) -> int:
        words = (await self.real.detokenize(feed.sequence.tokens)).decode()
        coming = self.script(words)
        return (await self.real.tokenize(coming))[0] if coming else min(self.real.end)


def scripted(text: str) -> str:
    """A model that outlines two threads, writes them, and comes to an end. It goes beyond the marks, too."""
    whole = f"{PREFIX}{PLAN}"
    if whole.startswith(text):
        return f"{whole}>>"[len(text) :]
    head, _, thread = text.rpartition("<Thread>\n")
    if head and "</Thread>" not in thread:
        full = f"{thread[: thread.index(':')]}: my part.</Thread>>"
        return full[len(thread) :] if full.startswith(thread) else ""
    end = "</Thread>\n\n</Parallel> Done."
    return end[len(text) - text.rindex("</Thread>") :]


def test_a_whole_weave_on_the_engine(engine: LocalEngine) -> None:
    async def steps() -> None:
        sequence = await engine.sequence()
        forced: Any = Forced(engine, scripted)
        hand = EngineHand(forced, sequence, await engine.tokenize(PREFIX))
        woven = await weave(hand, 200)
        threads = "\n<Thread>\n1: my part.</Thread><Thread>\n2.1: my part.</Thread>\n"
        assert woven.text == f"{PLAN}{threads}\n</Parallel> Done." and woven.finish == "end"
        there = (await engine.detokenize(sequence.tokens)).decode()
        assert (PREFIX + woven.text).startswith(there) and len(there) > len(PREFIX + woven.text) - 8
        await sequence.close()

    run(steps())


def test_runs_end_at_a_stop_that_is_split_over_tokens_or_at_the_most(engine: LocalEngine) -> None:
    async def steps() -> None:
        forced: Any = Forced(engine, lambda text: "abc STOP def"[len(text) - 1 :] if len(text) < 12 else "")
        one, two, three = [await engine.sequence() for _ in range(3)]
        start = await engine.tokenize("x")
        runs = [
            Run(one, start, Sampling(), ["OP d"], 50),
            Run(two, start, Sampling(), [], 2),
            Run(three, start, Sampling(), ["é", ""], 50),
        ]
        await decode(forced, runs)
        assert [each.finish for each in runs] == ["stop", "length", "end"]
        assert len(runs[1].tokens) == 2 and runs[2].tokens[-1] in engine.end

    run(steps())


def test_threads_that_do_not_fit_leave_nothing_behind(engine: LocalEngine) -> None:
    async def steps() -> None:
        sequence = await engine.sequence()
        hand = EngineHand(engine, sequence, await engine.tokenize(PREFIX))
        with pytest.raises(OutOfCells):
            await spread(hand, [str(n) for n in range(16)], [], 4)
        assert engine.used == sequence.length
        with pytest.raises(BadInput, match="at least one outline"):
            await spread(hand, [], [], 4)
        await sequence.close()

    run(steps())


# --- any model ------------------------------------------------------------------------------------------------------


@weft.workflow
async def three_shops(spec: str) -> Woven:
    model = weft.model.Model(spec)
    return await model.threads(PREFIX, ["First, he", "Second, he"], stop=".", max_tokens=12)


def test_a_workflow_s_threads_are_one_effect_of_the_engine(tmp_path: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        started = await runtime.start(three_shops, SPEC)
        woven = await started
        records = await runtime.recovery.records(started.id)
        return woven, [record.name for record in records if isinstance(record, Outcome)]

    woven, names = drive(str(tmp_path / "journal.db"), use)
    assert [thread.head for thread in woven.threads] == ["First, he", "Second, he"]
    assert woven.text == "".join(thread.head + thread.text for thread in woven.threads)
    assert all(thread.text.endswith(".") or thread.count == 12 for thread in woven.threads)
    assert names == ["threads"]


def test_a_server_writes_the_same_by_completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model behind the wheel's server: one completion for each thread."""
    server = shared_server("smollm2-135m", weft.model.fetch("smollm2-135m"), 2, 512)
    address = server.address()
    monkeypatch.setenv("OPENAI_API_KEY", address.key)
    ours = run(weft.model.Model(SPEC).threads(PREFIX, ["First, he", "Second, he"], stop=["."], max_tokens=12))
    theirs = run(
        weft.model.Model(f"{address.url}/v1#m").threads(PREFIX, ["First, he", "Second, he"], stop=["."], max_tokens=12)
    )
    for mine, other in zip(ours.threads, theirs.threads, strict=True):
        assert other.head == mine.head and other.text.rstrip(".")[:8] == mine.text.rstrip(".")[:8]


def test_without_the_library_the_server_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def unfit(*_: Any, **__: Any) -> Any:
        raise EngineUnfit("another release")

    monkeypatch.setattr("weft.model.threads.shared_engine", unfit)

    async def use(runtime: weft.Runtime) -> Any:
        started = await runtime.start(three_shops, SPEC)
        woven = await started
        records = await runtime.recovery.records(started.id)
        return woven, [record.name for record in records if isinstance(record, Outcome)]

    woven, names = drive(str(tmp_path / "journal.db"), use)
    assert names == ["threads", "complete", "complete"] and "another release" in caplog.text
    assert len(woven.threads) == 2 and woven.text.startswith("First, he")


@pytest.fixture
def completions() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that completes as `scripted` does, and cuts the stop off."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({**body, "path": self.path})
            text = "" if body["prompt"] == "bad" else scripted(body["prompt"])
            for stop in body.get("stop", []):
                text = text.split(stop)[0]
            answer = {"choices": [{"text": text, "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}
            if body["prompt"] == "bad":
                answer = {"choices": []}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1#m", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_trained_model_behind_a_server_outlines_itself(completions: tuple[str, list[dict[str, Any]]]) -> None:
    spec, asked = completions
    woven = run(weft.model.Model(spec).threads(PREFIX, max_tokens=99, temperature=0.5, top_p=0.9, top_k=7, seed=3))
    threads = "\n<Thread>\n1: my part.</Thread><Thread>\n2.1: my part.</Thread>\n"
    assert woven.text == f"{PLAN}{threads}\n</Parallel> Done." and woven.finish == "end"
    assert (woven.count, woven.longest) == (20, 15)
    assert {each["path"] for each in asked} == {"/v1/completions"} and len(asked) == 4
    assert all(each["prompt"].startswith(PREFIX) for each in asked)
    assert (asked[0]["temperature"], asked[0]["top_p"], asked[0]["top_k"], asked[0]["seed"]) == (0.5, 0.9, 7, 3)
    with pytest.raises(ModelError, match="no completion"):
        run(weft.model.Model(spec).threads("bad"))


def test_what_cannot_be_threads_is_refused(tmp_path: Path) -> None:
    model = weft.model.Model(SPEC)
    for wrong in ({"max_tokens": 0}, {"stop": ""}, {"temperature": -1}, {"top_p": 0.0}, {"top_k": -1}):
        with pytest.raises(BadInput):
            run(model.threads("x", ["y"], **wrong))  # type: ignore[arg-type]
    for spec in ("anthropic:some", "script:test"):
        with pytest.raises(BadInput, match="has no completions"):
            run(weft.model.Model(spec).threads("x", ["y"]))

    async def use(runtime: weft.Runtime) -> Any:
        return await (await runtime.start(three_shops, SPEC))

    with pytest.raises(Denied):
        drive(
            str(tmp_path / "journal.db"), use,
            policy=weft.Policy(base="workspace", workspace=str(tmp_path), deny=("model:local/**",)),
        )  # fmt: skip
