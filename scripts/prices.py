"""Make the price tables in `src/weft/model/prices` anew from the package `genai-prices` (MIT):

    pip install genai-prices && python scripts/prices.py

One file for each provider. Text models and models of embeddings that are still offered; where a price changed, that of
today; where it depends on the hour, the dearest, so that no budget is overdrawn. Look at `git diff` before committing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data import providers

from weft.model.price import undated

HERE = Path(__file__).parent.parent / "src" / "weft" / "model" / "prices"
TABLES = {
    "openai": "openai", "anthropic": "anthropic", "google": "gemini", "mistral": "mistral", "deepseek": "deepseek",
    "x-ai": "xai", "groq": "groq", "cohere": "cohere", "moonshotai": "moonshot", "zai": "zai", "cerebras": "cerebras",
}  # fmt: skip
"""The package's name of a provider, and ours."""
FIELDS = {
    "input": "input_mtok", "output": "output_mtok", "cache_read": "cache_read_mtok", "cache_write": "cache_write_mtok",
}  # fmt: skip
OTHER = re.compile(
    r"audio|tts|image|realtime|transcribe|live|ocr|voice|moderation|whisper|davinci|babbage|banana|omni-(1|flash)"
    r"|robotics|orpheus|:|^ada$|^curie$|claude-(2|v|3-(sonnet|opus|haiku))|gpt-3\.5-(0|turbo-|turbo$)|gpt-4-(32k|vis)"
    r"|gemini-(1|pro|flash)|llama-?[23](\.[12])?-|gemma-?2?-[27]b|mixtral|mistral-(7b|tiny|saba)|computer-use"
)
"""Models that take or give other things than text, and those of long ago."""

SOLD_ELSEWHERE = re.compile(r"claude-[4-9]|ft:|x-ai/|gpt-4-(\d|turbo-)|o1-preview|gpt-4\.5")
"""Names that resellers use, and those of long ago."""


def today(model: Any) -> list[Any]:
    """The prices that apply now: one, or one for each part of the day."""
    if not isinstance(model.prices, list):
        return [model.prices]
    now, base, hours = datetime.now(UTC).date(), None, []
    for conditional in model.prices:
        rule = conditional.constraint
        if rule is None or (hasattr(rule, "start_date") and rule.start_date <= now):
            base = conditional.prices
        elif hasattr(rule, "start_time"):
            hours.append(conditional.prices)
    return [base, *hours]


def amounts(prices: list[Any], tier: bool) -> tuple[dict[str, Decimal], int]:
    """The dearest of each field (above the tier's start, if asked), and that start."""
    found: dict[str, Decimal] = {}
    start = 0
    for field, theirs in FIELDS.items():
        for price in prices:
            value = getattr(price, theirs, None)
            if hasattr(value, "tiers"):
                start = value.tiers[-1].start
                value = value.tiers[-1].price if tier else value.base
            if value is not None:
                found[field] = max(value, found.get(field, value))
    return found, start


def written(fields: dict[str, Decimal]) -> str:
    return ", ".join(f"{field} = {float(value):g}" for field, value in fields.items())


def names(provider: Any, model: Any) -> set[str]:
    """Every name of the model that does not follow from another by taking a date off."""
    rules = [model.match]
    given = {model.id}
    while rules:
        rule = rules.pop()
        rules += getattr(rule, "or_", [])
        given |= {getattr(rule, "equals", ""), getattr(rule, "starts_with", "")}
    given = {name for name in given if name and not re.search(r"[-@.]$|-20\d\d$|-20\d\d-?\d\d$", name)}
    own = {name for name in given if provider.find_model(name) is model and not SOLD_ELSEWHERE.match(name)}
    plain = {undated(name) if provider.find_model(undated(name)) is model else name for name in own}
    dotted = "." in model.id  # of gpt-5.1 and gpt-5-1 the provider itself knows one
    return {name for name in plain if ("." in name) == dotted or not _twin(name, plain)}


def _twin(name: str, among: set[str]) -> bool:
    """Whether another one differs only in its dots."""
    return any(other != name and other.replace(".", "-") == name.replace(".", "-") for other in among)


def table(provider: Any) -> str:
    lines = {}
    for model in provider.models:
        prices = today(model)
        base, start = amounts(prices, tier=False)
        if getattr(model, "deprecated", None) or OTHER.search(model.id) or not base.get("input"):
            continue
        if provider.id == "google" and model.id.startswith("claude"):
            continue  # sold elsewhere
        line = written(base)
        if start:
            line += f", above = {{ tokens = {start}, {written(amounts(prices, tier=True)[0])} }}"
        for name in names(provider, model):
            lines[name] = f'"{name}" = {{ {line} }}\n'
    head = f"""# {provider.name}: US dollars per million tokens. `above`: of the whole request, if its prompt has more.
# Made by scripts/prices.py; to change a price use [prices] in weft.toml, or the file that WEFT_PRICES names.
date = {datetime.now(UTC).date()}
source = "genai-prices {version("genai-prices")} (MIT), after {(provider.pricing_urls or ["?"])[0]}"

[models]
"""
    return head + "".join(lines[name] for name in sorted(lines))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for provider in providers:
        if provider.id in TABLES:
            text = table(provider)
            (HERE / f"{TABLES[provider.id]}.toml").write_text(text)
            print(f"{TABLES[provider.id]}: {text.count('input =')} prices")


if __name__ == "__main__":
    main()
