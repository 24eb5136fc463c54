"""How hosted providers are asked for vectors: OpenAI (and who speaks like it), Gemini, Ollama. No I/O here."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from weft.core.errors import BadInput, ModelError
from weft.model.dialect import Call

SPEAK = ("openai", "openai-responses", "gemini", "ollama")
"""The dialects that have embeddings."""
_TEXTS = {"gemini": 100}
"""Most texts in one request; 256 where nothing is said."""
_BYTES = 400_000
"""Most bytes in one request: OpenAI takes 300,000 tokens."""


class Answered(NamedTuple):
    """Vectors of length 1 as bytes, one for each text, and the tokens that the provider counted (0: it tells none)."""

    vectors: list[bytes]
    tokens: int


def batches(speaks: str, texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in as many requests as the provider needs."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode())
        if batch and (len(batch) >= _TEXTS.get(speaks, 256) or size + length > _BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def call(speaks: str, model: str, texts: Sequence[str], dimensions: int | None) -> Call:
    """The request for one batch."""
    if speaks == "gemini":
        path = model if model.startswith("models/") else f"models/{model}"
        size = {} if dimensions is None else {"outputDimensionality": dimensions}
        requests = [{"model": path, "content": {"parts": [{"text": text}]}, **size} for text in texts]
        return Call(f"/v1beta/{path}:batchEmbedContents", {"requests": requests})
    size = {} if dimensions is None else {"dimensions": dimensions}
    if speaks == "ollama":
        return Call("/api/embed", {"model": model, "input": list(texts), "truncate": False, **size})
    return Call("/embeddings", {"model": model, "input": list(texts), "encoding_format": "base64", **size})


class _Vector(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _OpenAI(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


class _Values(msgspec.Struct):
    values: list[float]


class _Gemini(msgspec.Struct):
    embeddings: list[_Values]


class _Ollama(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int = 0


def read(speaks: str, model: str, answer: Any, count: int) -> Answered:
    """The vectors in an answer to so many texts. Raises ModelError if it holds none, or not as many."""
    try:
        if speaks == "gemini":
            found: list[str | list[float]] = [one.values for one in msgspec.convert(answer, _Gemini).embeddings]
            tokens = 0
        elif speaks == "ollama":
            ollama = msgspec.convert(answer, _Ollama)
            found, tokens = [*ollama.embeddings], ollama.prompt_eval_count
        else:
            openai = msgspec.convert(answer, _OpenAI)
            # Some servers answer in another order, some say no index.
            ordered = sorted(enumerate(openai.data), key=lambda one: one[0] if one[1].index is None else one[1].index)
            found = [one.embedding for _, one in ordered]
            tokens = openai.usage.prompt_tokens if openai.usage else 0
        vectors = [_unit(vector) for vector in found]
    except (msgspec.ValidationError, binascii.Error, ValueError) as error:
        raise ModelError(
            f"{model} answered something that holds no vectors ({error}): {str(answer)[:80]!r}; "
            "check that it is a model of embeddings, and that the address is right"
        ) from error
    if len(vectors) != count or len({len(vector) for vector in vectors}) > 1:
        raise ModelError(f"{model} answered {count} texts with {len(vectors)} vectors, or with some of unequal length")
    return Answered(vectors, tokens)


def _unit(vector: str | list[float]) -> bytes:
    """The vector with length 1, as 32-bit floats, little-endian. Raises ValueError for an empty one."""
    if isinstance(vector, str):
        numbers = array("f", base64.b64decode(vector, validate=True))
        if sys.byteorder == "big":
            numbers.byteswap()
    else:
        numbers = array("f", vector)
    length = math.hypot(*numbers)
    if not numbers or not math.isfinite(length):
        raise ValueError("a vector is empty, or has no finite length")
    if length > 0 and abs(length - 1) > 1e-6:
        numbers = array("f", (number / length for number in numbers))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def speaking(spec: str, speaks: str) -> str:
    """The dialect, if it has embeddings. Raises BadInput."""
    if speaks not in SPEAK:
        raise BadInput(f"{spec!r}: {speaks} has no embeddings; use openai:, gemini:, ollama:, or one of this machine")
    return speaks
