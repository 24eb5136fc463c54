"""The embedded engine and the one client, on the real small model."""

from __future__ import annotations

import asyncio
import enum
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic
import pytest

import weft
import weft.model
from tests.programs import drive
from weft.core.errors import (
    BadInput,
    BudgetExceeded,
    Denied,
    EngineUnfit,
    MissingExtra,
    ModelCrashed,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    PromptTooLong,
)
from weft.model import Model, Reply
from weft.model.engine import Host, LlamaServer, shared_host, shared_server


@pytest.fixture(scope="module", autouse=True)
def end_engines() -> Iterator[None]:
    yield
    weft.model.close()


@pytest.fixture
def model() -> Model:
    return weft.model.local("smollm2-135m", context=1024)


@pytest.fixture
def host() -> Host:
    return shared_host(weft.model.fetch("smollm2-135m"), slots=4, context=1024)


def chat(model: Model, *args: object, **kwargs: object) -> Reply:
    return asyncio.run(model.chat(*args, **kwargs))  # type: ignore[arg-type]


@dataclass
class Person:
    name: str
    age: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Order(pydantic.BaseModel):
    item: Literal["tea", "coffee"]
    cups: int


def test_a_chat_says_what_it_took_and_repeats_itself(model: Model) -> None:
    first = chat(model, "Say hello.", max_tokens=8)
    again = chat(model, [{"role": "user", "content": "Say hello."}], max_tokens=8)
    assert first.text == again.text != ""
    assert first.output_tokens == 8 and first.finish == "length" and first.input_tokens > 8 and first.seconds > 0


