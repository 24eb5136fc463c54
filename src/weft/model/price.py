"""What a generation costs: tokens times the price of the model.

    money("openai", "gpt-5-2025-08-07", usage)      # US dollars, or None where no table has a price

The tables that ship (`weft/model/prices`, one for each provider, dated, with their source) can be overridden, in this
order: the file that `$WEFT_PRICES` names, the table `[prices]` of `weft.toml`.

    [prices.openai]
    "gpt-5" = { input = 1.0, output = 8.0, cache_read = 0.1 }
    [prices."gpu.example:8000"]
    "*" = { input = 0.05, output = 0.05 }

Prices are US dollars per million tokens. A table is read when a price of its provider is first asked for.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.core.settings_file import settings_file
from weft.model.request import Usage

HOSTS = {
    "api.openai.com": "openai", "api.anthropic.com": "anthropic", "generativelanguage.googleapis.com": "gemini",
    "api.mistral.ai": "mistral", "api.deepseek.com": "deepseek", "api.x.ai": "xai", "api.groq.com": "groq",
    "api.cohere.com": "cohere", "api.cohere.ai": "cohere", "api.moonshot.ai": "moonshot", "api.moonshot.cn": "moonshot",
    "api.z.ai": "zai", "api.cerebras.ai": "cerebras", "openai-responses": "openai",
}  # fmt: skip
"""Other names of the places that have a table."""
FREE = {"local", "script"}
"""Places where nobody is paid."""
_DATED = re.compile(r"(?<=.)[-@](latest|20\d{6}|20\d\d-\d\d-\d\d|00\d)$")


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens. Tokens that the provider kept cost what others do, if nothing is said of them."""

    input: float
    output: float = 0.0
    cache_read: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for field, value in msgspec.structs.asdict(self).items():
            if isinstance(value, int | float) and not 0 <= value < 1e6:
                raise ValueError(f"{field} is {value}, and must be from 0 to a million dollars per million tokens")


class Above(Rate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rate of a whole request whose prompt has more than so many tokens."""

    tokens: int


class Price(Rate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a model."""

    above: Above | None = None

    def of(self, usage: Usage) -> float:
        """US dollars of these tokens."""
        rate: Rate = self
        if self.above is not None and usage.input > self.above.tokens:
            rate = self.above
        kept = rate.input if rate.cache_read is None else rate.cache_read
        keeping = rate.input if rate.cache_write is None else rate.cache_write
        fresh = max(0, usage.input - usage.cache_read - usage.cache_write)
        return (
            fresh * rate.input + usage.cache_read * kept + usage.cache_write * keeping + usage.output * rate.output
        ) / 1e6


class Found(msgspec.Struct, frozen=True):
    """A price, under which name of the model it stands, and in which table."""

    price: Price
    name: str
    table: str


class _Shipped(msgspec.Struct, frozen=True):
    date: date
    source: str
    models: dict[str, Price]


def money(place: str, model: str, usage: Usage) -> float | None:
    """US dollars that these tokens cost at the place (a provider, a host, or `local`); None if no table has a price.
    Raises BadInput for a table of the user's that is wrong, with its place."""
    found = find(place, model)
    return None if found is None else found.price.of(usage)


def find(place: str, model: str) -> Found | None:
    """The price of a model: by its exact name, else by the name without its date, else by the `*` of its place."""
    for table, places in (*_own(), *_shipped(HOSTS.get(place, place))):
        for name in (place, HOSTS.get(place, place)):
            models = places.get(name, {})
            for known in (model, undated(model), "*"):
                if known in models:
                    return Found(models[known], known, table)
    return Found(Price(input=0.0), "*", "nobody is paid") if place in FREE else None


def undated(model: str) -> str:
    """The name without what only says which edition it is: `gpt-5-2025-08-07`, `claude-opus-4-20250514` or
    `mistral-small-latest` without their ends, `models/gemini-2.5-pro` without its beginning."""
    return _DATED.sub("", model.removeprefix("models/"))


Table = tuple[str, dict[str, dict[str, Price]]]
"""Where it is written, and the models of each place."""


def _own() -> list[Table]:
    """The user's tables, those that count first before the others."""
    tables = []
    named = os.environ.get("WEFT_PRICES")
    if named:
        path = Path(named).expanduser()
        try:
            tables.append(_file(named, path, path.stat().st_mtime_ns))
        except OSError as error:
            raise BadInput(
                f"the prices in {named} could not be read: {error.strerror}; name an existing file with WEFT_PRICES"
            ) from None
    config = os.environ.get("WEFT_CONFIG")
    tables += _settings(Path.cwd(), config, *map(_changed, (config or "", "weft.toml", "pyproject.toml")))
    return tables


def _changed(path: str) -> int | None:
    try:
        return Path(path).expanduser().stat().st_mtime_ns
    except OSError:
        return None


@lru_cache(maxsize=8)
def _settings(folder: Path, named: str | None, *changed: int | None) -> tuple[Table, ...]:
    """What the settings file says, read again only if it may say something else: a generation can't wait for that."""
    settings = settings_file()
    if settings is None or "prices" not in settings.values:
        return ()
    return ((settings.name, _places(settings.values["prices"], f"{settings.name}: prices")),)


@lru_cache(maxsize=8)
def _file(named: str, path: Path, changed: int) -> Table:
    try:
        return named, _places(tomllib.loads(path.read_bytes().decode()), named)
    except UnicodeDecodeError as error:
        raise BadInput(f"the prices in {named} are no UTF-8 text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"the prices in {named} are not TOML: {error}") from None


def _places(data: Any, where: str) -> dict[str, dict[str, Price]]:
    try:
        return msgspec.convert(data, dict[str, dict[str, Price]])
    except msgspec.ValidationError as error:
        raise BadInput(
            f'{where} is no table of prices: {error}; write [PLACE] and below it "MODEL" = {{ input = 1.0, output = '
            "2.0 } in US dollars per million tokens"
        ) from None


@cache
def _shipped(provider: str) -> tuple[Table, ...]:
    """The table that ships with Weft, if there is one."""
    file = Path(__file__).parent / "prices" / f"{provider}.toml"
    if not provider.isidentifier() or not file.is_file():
        return ()
    table = msgspec.convert(tomllib.loads(file.read_text("utf-8")), _Shipped)
    return ((f"{table.source}, {table.date}", {provider: table.models}),)
