"""The twin: a decoder of the LLaMA family in torch, over the weights of the same file that llama.cpp reads.

It is slow and plain, and what the other engine is held against: `forward` computes any tokens at any positions under
any mask, without a cache; `Twin` is an `Engine`, with the same cells, forks, cuts and published rows. Norms before
attention and feed-forward, rotary positions in neighbouring pairs (so the file has them), grouped queries, SwiGLU,
and an output that is the embedding unless the file has one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput, MissingExtra, OutOfCells
from weft.model.engine.protocol import Feed, Told
from weft.model.engine.sample import draw, likeliest
from weft.model.engine.twin_cells import Cells, TwinSequence
from weft.model.engine.vocabulary import Vocabulary
from weft.model.engine.weights import Weights, read

Attend = Callable[[int, Any, Any, Any], Any]
"""(layer, queries, keys, values), each tokens x heads x numbers, to what the heads read: tokens x heads x numbers."""


class Decoder:
    """The network alone: tokens and positions in, logits out."""

    def __init__(self, weights: Weights, dtype: str = "float32") -> None:
        torch = _torch()
        if dtype not in ("float32", "bfloat16", "float16", "float64"):
            raise BadInput(f"the twin computes in float32, bfloat16, float16 or float64, not in {dtype!r}")
        self.shape = weights.shape
        self.type = getattr(torch, dtype)
        self.weights = {name: torch.tensor(array, dtype=self.type) for name, array in weights.arrays.items()}
        self._output = self.weights.get("output.weight", self.weights["token_embd.weight"])
        pairs = torch.arange(0, self.shape.head, 2, dtype=torch.float64)
        self._frequencies = self.shape.base ** (-pairs / self.shape.head)

    def hidden(self, tokens: Any, positions: Any, attend: Attend) -> Any:
        """What the last layer says at each token; `attend` is told each layer's keys and values, and reads for it."""
        silu = _torch().nn.functional.silu
        shape, w, count = self.shape, self.weights, len(tokens)
        x = w["token_embd.weight"][tokens]
        turn = self.rotation(positions)
        for n in range(shape.layers):
            at = f"blk.{n}."
            y = self._norm(x, w[at + "attn_norm.weight"])
            q = rotated((y @ w[at + "attn_q.weight"].T).view(count, shape.heads, shape.head), turn)
            k = rotated((y @ w[at + "attn_k.weight"].T).view(count, shape.kv_heads, shape.head), turn)
            v = (y @ w[at + "attn_v.weight"].T).view(count, shape.kv_heads, shape.head)
            x = x + attend(n, q, k, v).reshape(count, shape.width) @ w[at + "attn_output.weight"].T
            y = self._norm(x, w[at + "ffn_norm.weight"])
            gate = silu(y @ w[at + "ffn_gate.weight"].T)
            x = x + (gate * (y @ w[at + "ffn_up.weight"].T)) @ w[at + "ffn_down.weight"].T
        return self._norm(x, w["output_norm.weight"])

    def logits(self, hidden: Any) -> Any:
        return (hidden @ self._output.T).float()

    def rotation(self, positions: Any) -> tuple[Any, Any]:
        """Cosine and sine by which keys and queries at these positions are turned."""
        angle = positions.double()[:, None] * self._frequencies
        return angle.cos()[:, None, :].to(self.type), angle.sin()[:, None, :].to(self.type)

    def _norm(self, x: Any, weight: Any) -> Any:
        return _torch().nn.functional.rms_norm(x, (len(weight),), weight, self.shape.epsilon)

    def forward(self, tokens: list[int], positions: list[int], visible: Any) -> Any:
        """Logits after each token. `visible[i, j]`: token i sees token j. No cache: the definition of the others."""
        torch = _torch()

        def attend(_: int, q: Any, k: Any, v: Any) -> Any:
            return attention(q, k, v, visible)

        return self.logits(self.hidden(torch.tensor(tokens), torch.tensor(positions), attend))


def attention(q: Any, k: Any, v: Any, visible: Any) -> Any:
    """Scaled dot products under a mask; each is tokens x heads x numbers."""
    q, k, v = (each.transpose(0, 1)[None] for each in (q, k, v))
    read_ = _torch().nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
    return read_[0].transpose(0, 1)


