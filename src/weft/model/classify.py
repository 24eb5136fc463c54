"""One label out of a few for many texts, by a model under a JSON schema.

A small model has habits: whatever it reads, it would rather say one label than another. So its leaning is measured on
a few `neutral` texts, spread evenly over the labels, and taken off its scores (contextual calibration).
Without `neutral`, or where a server tells no likelihoods, the label that the model writes is the answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from statistics import fmean

from weft.core.errors import BadInput
from weft.model.message import Message
from weft.model.provider import Asked


class Classifier:
    """`await classifier(text)` is one of `labels`. `examples` are (text, label) pairs shown to the model; they and the
    instruction come first and are the same for every text, so the engine reads them once per slot. `form` says how
    a text is put to the model, e.g. "Commit: {}"."""

    def __init__(
        self,
        model: Asked,
        labels: Sequence[str],
        *,
        system: str | None = None,
        examples: Sequence[tuple[str, str]] = (),
        neutral: Sequence[str] = (),
        form: str = "{}",
        timeout: float = 600.0,
    ) -> None:
        if len(set(labels)) < 2:
            raise BadInput(f"a classifier needs at least two different labels, not {list(labels)!r}")
        if unknown := {label for _, label in examples} - set(labels):
            raise BadInput(f"the examples have labels that are not among {list(labels)!r}: {sorted(unknown)!r}")
        self.model = model
        self.labels = list(labels)
        self.neutral = list(neutral)
        self._system = system or f"Answer with one of: {', '.join(labels)}."
        self._shown = [
            turn
            for text, label in examples
            for turn in (Message("user", text), Message("assistant", json.dumps(label)))
        ]
        self._form = form
        self._timeout = timeout
        self._leaning: asyncio.Task[dict[str, float]] | None = None

    async def __call__(self, text: str) -> str:
        """The label that fits `text`. Raises what `Model.chat` raises."""
        if not self.neutral:
            return (await self._ask(text))[0]
        if self._leaning is None:
            self._leaning = asyncio.ensure_future(self._lean())
        leaning = await asyncio.shield(self._leaning)
        _, scores = await self._ask(text)
        return max(self.labels, key=lambda label: scores[label] - leaning[label])

    async def _ask(self, text: str) -> tuple[str, dict[str, float]]:
        reply = await self.model.chat(
            [*self._shown, Message("user", self._form.format(text))],
            system=self._system,
            schema={"type": "string", "enum": self.labels},
            max_tokens=32,
            timeout=self._timeout,
            score=self.labels if self.neutral else (),
        )
        return reply.data, reply.scores

    async def _lean(self) -> dict[str, float]:
        all_scores = await asyncio.gather(*(self._ask(text) for text in self.neutral))
        return {label: fmean(scores[label] for _, scores in all_scores) for label in self.labels}
