"""What a generation costs: the tables that ship, and those of the user."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft.model.price
from weft.core.errors import BadInput
from weft.model.price import find, money, undated
from weft.model.request import Usage

TABLES = sorted((Path(weft.model.price.__file__).parent / "prices").glob("*.toml"))
MILLION = Usage(input=1_000_000, output=1_000_000)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEFT_PRICES", raising=False)
    monkeypatch.delenv("WEFT_CONFIG", raising=False)


# --- the tables that ship --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_shipped_table_is_dated_names_its_source_and_makes_sense(path: Path) -> None:
    data = tomllib.loads(path.read_text())
    assert data["date"].year >= 2026 and "genai-prices" in data["source"] and len(data["models"]) >= 5
    for name in data["models"]:
        found = find(path.stem, name)
        assert found is not None and found.name == name
        price = found.price
        assert price.input > 0 and price.output >= 0
        assert (price.cache_read or 0) <= price.input <= (price.cache_write or price.input)
        assert price.above is None or price.above.input > price.input


def test_the_providers_that_people_use_have_tables() -> None:
    stems = {path.stem for path in TABLES}
    assert stems >= {"openai", "anthropic", "gemini", "mistral", "deepseek", "xai", "groq"}
    assert sum(len(tomllib.loads(path.read_text())["models"]) for path in TABLES) > 200


@pytest.mark.parametrize(
    ("place", "model", "dollars"),
    [
        ("openai", "gpt-5", 11.25),
        ("openai-responses", "gpt-5-2025-08-07", 11.25),
        ("openai", "gpt-4o-2024-05-13", 20.0),  # an edition with a price of its own
        ("openai", "gpt-4o-2024-11-20", 12.5),
        ("api.openai.com", "gpt-5-mini", 2.25),
        ("anthropic", "claude-sonnet-4-20250514", 18.0),
        ("anthropic", "claude-opus-4-5@20251101", 30.0),
        ("anthropic", "claude-3-5-haiku-latest", 4.8),
        ("gemini", "models/gemini-2.5-flash-001", 2.8),
        ("generativelanguage.googleapis.com", "gemini-2.5-flash", 2.8),
        ("openai", "text-embedding-3-small", 0.02),
        ("local", "smollm2-135m", 0.0),
        ("script", "anything", 0.0),
    ],
)
def test_a_model_is_found_by_the_name_that_providers_use(place: str, model: str, dollars: float) -> None:
    assert money(place, model, MILLION) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("place", "model"),
    [("openai", "gpt-nope"), ("openai", "gpt-5-2025"), ("openai", "gpt-5-minister"), ("nowhere.example", "gpt-5"),
     ("openai", ""), ("", ""), ("../../../etc", "passwd"), ("openai", "latest"), ("gemini", "models/")],
)  # fmt: skip
def test_an_unknown_model_has_no_price_rather_than_that_of_another(place: str, model: str) -> None:
    assert money(place, model, MILLION) is None


def test_a_long_prompt_costs_more_as_a_whole() -> None:
    short, long = Usage(input=200_000, output=1000), Usage(input=200_001, output=1000)
    assert money("gemini", "gemini-2.5-pro", short) == pytest.approx(0.2 * 1.25 + 0.001 * 10)
    assert money("gemini", "gemini-2.5-pro", long) == pytest.approx(0.200001 * 2.5 + 0.001 * 15)


def test_what_the_provider_kept_has_its_own_price() -> None:
    usage = Usage(input=1_000_000, output=0, cache_read=600_000, cache_write=300_000)
    assert money("anthropic", "claude-sonnet-4-5", Usage(input=100_000)) == pytest.approx(0.3)
    assert money("anthropic", "claude-opus-4-5", usage) == pytest.approx(0.1 * 5 + 0.6 * 0.5 + 0.3 * 6.25)


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**7))
def test_money_is_never_negative_and_grows_with_tokens(input: int, output: int, read: int, write: int) -> None:
    usage = Usage(input=input, output=output, cache_read=read, cache_write=write)
    cost = money("openai", "gpt-5.6-sol", usage)
    more = money("openai", "gpt-5.6-sol", usage + Usage(input=1, output=1))
    assert cost is not None and more is not None and 0 <= cost < more


@pytest.mark.parametrize(
    "name", ["gpt-5", "gpt-4.1-mini", "o3", "mistral-large-2512", "deepseek-r1-0528", "gpt-4-0613"]
)
def test_names_without_a_date_stay_as_they_are(name: str) -> None:
    assert undated(name) == name == undated(f"{name}-2026-01-31") == undated(f"models/{name}-latest")


# --- the user's tables -----------------------------------------------------------------------------------------------


def test_the_settings_file_overrides_the_shipped_table() -> None:
    Path("weft.toml").write_text('[prices.openai]\n"gpt-5" = { input = 1.0, output = 2 }\n')
    assert money("openai", "gpt-5-2025-08-07", MILLION) == 3.0
    assert money("openai-responses", "gpt-5", MILLION) == 3.0
    assert money("openai", "gpt-5-mini", MILLION) == pytest.approx(2.25)


def test_a_changed_settings_file_is_read_again() -> None:
    for dollars in (1.0, 2.5):
        Path("weft.toml").write_text(f'[prices.openai]\n"gpt-5" = {{ input = {dollars} }}\n')
        os.utime("weft.toml", ns=(0, int(dollars * 1e9)))
        assert money("openai", "gpt-5", MILLION) == dollars
    Path("weft.toml").unlink()
    assert money("openai", "gpt-5", MILLION) == pytest.approx(11.25)


def test_a_place_of_the_users_own_may_have_one_price_for_all() -> None:
    Path("pyproject.toml").write_text(
        '[tool.weft.prices."gpu.example:8000"]\n"*" = { input = 0.1, output = 0.2 }\n'
        '[tool.weft.prices.local]\n"*" = { input = 0.01 }\n'
    )
    assert money("gpu.example:8000", "any", MILLION) == pytest.approx(0.3)
    assert money("local", "smollm2-135m", MILLION) == pytest.approx(0.01)


def test_a_named_file_comes_before_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("weft.toml").write_text('[prices.openai]\n"gpt-5" = { input = 1.0 }\n"o3" = { input = 7.0 }\n')
    Path("mine.toml").write_text('[openai]\n"gpt-5" = { input = 2.0, above = { tokens = 10, input = 3.0 } }\n')
    monkeypatch.setenv("WEFT_PRICES", "mine.toml")
    assert money("openai", "gpt-5", Usage(input=10)) == pytest.approx(2e-5)
    assert money("openai", "gpt-5", MILLION) == 3.0
    assert money("openai", "o3", MILLION) == 7.0
    found = find("openai", "gpt-5")
    assert found is not None and found.table == "mine.toml"


def test_a_worker_takes_a_settings_file_with_prices() -> None:
    from weft.cli.settings import load_settings

    Path("weft.toml").write_text('slots = 3\n[prices.openai]\n"gpt-5" = { input = 1.0 }\n')
    assert load_settings().slots == 3


# --- bad tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[openai]\n"gpt-5" = 3', r"mine\.toml is no table of prices.*`object`.*`int`.*gpt|mine\.toml is no table"),
        ('[openai]\n"gpt-5" = { output = 3 }', "missing required field `input`"),
        ('[openai]\n"gpt-5" = { input = -1 }', "input is -1"),
        ('[openai]\n"gpt-5" = { input = nan }', "input is nan"),
        ('[openai]\n"gpt-5" = { input = "1" }', "Expected `float`, got `str`"),
        ('[openai]\n"gpt-5" = { input = 1, ouput = 3 }', "unknown field `ouput`"),
        ('[openai]\n"gpt-5" = { input = 1, above = { input = 2 } }', "missing required field `tokens`"),
        ("openai = 3", "Expected `object`, got `int`"),
        ("[openai", "not TOML"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    Path("mine.toml").write_text(text)
    monkeypatch.setenv("WEFT_PRICES", "mine.toml")
    with pytest.raises(BadInput, match=message) as refused:
        money("openai", "gpt-5", MILLION)
    assert "mine.toml" in str(refused.value)


def test_a_wrong_table_in_the_settings_is_refused_too() -> None:
    Path("weft.toml").write_text('prices = "cheap"\n')
    with pytest.raises(BadInput, match=r"weft\.toml: prices is no table of prices"):
        money("openai", "gpt-5", MILLION)


def test_a_file_that_is_not_there_or_no_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_PRICES", "absent.toml")
    with pytest.raises(BadInput, match=r"absent\.toml could not be read.*WEFT_PRICES"):
        money("openai", "gpt-5", MILLION)
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("WEFT_PRICES", "bytes.toml")
    with pytest.raises(BadInput, match=r"bytes\.toml are no UTF-8"):
        money("openai", "gpt-5", MILLION)
