"""`weft models`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weft.cli.app import app
from weft.model import fetch
from weft.model.catalogue import catalogue, embeddings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weft(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["models", *words])
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout


def test_the_models_of_this_machine_are_listed() -> None:
    fetch("smollm2-135m")
    rows = {row["name"]: row for row in json.loads(weft("--json"))}
    assert rows.keys() == {*catalogue, *embeddings}
    assert rows["smollm2-135m"]["here"] and rows["smollm2-135m"]["makes"] == "text"
    assert rows["minilm"]["makes"] == "vectors" and rows["minilm"]["dimensions"] == 384
    words = weft()
    assert "smollm2-135m" in words and "98 MB, here" in words and "WordLlama" in words


def test_an_empty_cache_says_what_will_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path))
    assert not any(row["here"] for row in json.loads(weft("--json")))
    assert "1,117 MB, fetched when first used" in weft()


def test_the_price_of_a_model_and_where_it_is_written() -> None:
    found = json.loads(weft("gemini:gemini-2.5-pro", "--json"))
    assert found["per_million"]["input"] == 1.25 and found["per_million"]["above"]["tokens"] == 200_000
    words = weft("gemini:gemini-2.5-pro")
    assert "input        1.25" in words and "more than 200,000 tokens" in words and "by genai-prices" in words
    assert json.loads(weft("openai:gpt-5-2025-08-07", "--json"))["priced_as"] == "gpt-5"
    for free in ("smollm2-135m", "minilm"):
        assert json.loads(weft(free, "--json"))["per_million"] == {"input": 0.0, "output": 0.0}
    Path("weft.toml").write_text('[prices."gpu.example"]\n"*" = { input = 0.5 }\n')
    found = json.loads(weft("https://gpu.example/v1#any", "--json"))
    assert found["table"] == "weft.toml" and found["per_million"]["input"] == 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("openai:gpt-nope", 'no table has a price of gpt-nope at openai; write one into weft.toml: [prices."openai"]'),
        ("nope", "no model named 'nope'"),
    ],
)
def test_an_unknown_price_says_how_to_give_one(spec: str, message: str) -> None:
    assert message in weft(spec, code=2)


def test_a_wrong_table_is_said() -> None:
    Path("weft.toml").write_text("prices = 3\n")
    assert "weft.toml: prices is no table of prices" in weft("openai:gpt-5", code=2)
