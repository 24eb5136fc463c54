"""Embeddings: `vectors = await weft.model.embedder()(["a text", "another"])`; texts that mean the same lie near.

    vectors = await embedder(texts)
    cosine(vectors[0], vectors[1])     # cosine: 1 the same, about 0 unrelated

The step `embed` is an effect like a generation: inside a workflow it is journaled (the vectors as bytes, 4 a number),
needs the right to the model, and is never done again on replay. All vectors have length 1.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from weft.core.declare import primitive
from weft.core.errors import BadInput
from weft.model.catalogue import embeddings
from weft.model.encoder import shared_encoder
from weft.runtime.effects import charge


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """One vector for each text, in order: `vectors[i]` is a list of floats. `data` holds all of them as 32-bit floats,
    little-endian; `numpy.frombuffer(vectors.data, "<f4").reshape(len(vectors), -1)` is the matrix."""

    data: bytes
    dimensions: int
    tokens: int = 0
    """Tokens that the texts have together."""
    model: str = ""

    def __len__(self) -> int:
        return len(self.data) // (4 * self.dimensions)

    def __getitem__(self, index: int) -> list[float]:
        count, size = len(self), 4 * self.dimensions
        if not -count <= index < count:
            raise IndexError(f"there are {count} vectors, and no number {index}")
        start = index % count * size
        numbers = array("f", self.data[start : start + size])
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()

    def __iter__(self) -> Iterator[list[float]]:
        return (self[index] for index in range(len(self)))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of length 1. Raises BadInput if they are of different models."""
    if len(one) != len(other):
        raise BadInput(f"vectors of {len(one)} and of {len(other)} numbers can't be compared; make both with one model")
    return sum(a * b for a, b in zip(one, other, strict=True))


class Embedder:
    """A model of embeddings by its name: `minilm` or `wordllama`, on this machine."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        _resource(spec)

    async def __call__(self, texts: Sequence[str]) -> Vectors:
        """The vectors of these texts. Raises BadInput, PromptTooLong, ModelUnavailable, MissingExtra."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise BadInput("an embedder takes a list of texts; for one text give a list of one")
        for number, text in enumerate(texts):
            if not _unicode(text):
                raise BadInput(f"text {number} is no Unicode text: it holds half of a surrogate pair; mend or drop it")
        return await embed(self.spec, list(texts))

    def __repr__(self) -> str:
        return f"<embedder {self.spec}>"


def embedder(name: str = "minilm") -> Embedder:
    """A model of embeddings. Nothing is fetched or loaded before it is used. Raises BadInput for an unknown name."""
    return Embedder(name)


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _resource(spec: str) -> str:
    if spec not in embeddings:
        raise BadInput(f"no embedding model named {spec!r}; use one of {', '.join(embeddings)}")
    return f"local/{spec}"


def _needs(spec: str, texts: list[str]) -> Iterator[tuple[str, str]]:
    yield "model.generate", _resource(spec)


def _cost(spec: str, texts: list[str]) -> dict[str, float]:
    """The most tokens that the texts can have, about: one for 3 bytes."""
    return {"tokens": sum(len(text.encode()) // 3 + 2 for text in texts)}


@primitive(name="embed", effect="pure", needs=_needs, cost=_cost)
async def embed(spec: str, texts: list[str]) -> Vectors:
    """The embedding itself: a journaled step, which needs the right to the model, such as `model:local/minilm`."""
    encoder = shared_encoder(embeddings[spec])
    loop = asyncio.get_running_loop()
    data, tokens = [], 0
    for number, text in enumerate(texts):  # one by one, so that a cancelled call stops soon and others get their turn
        one = await loop.run_in_executor(encoder.thread, partial(encoder.encode, text, f"text {number}"))
        data.append(one.vector)
        tokens += one.tokens
    charge(tokens=tokens)
    return Vectors(data=b"".join(data), dimensions=encoder.model.dimensions, tokens=tokens, model=spec)
