"""Seals: what a provider signs and wants back unchanged. Each carries the name of the dialect that it came by, so that
a conversation carried over to another provider does not show it a seal that it would refuse."""

from __future__ import annotations

from weft.model.message import Reasoning


def sealed(dialect: str, seal: str) -> str:
    """The seal as messages hold it."""
    return f"{dialect}:{seal}" if seal else ""


def opened(dialect: str, signature: str) -> str:
    """The seal as the provider gave it; empty if it is another's."""
    maker, _, seal = signature.partition(":")
    return seal if maker == dialect else ""


def foreign(dialect: str, thought: Reasoning) -> bool:
    """Whether a thought holds a seal that this dialect did not make."""
    return bool(thought.signature) and not opened(dialect, thought.signature)
