"""The weights of a model file: read as float32 arrays, written again in another type, or drawn at random.

    python -m weft.model.engine.weights smollm2-135m bf16     prints where the file is now, and its SHA-256

A conversion is for comparing: `f32` is what the twin computes with, so both engines can be held against each other;
`f16` and `bf16` are what rounds differently in batches of different size. Norms stay float32 in every type.
Files lie in the cache of models; one appears there whole or not at all, with its hash beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import msgspec

from weft.core.errors import BadInput, MissingExtra, ModelUnavailable
from weft.model.catalogue import models_dir
from weft.model.fetch import fetch

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Array = NDArray[numpy.float32]

Kind = Literal["f32", "f16", "bf16"]
"""How a number of a matrix is kept."""
_FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32}
"""`general.file_type` of a file whose matrices have this type."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What the matrices of a decoder of the LLaMA family measure."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int
    context: int
    """The most tokens that it was trained for."""
    base: float = 10_000.0
    """Of the frequencies of the rotary embedding."""
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Numbers of a key, a value, or a query."""
        return self.width // self.heads


class Tokens(msgspec.Struct, frozen=True):
    """The vocabulary, as the file says it."""

    texts: list[str]
    types: list[int]
    """1: words, 3: control, 6: a byte."""
    merges: list[str]
    pre: str
    """The name of the rule by which a text is split before it is merged."""
    end: frozenset[int]

    @property
    def controls(self) -> list[int]:
        return [token for token, kind in enumerate(self.types) if kind == 3]


class Weights(msgspec.Struct, frozen=True):
    """A model's numbers, by the names that they have in the file."""

    shape: Shape
    tokens: Tokens
    arrays: dict[str, Any]


def read(path: Path) -> Weights:
    """The weights of a file, as float32. Raises ModelUnavailable for a file that can't be read, BadInput for a model
    of another family."""
    gguf = _gguf()
    reader = _reader(path)
    tokens = Tokens(
        texts=_field(reader, "tokenizer.ggml.tokens"),
        types=_field(reader, "tokenizer.ggml.token_type"),
        merges=_field(reader, "tokenizer.ggml.merges"),
        pre=_field(reader, "tokenizer.ggml.pre", "default"),
        end=frozenset(_ends(reader)),
    )
    arrays = {t.name: gguf.dequantize(t.data, t.tensor_type).astype("float32", copy=False) for t in reader.tensors}
    return Weights(_shape(reader), tokens, arrays)


def _shape(reader: Any) -> Shape:
    family = _field(reader, "general.architecture")
    if family != "llama":
        raise BadInput(f"the model is of the family {family!r}; the twin knows 'llama' only")
    width, heads = _field(reader, "llama.embedding_length"), _field(reader, "llama.attention.head_count")
    return Shape(
        layers=_field(reader, "llama.block_count"),
        width=width,
        heads=heads,
        kv_heads=_field(reader, "llama.attention.head_count_kv", heads),
        inner=_field(reader, "llama.feed_forward_length"),
        vocabulary=len(_field(reader, "tokenizer.ggml.tokens")),
        context=_field(reader, "llama.context_length"),
        base=_field(reader, "llama.rope.freq_base", 10_000.0),
        epsilon=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
    )


def _ends(reader: Any) -> Iterable[int]:
    """The tokens that end a generation: the file's own, and those that llama.cpp knows by their names."""
    yield _field(reader, "tokenizer.ggml.eos_token_id")
    for token, text in enumerate(_field(reader, "tokenizer.ggml.tokens")):
        if text in ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "</s>"):
            yield token


def _field(reader: Any, name: str, default: Any = None) -> Any:
    found = reader.fields.get(name)
    if found is not None:
        return found.contents()
    if default is None:
        raise BadInput(f"the model file has no field {name!r}: it is none that the twin can read")
    return default


# --- other types ----------------------------------------------------------------------------------------------------


def convert(name: str, kind: Kind) -> Path:
    """The path of a model's file with matrices of this type, written into the cache when first asked for. `name` is
    one of the catalogue, or a path that ends in `.gguf`. Raises BadInput for what is neither, ModelUnavailable for a
    file that can't be read or written."""
    if kind not in get_args(Kind):
        raise BadInput(f"there is no type {kind!r} to convert to; use one of {', '.join(get_args(Kind))}")
    source = Path(name) if name.endswith(".gguf") else fetch(name)
    if not source.is_file():
        raise ModelUnavailable(f"there is no model file {source}; correct the path")
    target = models_dir() / f"{source.stem}-{_mark(source, name)}{kind}.gguf"
    if not _whole(target):
        gguf = _gguf()
        reader = _reader(source)
        arrays = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
        _write(target, kind, arrays, lambda writer: _copy_fields(reader, writer))
    return target


def _mark(source: Path, name: str) -> str:
    """Tells files of the user's apart; one of the catalogue has its hash in its name."""
    if not name.endswith(".gguf"):
        return ""
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8] + "-"


