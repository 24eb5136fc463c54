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

from weft.core.errors import (
    BadInput,
    KeyRefused,
    ModelBusy,
    ModelError,
    ModelUnavailable,
    PromptTooLong,
    UnknownModel,
)
from weft.core.step import primitive
from weft.model import embed_wire
from weft.model.catalogue import Embedding, embeddings
from weft.model.client import Server, exchange
from weft.model.encoder import shared_encoder
from weft.model.generate import RETRY
from weft.model.price import money
from weft.model.request import Usage
from weft.model.spec import Remote, where
from weft.runtime.effects import charge, hold_back

_TIMEOUT = 120.0
"""Seconds that a provider may take over one request."""


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
    """A model of embeddings by its spec: `minilm` or `wordllama` on this machine, or a hosted one: `openai:NAME`,
    `gemini:NAME`, `ollama:NAME`, `http://HOST/v1#NAME`. `dimensions`: how long its vectors are to be, where the
    provider lets one choose."""

    def __init__(self, spec: str, *, dimensions: int | None = None) -> None:
        if dimensions is not None and dimensions < 1:
            raise BadInput(f"dimensions={dimensions}: a vector has at least 1 number")
        self.spec = spec
        self.dimensions = dimensions
        found = _where(spec)
        if isinstance(found, Embedding) and dimensions not in (None, found.dimensions):
            raise BadInput(f"{spec} makes vectors of {found.dimensions} numbers, and no others")
        self._embed = embed if isinstance(found, Embedding) else embed.options(retries=RETRY)

    async def __call__(self, texts: Sequence[str]) -> Vectors:
        """The vectors of these texts. Raises BadInput, PromptTooLong, ModelUnavailable, MissingExtra, and what else
        `weft.model.Model.chat` raises."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise BadInput("an embedder takes a list of texts; for one text give a list of one")
        for number, text in enumerate(texts):
            if not _unicode(text):
                raise BadInput(f"text {number} is no Unicode text: it holds half of a surrogate pair; mend or drop it")
        return await self._embed(self.spec, list(texts), self.dimensions)

    def __repr__(self) -> str:
        return f"<embedder {self.spec}>"


def embedder(name: str = "minilm", *, dimensions: int | None = None) -> Embedder:
    """A model of embeddings. Nothing is fetched or loaded before it is used. Raises BadInput for an unknown name."""
    return Embedder(name, dimensions=dimensions)


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _where(spec: str) -> Embedding | Remote:
    """Who makes the vectors. Raises BadInput for a spec that means nobody."""
    if spec in embeddings:
        return embeddings[spec]
    if ":" not in spec:
        raise BadInput(f"no embedding model named {spec!r}; use one of {', '.join(embeddings)}, or PROVIDER:NAME")
    found = where(spec)
    if not isinstance(found, Remote):
        raise BadInput(f"{spec!r} makes no embeddings; use one of {', '.join(embeddings)}, or PROVIDER:NAME")
    embed_wire.speaking(spec, found.speaks)
    return found


def _needs(spec: str, texts: list[str], dimensions: int | None = None) -> Iterator[tuple[str, str]]:
    found = _where(spec)
    yield "model.generate", f"local/{spec}" if isinstance(found, Embedding) else found.resource


def _cost(spec: str, texts: list[str], dimensions: int | None = None) -> dict[str, float]:
    """The most tokens that the texts can have, about (one for 3 bytes), and what these cost."""
    found = _where(spec)
    tokens = sum(len(text.encode()) // 3 + 2 for text in texts)
    cost = money(found.place, found.name, Usage(input=tokens)) if isinstance(found, Remote) else None
    return {"tokens": tokens} | ({"money": cost} if cost else {})


@primitive(name="embed", effect="pure", needs=_needs, cost=_cost)
async def embed(spec: str, texts: list[str], dimensions: int | None = None) -> Vectors:
    """The embedding itself: a journaled step, which needs the right to the model, such as `model:local/minilm` or
    `model:openai/text-embedding-3-small`. Of a budget it takes the tokens, and the money where the price is known."""
    found = _where(spec)
    try:
        vectors = await (_here(found, texts) if isinstance(found, Embedding) else _there(found, texts, dimensions))
    except (PromptTooLong, ModelUnavailable, KeyRefused, UnknownModel) as error:
        charge(tokens=0, money=0)  # nothing was made
        if isinstance(error, ModelBusy) and error.retry_after:
            hold_back(error.retry_after)
        raise
    cost = money(found.place, found.name, Usage(input=vectors.tokens)) if isinstance(found, Remote) else None
    charge(tokens=vectors.tokens, money=cost or 0)
    return vectors


async def _here(found: Embedding, texts: list[str]) -> Vectors:
    encoder = shared_encoder(found)
    loop = asyncio.get_running_loop()
    data, tokens = [], 0
    for number, text in enumerate(texts):  # one by one, so that a cancelled call stops soon and others get their turn
        one = await loop.run_in_executor(encoder.thread, partial(encoder.encode, text, f"text {number}"))
        data.append(one.vector)
        tokens += one.tokens
    return Vectors(data=b"".join(data), dimensions=found.dimensions, tokens=tokens, model=found.name)


async def _there(found: Remote, texts: list[str], dimensions: int | None) -> Vectors:
    spoken = found.dialect
    server = Server(found.base(), found.key(), found.name, _TIMEOUT)
    data: list[bytes] = []
    tokens = 0
    for batch in embed_wire.batches(found.speaks, texts):
        call = embed_wire.call(found.speaks, found.name, batch, dimensions)
        answered = embed_wire.read(found.speaks, found.name, await exchange(server, spoken, call), len(batch))
        data += answered.vectors
        tokens += answered.tokens or sum(len(text.encode()) // 3 + 2 for text in batch)
    if len({len(vector) for vector in data}) > 1:
        raise ModelError(f"{found.name} made vectors of unequal length; ask again")
    size = len(data[0]) // 4 if data else dimensions or 1
    return Vectors(data=b"".join(data), dimensions=size, tokens=tokens, model=found.name)