def test_types_and_schemas_shape_the_answer(model: Model) -> None:
    assert chat(model, "Pick a colour.", schema=Colour, max_tokens=8).data in Colour
    assert chat(model, "Yes or no?", schema=Literal["yes", "no"], max_tokens=8).data in ("yes", "no")
    assert chat(model, "Ann is 31 years old.", schema=Person, max_tokens=40).data == Person("Ann", 31)
    assert isinstance(chat(model, "Two cups of tea.", schema=Order, max_tokens=40).data, Order)
    assert chat(
        model, "Count.", schema={"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}
    ).data == [1, 1]


def test_an_answer_cut_short_says_so(model: Model) -> None:
    with pytest.raises(ModelError, match=r"does not fit the schema.*raise max_tokens"):
        chat(model, "Ann is 31 years old.", schema=Person, max_tokens=2)


def test_a_schema_that_cannot_be_enforced_is_an_error(model: Model) -> None:
    with pytest.raises(BadInput, match=r"cannot be enforced.*/nowhere"):
        chat(model, "x", schema={"$ref": "#/nowhere"})
    with pytest.raises(BadInput, match="has no JSON schema"):
        chat(model, "x", schema=LlamaServer)


def test_eight_at_once_answer_as_one_by_one(model: Model) -> None:
    prompts = [f"Write one word about the number {n}." for n in range(8)]

    async def together() -> list[str]:
        return [r.text for r in await asyncio.gather(*(model.chat(p, max_tokens=6) for p in prompts))]

    assert asyncio.run(together())[::3] == [chat(model, p, max_tokens=6).text for p in prompts[::3]]


def test_a_prompt_that_is_too_long_is_refused_with_counts(model: Model) -> None:
    with pytest.raises(PromptTooLong, match=r"has [23]\d\d\d tokens, and its context holds 1024"):
        chat(model, "hello " * 2500)


def test_classify_gives_one_of_the_labels(model: Model) -> None:
    examples = [("The cat sleeps.", "animal"), ("The car is red.", "machine"), ("A dog barks.", "animal")]
    label = asyncio.run(model.classify("The horse runs.", ["animal", "machine"], examples=examples))
    assert label in ("animal", "machine")
    with pytest.raises(BadInput, match="at least two"):
        asyncio.run(model.classify("x", ["one"]))


def test_neutral_texts_take_a_habit_off(model: Model) -> None:
    """One label is given for everything by habit; with the habit measured, each text gets its own."""
    examples = [("Add a button", "new"), ("Fix a crash", "repair"), ("Add a menu", "new"), ("Fix a leak", "repair")]
    neutral = ["Add a colour", "Fix a bug", "Add a file", "Fix the clock"]
    classifier = weft.model.Classifier(model, ["new", "repair"], examples=examples, neutral=neutral)

    async def both() -> list[str]:
        return await asyncio.gather(classifier("Add a window"), classifier("Fix a hang"))

    assert asyncio.run(both()) == ["new", "repair"]


def test_generations_go_on_when_the_engine_is_killed(model: Model, host: Host) -> None:
    chat(model, "Hi.", max_tokens=1)
    before, drawn = host.engine.pid, host.batcher.drawn
    assert before is not None

    async def killed() -> list[Reply]:
        story = [asyncio.create_task(model.chat(f"A story of {n}.", max_tokens=40)) for n in range(3)]
        while host.batcher.drawn < drawn + 30:
            await asyncio.sleep(0.01)
        os.kill(before, signal.SIGKILL)
        return await asyncio.gather(*story)

    replies = asyncio.run(killed())
    assert all(reply.text and (reply.output_tokens == 40 or reply.finish == "stop") for reply in replies)
    assert host.engine.pid not in (None, before) and host.engine.crashes == 1


def test_an_engine_that_is_closed_in_mid_generation_says_so(model: Model) -> None:
    async def closed() -> None:
        story = asyncio.create_task(model.chat("A long story.", max_tokens=800))
        await asyncio.sleep(0.5)
        weft.model.close()
        with pytest.raises(ModelCrashed, match="was closed during a generation; call again"):
            await story

    asyncio.run(closed())
    assert chat(model, "Hi.", max_tokens=2).output_tokens == 2


def test_a_generation_has_a_time_limit_and_its_slot_is_free_again(model: Model) -> None:
    with pytest.raises(ModelTimeout, match=r"did not answer within 0\.3 s"):
        chat(model, "Tell a very long story.", max_tokens=900, timeout=0.3)
    assert chat(model, "Hi.", max_tokens=2).output_tokens == 2


def test_where_the_library_is_another_its_server_answers_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("weft.model.engine.abi.VERSION", "1.2.3")
    model = weft.model.local("smollm2-135m", slots=1, context=512)
    assert chat(model, "Hi.", max_tokens=2).output_tokens == 2
    assert chat(model, "Yes or no?", schema=Literal["yes", "no"], temperature=0, max_tokens=40).data in ("yes", "no")
    assert [record.message for record in caplog.records if "known of 1.2.3 only" in record.message] == [
        caplog.records[0].message
    ]
    with pytest.raises(EngineUnfit, match=r"known of 1\.2\.3 only"):
        chat(model, "Hi.", deterministic=True)


def test_the_fallback_is_an_openai_compatible_server_with_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = shared_server("smollm2-135m", weft.model.fetch("smollm2-135m"), 1, 512)
    address = engine.address()
    assert address.url.startswith("http://127.0.0.1:")
    assert address.key not in Path(f"/proc/{engine.pid}/cmdline").read_text()
    remote = weft.model.open(f"{address.url}/v1", "any")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        chat(remote, "Hi.")
    monkeypatch.setenv("OPENAI_API_KEY", address.key)
    assert chat(remote, "Hi.", max_tokens=2).output_tokens == 2
    assert chat(remote, "Yes or no?", schema=Literal["yes", "no"], temperature=0, max_tokens=40).data in ("yes", "no")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{address.url}/v1")
    assert chat(Model("openai:any"), "Hi.", max_tokens=2).output_tokens == 2


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:9.*check the address"):
        chat(weft.model.open("http://127.0.0.1:9/v1", "any"), "Hi.")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nope", "no model named 'nope'"),
        ("http://localhost/v1", "names no model"),
        ("smollm2-135m?slots=0", "NAME.slots=N"),
        ("smollm2-135m?colour=1", "NAME.slots=N"),
    ],
)
def test_a_bad_model_name_is_refused_before_anything_starts(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Model(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "http://ada:pa55@host/v1#any",
        "anthropic+https://pa55@host#any",
        "http://a:pa55@host",
        "https://api.example.com@evil.example/v1#m",
    ],
)
def test_an_address_with_a_password_is_refused_without_showing_it(spec: str) -> None:
    with pytest.raises(BadInput, match=r"leave it out.*_API_KEY") as refused:
        Model(spec)
    assert "pa55" not in str(refused.value)
    Model("http://localhost:8000/v1/a@b#any")  # only in a path


