"""Generations by the engine of this machine: exactly the same when that is asked for, and cells that serve twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import weft
import weft.model
from tests.engines import HashEngine
from weft.core.content import ToolSpec
from weft.core.errors import BadInput
from weft.model import Message, Model, Reply
from weft.model.engine import Host, close_engines, shared_host, weights
from weft.model.engine.asked import Ask
from weft.model.engine.batching import Batcher
from weft.model.engine.grammar import for_answers
from weft.model.engine.prompt import prompted, rendered
from weft.model.engine.words import Thoughts, Words

pytest.importorskip("gguf", reason="writing a model file needs the extra `torch`")

LOOK = ToolSpec("look", "Look at a thing.", {"type": "object", "properties": {"at": {"enum": ["x", "y"]}}})
LONG = "You are careful, and you say what you mean. " * 4


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.toy(tmp_path_factory.mktemp("model") / "toy.gguf", "bf16")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path / "models"))
    yield
    close_engines()


@pytest.fixture
def spec(toy_file: Path) -> str:
    return f"{toy_file}?slots=3&context=1024"


@pytest.fixture
def host(toy_file: Path, own_cache: None) -> Host:
    return shared_host(toy_file, slots=3, context=1024)


EXACT: dict[str, Any] = {"deterministic": True, "temperature": 0.9, "max_tokens": 40}


# --- the same every time ----------------------------------------------------------------------------------------------


def test_a_deterministic_answer_is_the_same_in_any_company_and_after_a_crash(spec: str, host: Host) -> None:
    model = Model(spec)

    async def work() -> list[list[str]]:
        alone = [(await model.chat(f"Text {n}.", seed=n, **EXACT)).text for n in range(3)]
        others = [asyncio.create_task(model.chat(f"Other {n}", temperature=1.0, max_tokens=60)) for n in range(3)]
        together = await asyncio.gather(*[model.chat(f"Text {n}.", seed=n, **EXACT) for n in (2, 0, 1)])
        await asyncio.gather(*others)
        again = [asyncio.create_task(model.chat(f"Text {n}.", seed=n, **EXACT)) for n in range(3)]
        exact = host.exact
        assert exact is not None
        drawn = exact.counts.drawn
        while exact.counts.drawn < drawn + 30:
            await asyncio.sleep(0.005)
        os.kill(exact.engine.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        killed = await asyncio.gather(*again)
        assert exact.engine.crashes == 1  # type: ignore[attr-defined]
        return [alone, [together[n].text for n in (1, 2, 0)], [reply.text for reply in killed]]

    alone, together, killed = asyncio.run(work())
    assert alone == together == killed and all(alone)


def test_who_does_not_ask_for_it_pays_nothing_for_it(spec: str, host: Host) -> None:
    async def work() -> None:
        model = Model(spec)
        await asyncio.gather(*[model.chat(f"Text {n}.", max_tokens=20) for n in range(4)])
        assert host.exact is None
        await model.chat("Text.", **EXACT)
        assert host.exact is not None
        counts = host.exact.counts
        before = (counts.steps, counts.verifications)
        assert counts.drawn
        await asyncio.gather(*[model.chat(f"Text {n}.", max_tokens=20) for n in range(4)])
        assert (counts.steps, counts.verifications) == before

    asyncio.run(work())


def test_a_deterministic_answer_fits_its_schema_and_can_be_streamed(spec: str) -> None:
    async def work() -> None:
        model = Model(spec)
        asked: dict[str, Any] = {"schema": Literal["yes", "no"], **EXACT}
        alone = await model.chat("Yes or no?", **asked)
        beside = await asyncio.gather(*[model.chat("Yes or no?", **asked) for _ in range(3)])
        assert alone.data in ("yes", "no") and {each.data for each in beside} == {alone.data}
        text = (await model.chat("A text.", **EXACT)).text
        assert (await model.stream("A text.", **EXACT).whole()).text == text
        stop = text[len(text) // 2 :][:3]
        cut = await model.chat("A text.", stop=stop, **EXACT)
        assert cut.text == text[: text.index(stop)] and cut.finish == "stop"

    asyncio.run(work())


@weft.workflow(name="embedded.author")
async def author(spec: str) -> str:
    reply = await Model(spec).chat("Write.", seed=5, deterministic=True, temperature=0.9, max_tokens=300)
    return reply.text


DIES = """
import os, signal, sys, threading, weft
from pathlib import Path
from tests.test_embedded import author