def rotated(x: Any, turn: tuple[Any, Any]) -> Any:
    """Each pair of neighbouring numbers turned by its angle."""
    cos, sin = turn
    a, b = x[..., 0::2], x[..., 1::2]
    return _torch().stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Twin:
    """An `Engine` on a `Decoder`, in this process. `threads`: of torch, for the whole process."""

    def __init__(self, weights: Weights, cells: int = 2048, dtype: str = "float32", threads: int = 1) -> None:
        if cells < 1:
            raise BadInput(f"an engine of {cells} cells holds nothing; give it at least 1")
        _torch().set_num_threads(threads)
        self.decoder = Decoder(weights, dtype)
        self.vocabulary = weights.shape.vocabulary
        self.end = weights.tokens.end
        self.steps = 0
        """How many batches were computed."""
        self._memory = Cells(self.decoder, cells)
        self._words = Vocabulary(weights.tokens)
        self._turn = asyncio.Lock()

    @classmethod
    def load(cls, path: Path, **settings: Any) -> Twin:
        """The twin of a model file."""
        return cls(read(path), **settings)

    @property
    def cells(self) -> int:
        return self._memory.count

    @property
    def used(self) -> int:
        return self._memory.used

    async def tokenize(self, text: str, special: bool = False) -> list[int]:
        return self._words.tokens(text, special)

    async def detokenize(self, tokens: Iterable[int]) -> bytes:
        return self._words.text(tokens)

    async def sequence(self, label: str = "") -> TwinSequence:
        return TwinSequence(self, self._memory, label)

    async def step(self, feeds: list[Feed]) -> list[Told]:
        for feed in feeds:
            self._check(feed)
        sequences = [self.own(feed.sequence) for feed in feeds]
        if len({id(each) for each in sequences}) != len(feeds):
            raise BadInput("a step feeds a sequence twice; join its tokens to one feed")
        if not feeds:
            return []
        async with self._turn:
            return await asyncio.to_thread(self._step, feeds, sequences)

    def _check(self, feed: Feed) -> None:
        if not feed.tokens:
            raise BadInput("a feed has no tokens; leave it out of the step")
        wrong = [token for token in feed.tokens if not 0 <= token < self.vocabulary]
        if wrong:
            raise BadInput(f"{wrong[0]} is none of the {self.vocabulary} tokens of this model")
        if feed.allow is not None and len(feed.allow) * 8 < self.vocabulary:
            raise BadInput(f"`allow` has {len(feed.allow) * 8} bits for {self.vocabulary} tokens")
        if feed.want not in ("none", "last", "all"):
            raise BadInput(f"want={feed.want!r}: must be 'none', 'last' or 'all'")

    def own(self, sequence: Any) -> TwinSequence:
        """The sequence, if it is one of this engine's."""
        if not isinstance(sequence, TwinSequence) or sequence.memory is not self._memory:
            raise BadInput("the sequence belongs to another engine")
        sequence.check_open()
        return sequence

    def _step(self, feeds: list[Feed], sequences: list[TwinSequence]) -> list[Told]:
        torch = _torch()
        starts = [each.length for each in sequences]
        need = sum(len(feed.tokens) for feed in feeds)
        if need > self._memory.free:
            raise OutOfCells(f"{need} more tokens, and {self._memory.free} of {self.cells} cells are free")
        self.steps += 1
        rows = [each.append(feed.tokens) for each, feed in zip(sequences, feeds, strict=True)]
        ends = [*accumulate(len(feed.tokens) for feed in feeds)]
        spans = [slice(end - len(feed.tokens), end) for end, feed in zip(ends, feeds, strict=True)]
        tokens = torch.tensor([token for feed in feeds for token in feed.tokens])
        where = torch.tensor([cell for row in rows for cell in row])
        seen = [self._memory.seen(each.cells, row) for each, row in zip(sequences, rows, strict=True)]

        def attend(layer: int, q: Any, k: Any, v: Any) -> Any:
            keys, values = self._memory.keys[layer], self._memory.values[layer]
            keys[where], values[where] = k, v
            return torch.cat(
                [attention(q[span], keys[at], values[at], mask) for span, (at, mask) in zip(spans, seen, strict=True)]
            )

        with torch.inference_mode():
            hidden = self.decoder.hidden(tokens, self._memory.positions[where], attend)
            picked = [hidden[span][_wanted(feed)] for span, feed in zip(spans, feeds, strict=True)]
            logits = self.decoder.logits(torch.cat(picked)).numpy()
        cut = [0, *accumulate(len(each) for each in picked)]
        return [_told(feed, logits[cut[n] : cut[n + 1]], starts[n]) for n, feed in enumerate(feeds)]

    async def close(self) -> None:
        self._memory = Cells(self.decoder, 1)


def _wanted(feed: Feed) -> slice:
    return {"none": slice(0, 0), "last": slice(-1, None), "all": slice(None)}[feed.want]


def _told(feed: Feed, logits: Any, start: int) -> Told:
    first = start + len(feed.tokens) - len(logits) + 1
    told = Told(logits=logits.copy() if feed.logits else None)
    if feed.sample is not None:
        tokens = [draw(row, feed.sample, first + n, feed.allow, feed.bias) for n, row in enumerate(logits)]
        told = msgspec.structs.replace(told, tokens=tokens)
    if feed.likely:
        told = msgspec.structs.replace(told, likely=[likeliest(row, feed.likely, feed.allow) for row in logits])
    return told


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("the twin needs the extra `torch`: pip install 'weft[torch]'") from error
    return torch