def test_a_damaged_model_file_says_so(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF, or so it says")
    with pytest.raises(ModelUnavailable, match=r"bad\.gguf could not start \(.*damaged"):
        chat(Model(str(bad)), "Hi.")
    with pytest.raises(ModelUnavailable, match="no model file at"):
        chat(Model(str(tmp_path / "absent.gguf")), "Hi.")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else found(name))
    with pytest.raises(MissingExtra, match=r"pip install 'weft\[local\]'"):
        chat(Model("smollm2-135m?slots=3&context=311"), "Hi.")  # of which no engine runs yet


# --- rights and budgets ---------------------------------------------------------------------------------------------


@weft.workflow(name="model.asks")
async def asks(spec: str, budget: bool = False) -> object:
    try:
        return (await Model(spec).chat("Say hello.", max_tokens=8)).output_tokens
    except weft.WeftError as error:
        return error


def in_a_run(tmp_path: Path, spec: str, budget: weft.Budget | None = None, **policy: tuple[str, ...]) -> object:
    async def use(runtime: weft.Runtime) -> object:
        run = await runtime.start(asks.options(budget=budget) if budget else asks, spec)
        return await run, await runtime.ledger.left(run.id)

    place = str(tmp_path / "journal.db")
    result, left = drive(place, use, policy=weft.Policy(base="workspace", workspace=str(tmp_path), **policy))
    return (result, left) if budget else result


def test_the_local_models_are_allowed_and_hosted_ones_are_not(tmp_path: Path) -> None:
    assert in_a_run(tmp_path, "smollm2-135m?context=1024") == 8
    denied = in_a_run(tmp_path, "smollm2-135m?context=1024", deny=("model:local/smollm2-*",))
    assert isinstance(denied, Denied)
    for spec, resource in (
        ("openai:gpt-5", "openai/gpt-5"),
        ("http://LocalHost:9/v1#a/b", "localhost:9/a/b"),
        ("https://api.example.com/v1#m", "api.example.com/m"),
    ):
        denied = in_a_run(tmp_path, spec)
        assert isinstance(denied, Denied) and denied.fix == f"allow it with: --allow model:{resource}"
    assert isinstance(in_a_run(tmp_path, "http://127.0.0.1:9/v1#m", allow=("model:127.0.0.1:9/*",)), ModelUnavailable)


def test_a_model_that_is_a_file_must_be_readable(tmp_path: Path) -> None:
    denied = in_a_run(tmp_path, "/etc/models/some.gguf")
    assert isinstance(denied, Denied) and denied.action == "file.read"
    assert isinstance(in_a_run(tmp_path, "here.gguf"), ModelUnavailable)


def test_a_budget_reserves_the_tokens_it_may_take_and_takes_those_it_did(tmp_path: Path) -> None:
    spec = "smollm2-135m?context=1024"
    taken, left = in_a_run(tmp_path, spec, weft.Budget(tokens=200))  # type: ignore[misc]
    assert taken == 8 and 100 < left["tokens"] < 190
    refused, left = in_a_run(tmp_path, spec, weft.Budget(tokens=10))  # type: ignore[misc]
    assert isinstance(refused, BudgetExceeded) and left["tokens"] == 10
    nobody = "http://127.0.0.1:9/v1#m"
    failed, left = in_a_run(tmp_path, nobody, weft.Budget(tokens=100), allow=("model:**",))  # type: ignore[misc]
    assert isinstance(failed, ModelUnavailable) and left["tokens"] == 100


PARENT = """
import time, weft.model as m
from weft.model.engine import shared_host
print(shared_host(m.fetch("smollm2-135m"), slots=1, context=256).engine.pid, flush=True)
time.sleep(60)
"""


def test_the_engine_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _runs(child)
        parent.kill()
    deadline = time.monotonic() + 30
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
