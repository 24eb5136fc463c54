"""`weft models`: those of this machine, and what one costs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson


@reported
def models(
    spec: Annotated[str | None, typer.Argument(help="What does this one cost? As in openai:gpt-5.")] = None,
    json: AsJson = False,
) -> None:
    """List the models that Weft can run on this machine; or tell the price of one, and where it is written."""
    from weft.cli.render import out

    if spec is not None:
        price = _price(spec)
        out(price) if json else _print_price(price)
        return
    rows = [*_rows()]
    if json:
        out(rows)
        return
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        here = "here" if row["here"] else "fetched when first used"
        print(f"{row['name']:<{wide}}  {row['makes']:<7}  {row['bytes'] / 1e6:>5,.0f} MB, {here}")
        print(f"{'':<{wide}}  {row['description']} ({row['licence']})")


def _rows() -> list[dict[str, Any]]:
    from weft.model.catalogue import catalogue, embeddings

    texts = [
        {"name": entry.name, "makes": "text", "bytes": entry.size, "here": entry.path.is_file(),
         "context": entry.context, "licence": entry.licence, "description": entry.description}
        for entry in catalogue.values()
    ]  # fmt: skip
    vectors = [
        {"name": one.name, "makes": "vectors", "bytes": one.size, "here": all(f.path.is_file() for f in one.files),
         "dimensions": one.dimensions, "licence": one.licence, "description": one.description}
        for one in embeddings.values()
    ]  # fmt: skip
    return texts + vectors


def _price(spec: str) -> dict[str, Any]:
    import msgspec

    from weft.core.errors import BadInput
    from weft.model.catalogue import embeddings
    from weft.model.price import find
    from weft.model.spec import where

    place, _, name = (f"local/{spec}" if spec in embeddings else where(spec).resource).partition("/")
    found = find(place, name)
    if found is None:
        raise BadInput(
            f"no table has a price of {name} at {place}; write one into weft.toml: "
            f'[prices."{place}"] and below it "{name}" = {{ input = 1.0, output = 2.0 }}'
        )
    per_million = {key: value for key, value in msgspec.to_builtins(found.price).items() if value is not None}
    return {"place": place, "model": name, "priced_as": found.name, "table": found.table, "per_million": per_million}


def _print_price(price: dict[str, Any]) -> None:
    print(f"{price['model']} at {price['place']}, in US dollars per million tokens")
    rates = dict(price["per_million"])
    above = rates.pop("above", None)
    for rate in (rates, above or {}):
        if "tokens" in rate:
            print(f"if the prompt has more than {rate.pop('tokens'):,} tokens:")
        for kind, dollars in rate.items():
            if dollars is not None:
                print(f"  {kind.replace('_', ' '):<12} {dollars:g}")
    print(f"by {price['table']}")
