"""What a process is made of: its workflow, its rights and its limits, named by the hash of their content.

Processes that are made of the same share one image, whose content a store keeps once.
"""

from __future__ import annotations

import hashlib

import msgspec

from weft.core.approvals import Approvals
from weft.core.budget import Budget
from weft.core.capability import Capability
from weft.core.clearance import Rule
from weft.core.label import PUBLIC, Label


class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`workspace`: absolute path of the folder that relative paths of capabilities and files mean."""

    workflow: str
    version: str
    """Digest of the workflow's code."""
    workspace: str
    capabilities: tuple[Capability, ...] = ()
    """What its processes hold when they begin; a capability's number is its place here."""
    budget: Budget | None = None
    """Its own, for it and all below it."""
    account: str | None = None
    """The process above whose budget it spends too."""
    model: str | None = None
    """The model that generations use if none is named."""
    tools: tuple[str, ...] = ()
    """Names of the tools that a model is shown. They grant nothing."""
    mark: Label = PUBLIC
    """What its processes carry when they begin: what those that started them had seen."""
    labels: tuple[Rule, ...] = ()
    clear: tuple[Rule, ...] = ()
    """What carries which label, and where it may go."""
    approvals: Approvals | None = None
    """How its approvals are asked for."""
    caller: str = ""
    """Trace context (`weft.core.traceparent`) of whoever started the run from outside."""


encode_image = msgspec.msgpack.Encoder().encode
decode_image = msgspec.msgpack.Decoder(Image).decode


def image_hash(data: bytes) -> bytes:
    """16 bytes that name an encoded image."""
    return hashlib.blake2b(data, digest_size=16, person=b"weft image").digest()