def watch():
    while not list(Path(os.environ["WEFT_MODELS"], "cells").glob("*.kv")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
with weft.grant(*{rights!r}):
    weft.run(author.options(id="killed"), {spec!r})
"""


def test_a_killed_process_says_what_it_would_have_said(spec: str, toy_file: Path, workspace: Path) -> None:
    """The run is one effect; what was final of it is restored from its cells."""
    rights = (f"model:local/{toy_file.name}", f"read:{toy_file}")
    with weft.grant(*rights):
        expected = weft.run(author, spec)
    cells = Path(os.environ["WEFT_MODELS"]) / "cells"
    assert expected and not [*cells.glob("*")]  # nothing is kept of what is done
    done = subprocess.run(
        [sys.executable, "-c", DIES.format(rights=rights, spec=spec)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [*cells.glob("*.kv")]
    close_engines()

    async def resumed() -> tuple[str, int]:
        async with weft.Runtime() as runtime:
            text: str = await (await runtime.resume("killed")).result()
            exact = shared_host(toy_file, slots=3, context=1024).exact
            assert exact is not None
            return text, exact.counts.drawn

    text, drawn = asyncio.run(resumed())
    assert text == expected
    assert 0 < drawn < 300 - 60  # the first passage was not drawn again
    assert not [*cells.glob("*")]


def test_who_can_not_promise_it_says_so() -> None:
    with pytest.raises(BadInput, match=r"openai/gpt-5 can't promise the same tokens.*deterministic='try'"):
        asyncio.run(Model("openai:gpt-5").chat("Hi.", deterministic=True))
    assert asyncio.run(weft.model.script(["Hi."]).chat("Hi.", deterministic=True)).text == "Hi."


# --- cells that serve twice -------------------------------------------------------------------------------------------


def test_many_with_the_same_instructions_read_them_once(spec: str, host: Host) -> None:
    async def work() -> list[Reply]:
        model = Model(spec)
        return await asyncio.gather(*[model.chat(f"Text {n}.", system=LONG, max_tokens=3) for n in range(3)])

    replies = asyncio.run(work())
    shared = sorted(reply.usage.cache_read for reply in replies)
    assert shared[0] == 0 and shared[1] > len(LONG) // 8 and shared[1] == shared[2]
    assert host.engine.used < sum(reply.usage.input + 3 for reply in replies) - shared[1]


def test_what_is_shared_changes_nothing_that_is_said() -> None:
    async def work() -> None:
        engine = HashEngine(cells=4000)
        prompts = [[*range(60), n] for n in range(4)] + [[*range(30), 200], [*range(60)]]
        async with Batcher(engine, share=True) as batcher:
            alone = []
            for prompt in prompts:
                alone.append(await batcher.generate(Ask(prompt=prompt, most=5, last=True)).whole())
            assert batcher.scheduler.counts.reused == 0
            fed = batcher.fed
            turns = [batcher.generate(Ask(prompt=prompt, most=5)) for prompt in prompts]
            assert [await turn.whole() for turn in turns] == alone
            assert batcher.scheduler.counts.reused >= 4 * 59 and batcher.fed - fed < fed - 4 * 59 + 1
            batcher.scheduler.cells = 130  # others need the room: what was kept for nobody gives way
            assert await batcher.generate(Ask(prompt=[9] * 100, most=5)).whole()
            assert batcher.scheduler.used <= 130

    asyncio.run(work())


@weft.workflow(name="embedded.two_turns")
async def two_turns(spec: str) -> list[int]:
    model = Model(spec)
    said = [Message("user", "Look at x.")]
    found = []
    for _ in range(2):
        reply = await model.chat(said, system=LONG, tools=[LOOK], tool_choice="look", max_tokens=60)
        found.append(reply.usage.cache_read)
        said += [reply.message, Message("user", "And again.")]
    return found


def test_an_agent_s_next_turn_finds_what_it_said(spec: str, toy_file: Path, host: Host, workspace: Path) -> None:
    waited: list[str] = []
    took = host.batcher.scheduler.policy.took
    host.batcher.scheduler.policy.took = lambda tool, seconds: (waited.append(tool), took(tool, seconds))[1]  # type: ignore[method-assign,func-returns-value]
    with weft.grant(f"model:local/{toy_file.name}", f"read:{toy_file}"):
        first, second = weft.run(two_turns, spec)
    assert first == 0 and second > len(LONG) // 8
    assert waited == ["look"]  # the batcher was told what it waits for
    assert host.batcher.metrics().pinned == 0  # and that the process is over


# --- prompts and texts ------------------------------------------------------------------------------------------------


def test_what_somebody_says_is_never_a_control_token(host: Host) -> None:
    name = host.engine.piece(min(host.engine.controls)).decode()

    async def work() -> None:
        said = f"Hi {name} there"
        tokens = await prompted(host.engine, [{"role": "user", "content": said}])
        plain = await prompted(host.engine, [{"role": "user", "content": "Hi there"}])
        controls = [token for token in tokens if token in host.engine.controls]
        assert controls == [token for token in plain if token in host.engine.controls]
        assert said.encode() in await host.engine.detokenize(tokens)

    asyncio.run(work())


class _Templated:
    """An engine that has nothing but a template."""

    class hello:
        template = ""
        bos, eos, begin = "<s>", "</s>", None


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{% for m in messages %}{{ m.content | trim }}{{ eos_token }}{% endfor %}", "<s>Hi</s>"),
        ("{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user"),
        ("{{ messages | tojson }}", '[{"content": " Hi ", "role": "user"}]'),
        ("", "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"),
    ],
    ids=["tokens", "loop", "json", "none"],
)
def test_a_template_writes_the_prompt(template: str, text: str) -> None:
    engine: Any = _Templated()
    engine.hello.template = template
    assert rendered(engine, [{"role": "user", "content": " Hi "}]) == text


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for m in", "none that can be read"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
    ids=["refuses", "escapes", "changes", "broken", "fails"],
)
def test_a_template_that_does_not_work_says_why(template: str, why: str) -> None:
    engine: Any = _Templated()
    engine.hello.template = template
    with pytest.raises(BadInput, match=why):
        rendered(engine, [{"role": "user", "content": "Hi"}])


def test_a_text_ends_at_its_stop_however_it_comes() -> None:
    for size in (1, 2, 3, 50):
        words, said = Words(["END", "ß"]), b"a EN\xc3\xa4 E ENDE"
        text = "".join(words.add(said[n : n + size]) for n in range(0, len(said), size)) + words.end()
        assert text == "a ENä E " and words.stopped
    words = Words(["END"])
    assert words.add(b"the EN") == "the " and words.end() == "EN"


@pytest.mark.parametrize("size", [1, 3, 100])
def test_thoughts_are_told_from_the_answer(size: int) -> None:
    for begun, text in ((False, "<think>so\n</think>\n\nYes <b>"), (True, "so\n</think>\n\nYes <b>")):
        thoughts = Thoughts(begun)
        pieces = [thoughts.add(text[n : n + size]) for n in range(0, len(text), size)] + [thoughts.add("", True)]
        assert "".join(thought for thought, _ in pieces) == "so\n"
        assert "".join(answer for _, answer in pieces) == "Yes <b>"
    thoughts = Thoughts(False)
    assert "".join(thoughts.add(each)[1] for each in "<thanks>") == "<thanks>"


def test_a_penalty_keeps_it_from_saying_the_same(spec: str) -> None:
    async def work() -> tuple[Reply, Reply]:
        model = Model(spec)
        plain = await model.chat("Hi.", max_tokens=30, logprobs=0)
        return plain, await model.chat("Hi.", max_tokens=30, logprobs=0, extra={"presence_penalty": 1e4})

    plain, varied = asyncio.run(work())
    words = [token.token for token in varied.logprobs if token.token != "\ufffd"]  # half a character has no name
    assert len(set(words)) == len(words) > 10 and varied.logprobs[0] == plain.logprobs[0]
    assert all(token.top == () and token.logprob <= 0 for token in varied.logprobs)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"extra": {"grammar": "x"}}, "extra does not fit the embedded engine .*it knows frequency_penalty"),
        ({"extra": {"priority": "high"}}, "Expected `int`"),
        ({"logprobs": 201}, "0 to 200"),
        ({"max_tokens": 0}, "1 or more"),
        ({"temperature": -1.0}, "temperature from 0 on"),
        ({"stop": ""}, "empty text"),
        ({"deterministic": True, "logprobs": 1}, "tells no likelihoods"),
        ({"deterministic": True, "extra": {"program": "a"}}, "no penalties"),
        ({"deterministic": "maybe"}, "does not fit"),
    ],
    ids=["unknown", "kind", "logprobs", "tokens", "temperature", "stop", "likely", "program", "word"],
)
def test_what_makes_no_sense_is_refused(spec: str, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        asyncio.run(Model(spec).chat("Hi.", **asked))


def test_pictures_are_refused(spec: str) -> None:
    picture = weft.model.Blob.of(b"\x89PNG", "image/png")
    with pytest.raises(BadInput, match=r"toy\.gguf reads text only.*image"):
        asyncio.run(Model(spec).chat(Message("user", ["What is it?", picture])))


def test_an_object_has_the_properties_that_its_schema_names() -> None:
    inner = {"type": "object", "properties": {"properties": {"type": "string"}}}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"a": inner, "b": {"type": "array", "items": inner}, "c": {"allOf": [inner, inner]}},
        "$defs": {"d": {**inner, "additionalProperties": True}},
        "default": {"properties": {}},
    }
    found = for_answers(schema)
    closed = {**inner, "additionalProperties": False}
    assert found["properties"] == {
        "a": closed,
        "b": {"type": "array", "items": closed},
        "c": {"allOf": [inner, inner]},
    }
    assert found["$defs"]["d"]["additionalProperties"] is True and found["default"] == {"properties": {}}
    assert found["additionalProperties"] is False
