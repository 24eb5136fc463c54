"""Several deployments as one model: the next where one fails, or one of them by lot.

    model = weft.model.fallback("anthropic:claude-sonnet-5", "openai:gpt-5", "smollm2-135m")
    model = weft.model.balance({"openai:gpt-5": 3, "http://mine:8000/v1#gpt-oss": 1})

Plain code over `Model`: in a workflow each try is an effect of its own, with its own retries and queue, and the lot is
drawn by `weft.random()`; so the journal shows who was asked, who failed and who answered.
"""

from __future__ import annotations

import random as chance
from collections.abc import Mapping

from weft.core.boundary import boundary
from weft.core.errors import BadInput, KeyRefused, UnknownModel
from weft.model.generate import TRANSIENT
from weft.model.provider import Asked, Model
from weft.model.request import Reply, Request
from weft.runtime.effects import random


class Fallback(Asked):
    """Asks each model in turn until one answers."""

    def __init__(self, models: list[Asked]) -> None:
        self.models = models
        self.spec = " | ".join(model.spec for model in models)

    async def ask(self, request: Request, stream: str = "") -> Reply:
        return await _first(self.models, request, stream)


class Balance(Asked):
    """Asks one of the models, drawn by weight; the others, in order, if it fails."""

    def __init__(self, weights: list[tuple[Asked, float]]) -> None:
        self.weights = weights
        self.spec = " & ".join(model.spec for model, _ in weights)

    async def ask(self, request: Request, stream: str = "") -> Reply:
        drawn = (random() if boundary() is not None else chance.random()) * sum(weight for _, weight in self.weights)
        number = 0
        while number < len(self.weights) - 1 and drawn >= self.weights[number][1]:
            drawn -= self.weights[number][1]
            number += 1
        models = [model for model, _ in self.weights]
        return await _first([models[number], *models[:number], *models[number + 1 :]], request, stream)


async def _first(models: list[Asked], request: Request, stream: str) -> Reply:
    for model in models[:-1]:
        try:
            return await model.ask(request, stream)
        except (*TRANSIENT, KeyRefused, UnknownModel):
            continue
    return await models[-1].ask(request, stream)


def fallback(*models: Asked | str) -> Fallback:
    """The first of these models that answers. One that is busy, gone, too slow, unknown or refuses its key is passed
    over, after its own retries; other errors (a prompt that is too long, a schema that is refused) are raised."""
    if not models:
        raise BadInput("weft.model.fallback() needs at least one model")
    return Fallback([_model(model) for model in models])


def balance(models: Mapping[str, float] | list[Asked | str]) -> Balance:
    """One of these models, drawn by weight (a list: all the same); the others if it fails."""
    weights = list(models.items()) if isinstance(models, Mapping) else [(model, 1.0) for model in models]
    if not weights or any(weight <= 0 for _, weight in weights):
        raise BadInput(f"weft.model.balance({models!r}) needs at least one model, and weights above 0")
    return Balance([(_model(model), weight) for model, weight in weights])


def _model(model: Asked | str) -> Asked:
    return Model(model) if isinstance(model, str) else model
