"""Fitting the network to coded cases, on the CPU.

Adam, its rate falling along a cosine; the weight of the divergence goes from 0 to 1 over the first half of each of a
few cycles (cyclical annealing, as published), so that the latent vector is used before it is tidied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from weft.trace.generation.coding import Bands, Codebook, Coded
from weft.trace.generation.generator import Settings, Step
from weft.trace.generation.network import Network

STEEPEST = 5.0
"""Norm that gradients are cut to."""


def network_of(settings: Settings, book: Codebook) -> Network:
    """An untrained network for these cases."""
    after = book.channels["after"]
    assert isinstance(after, Bands)
    middle = [0.0, *(inner[len(inner) // 2] for inner in after.inner)]
    return Network(
        settings, len(book.activities) + 2, [one.size for one in book.channels.values()],
        [one.size for one in book.conditions.values()], [one.size for one in book.attributes.values()], middle,
    )  # fmt: skip


def train(settings: Settings, book: Codebook, coded: Coded, progress: Callable[[Step], None] | None) -> Network:
    """A network that was fitted. The same cases and settings give the same one on the same machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = network_of(settings, book)
        data = _tensors(coded)
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.rate)
        network.train()
        for epoch in range(settings.epochs):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * (0.02 + 0.98 * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2)
            weight = divergence_weight(epoch, settings)
            missed = diverged = 0.0
            for batch in _batches(data[2], settings.batch):
                longest = int(data[2][batch].max())
                parts = [data[0][batch, :longest], data[1][batch, :longest], *(one[batch] for one in data[2:])]
                lost, divergence = network.loss(*parts)
                optimizer.zero_grad()
                total: Any = (lost + weight * divergence).mean()
                total.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), STEEPEST)
                optimizer.step()
                missed += float(lost.detach().sum())
                diverged += float(divergence.detach().sum())
            if progress is not None:
                cases = len(data[2])
                progress(Step(epoch + 1, settings.epochs, missed / cases, diverged / cases))
        return network.eval()


def divergence_weight(epoch: int, settings: Settings) -> float:
    """From 0 to 1 over the first half of each cycle, then 1."""
    length = settings.epochs / settings.cycles
    return min(1.0, 2 * (epoch % length) / length)


def _tensors(coded: Coded) -> list[Tensor]:
    channels = torch.stack([torch.from_numpy(one) for one in coded.channels.values()], dim=-1)
    return [
        torch.from_numpy(coded.activities), channels,
        *(torch.from_numpy(one) for one in (coded.lengths, coded.conditions, coded.attributes)),
    ]  # fmt: skip


def _batches(lengths: Tensor, size: int) -> Iterator[Tensor]:
    """All cases in batches of about the same length, so that little is padded; other ones each time."""
    order: Any = torch.argsort(lengths * torch.exp(0.3 * torch.randn(len(lengths))))
    batches = order.split(size)
    for at in torch.randperm(len(batches)).tolist():
        yield batches[at]
