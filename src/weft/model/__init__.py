"""Models: the embedded engine and OpenAI-compatible servers behind one small interface."""

from __future__ import annotations

from weft.model.catalogue import DEFAULT, catalogue
from weft.model.classify import Classifier
from weft.model.embed import Embedder, Vectors, cosine, embedder
from weft.model.engine import close_engines as close
from weft.model.fetch import fetch
from weft.model.provider import Message, Model, Reply, Request, generate, local
from weft.model.provider import open_model as open

__all__ = [
    "DEFAULT",
    "Classifier",
    "Embedder",
    "Message",
    "Model",
    "Reply",
    "Request",
    "Vectors",
    "catalogue",
    "close",
    "cosine",
    "embedder",
    "fetch",
    "generate",
    "local",
    "open",
]
