"""Texts to vectors on this machine: MiniLM in onnxruntime, or a table of one vector per token.

Each model has one thread, in which it reads one text after the other: a batch is no faster on one core, and so the
vector of a text never depends on the texts beside it. A text with more tokens than the model reads at once is read in
windows, and its vector is the mean of theirs, weighted by their tokens, so that no part of it is left out.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from weft.core.errors import MissingExtra, ModelUnavailable, PromptTooLong
from weft.model.catalogue import Embedding
from weft.model.fetch import fetch_entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

LONGEST = 16_384
"""Tokens that one text may have; some seconds of reading."""
_CHARACTERS = 64 * LONGEST
"""Characters that are looked at to count them."""


class Encoded(NamedTuple):
    """The vector of one text, of length 1 (or 0 if the text has no token), and the tokens it was made from."""

    vector: bytes
    tokens: int


class _Weights(Protocol):
    """What differs between models."""

    frame: int
    """Tokens that are put around each window."""

    def mean(self, ids: Sequence[int]) -> Floats:
        """The mean over the tokens of one window, or of what is around none."""


class Encoder:
    """One model of the catalogue, loaded (and fetched, if it is not here) when first used."""

    def __init__(self, model: Embedding) -> None:
        self.model = model
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"weft-{model.name}")
        """Where `encode` is to be called."""
        self._loaded: tuple[Any, _Weights] | None = None

    def encode(self, text: str, place: str) -> Encoded:
        """The vector of `text`, which errors call `place`. Raises MissingExtra, ModelUnavailable, PromptTooLong."""
        import numpy as np

        if self._loaded is None:
            self._loaded = _load(self.model)
        tokenizer, weights = self._loaded
        if len(text) > _CHARACTERS:
            raise self._too_long(place, f"{len(text)} characters", _CHARACTERS)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > LONGEST:
            raise self._too_long(place, f"{len(ids)} tokens", LONGEST)
        total = np.zeros(self.model.dimensions, np.float32)
        for window in _windows(ids, self.model.window, weights.frame):
            total += _unit(weights.mean(window)) * max(1, len(window))
        return Encoded(_unit(total).astype("<f4").tobytes(), len(ids))

    def _too_long(self, place: str, size: str, most: int) -> PromptTooLong:
        return PromptTooLong(f"{place} has {size}, and {self.model.name} reads at most {most}; split it into parts")


def _windows(ids: Sequence[int], most: int | None, frame: int) -> Iterator[Sequence[int]]:
    size = len(ids) if most is None else most - frame
    for start in range(0, max(1, len(ids)), max(1, size)):
        yield ids[start : start + size]


def _unit(vector: Floats) -> Floats:
    import numpy as np

    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def _load(model: Embedding) -> tuple[Any, _Weights]:
    try:
        import numpy  # noqa: F401
        import onnxruntime  # noqa: F401
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("embeddings on this machine need the extra `embed`: pip install 'weft[embed]'") from error
    weights, tokenizer = (fetch_entry(file) for file in model.files)
    try:
        words = Tokenizer.from_file(str(tokenizer))
        words.no_truncation()
        words.no_padding()
        return words, _Table(weights) if weights.suffix == ".safetensors" else _Transformer(weights, words)
    except Exception as error:  # the libraries raise what they like
        raise ModelUnavailable(
            f"{model.name} could not be loaded ({error}); if {weights} or {tokenizer} is damaged, delete it and it is "
            "fetched again"
        ) from error


class _Transformer:
    """A sentence transformer: the mean over the last layer's states, those of the frame too (Reimers and Gurevych,
    Sentence-BERT, 2019)."""

    frame = 2

    def __init__(self, path: Path, tokenizer: Any) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._first, self._last = tokenizer.encode("").ids

    def mean(self, ids: Sequence[int]) -> Floats:
        import numpy as np

        tokens = np.array([[self._first, *ids, self._last]], np.int64)
        feed = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        states = self._session.run(None, feed)[0]
        return states[0].mean(axis=0)  # type: ignore[no-any-return]


class _Table:
    """A vector for each token, in a safetensors file: the length of a JSON header in 8 bytes, the header, the data."""

    frame = 0

    def __init__(self, path: Path) -> None:
        import numpy as np

        data = path.read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        described = json.loads(data[8:begin])["embedding.weight"]
        first, end = described["data_offsets"]
        self._table = np.frombuffer(data[begin + first : begin + end], "<f2").reshape(described["shape"])

    def mean(self, ids: Sequence[int]) -> Floats:
        import numpy as np

        if not ids:
            return np.zeros(self._table.shape[1], np.float32)
        return self._table[np.asarray(ids)].mean(axis=0, dtype=np.float32)  # type: ignore[no-any-return]


_encoders: dict[str, Encoder] = {}
_lock = threading.Lock()


def shared_encoder(model: Embedding) -> Encoder:
    """This process's encoder for the model."""
    with _lock:
        if model.name not in _encoders:
            _encoders[model.name] = Encoder(model)
        return _encoders[model.name]


def _forget() -> None:
    """In a forked process: the threads are the parent's."""
    global _lock
    _encoders.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