def sha256(path: Path) -> str:
    """The hash of a file that `convert` or `toy` wrote, as it was written."""
    return str(json.loads(_note(path).read_text())["sha256"])


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _whole(path: Path) -> bool:
    """Only a whole file ever has this name, so its size is enough to know it again."""
    try:
        return bool(path.stat().st_size == json.loads(_note(path).read_text())["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _copy_fields(reader: Any, writer: Any) -> None:
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)


def _write(target: Path, kind: Kind, arrays: dict[str, Any], fields: Any) -> None:
    gguf = _gguf()
    wanted = gguf.GGMLQuantizationType[kind.upper()]
    part = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_file_type(_FILE_TYPES[kind])
        fields(writer)
        for name, array in arrays.items():
            plain = kind == "f32" or array.ndim < 2
            given = array.astype("float32") if plain else gguf.quantize(array, wanted)
            writer.add_tensor(name, given, raw_dtype=None if plain or kind == "f16" else wanted)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        _note(target).write_text(json.dumps({"sha256": digest, "size": part.stat().st_size}))
        part.replace(target)
    except OSError as error:
        raise ModelUnavailable(
            f"cannot write {target} ({error}); make room, or set WEFT_MODELS to a folder that can be written"
        ) from error
    finally:
        part.unlink(missing_ok=True)


# --- random weights -------------------------------------------------------------------------------------------------

TOY = Shape(layers=2, width=64, heads=4, kv_heads=2, inner=128, vocabulary=260, context=2048)
"""A model that takes milliseconds to load. Its words make no sense; its mechanics are those of a large one."""
_CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def toy(path: Path, kind: Kind = "f32", shape: Shape = TOY, seed: int = 0) -> Path:
    """Write a model of random weights, whose tokens are bytes, to `path`: for tests of what is done with models."""
    import numpy as np

    if shape.vocabulary < 260 or shape.width % shape.heads or shape.heads % shape.kv_heads:
        raise BadInput(f"no decoder has the shape {shape}: tokens >= 260, and heads must divide width, kv_heads heads")
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        return np.float32(scale / columns**0.5) * rng.standard_normal((rows, columns), np.float32)

    ones = np.ones(shape.width, np.float32)
    arrays = {"token_embd.weight": matrix(shape.vocabulary, shape.width, 4.0), "output_norm.weight": ones}
    for n in range(shape.layers):
        narrow = shape.kv_heads * shape.head
        arrays |= {
            f"blk.{n}.attn_norm.weight": ones,
            f"blk.{n}.attn_q.weight": matrix(shape.width, shape.width, 1.5),
            f"blk.{n}.attn_k.weight": matrix(narrow, shape.width, 1.5),
            f"blk.{n}.attn_v.weight": matrix(narrow, shape.width, 1.5),
            f"blk.{n}.attn_output.weight": matrix(shape.width, shape.width, 1.5),
            f"blk.{n}.ffn_norm.weight": ones,
            f"blk.{n}.ffn_gate.weight": matrix(shape.inner, shape.width, 1.5),
            f"blk.{n}.ffn_up.weight": matrix(shape.inner, shape.width, 1.5),
            f"blk.{n}.ffn_down.weight": matrix(shape.width, shape.inner, 1.5),
        }
    _write(path, kind, arrays, lambda writer: _toy_fields(shape, writer))
    return path


def _toy_fields(shape: Shape, writer: Any) -> None:
    letters = [letter(byte) for byte in range(256)]
    spare = [f"<|{n}|>" for n in range(shape.vocabulary - 260)]
    writer.add_name("toy")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.base)
    writer.add_rope_dimension_count(shape.head)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*_CONTROLS, *letters, letter(ord(" ")) + "t", *spare])
    writer.add_token_types([3] * len(_CONTROLS) + [1] * 257 + [3] * len(spare))
    writer.add_token_merges([f"{letter(ord(' '))} t"])  # a vocabulary without any is refused
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def letter(byte: int) -> str:
    """The character that stands for a byte in a byte-level vocabulary: itself if it can be seen, else one above 255."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(byte) if byte in seen else chr(256 + sorted(set(range(256)) - set(seen)).index(byte))


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("reading a model's weights needs the extra `torch`: pip install 'weft[torch]'") from error
    return gguf


def _reader(path: Path) -> Any:
    gguf = _gguf()
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelUnavailable(f"{path} is no model file that can be read ({error}); correct the path") from error


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise SystemExit("usage: python -m weft.model.engine.weights NAME f32|f16|bf16")
    try:
        path = convert(arguments[0], cast(Kind, arguments[1]))
    except (BadInput, ModelUnavailable, MissingExtra) as error:
        raise SystemExit(str(error)) from None
    print(path, sha256(path))


if __name__ == "__main__":
    main(sys.argv[1:])
