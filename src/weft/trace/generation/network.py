"""The network: a variational auto-encoder of whole cases, conditioned on what is asked for.

Encoder: attributes, events (activity, time, resource, amounts) through a recurrent net, and the conditions, to the mean
and spread of a latent vector. Decoder: the latent vector and the conditions give the attributes, and, event by event,
the activity and then everything else about it. arXiv 2411.02131, § 3; what differs is told in docs/methods/cvae.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from weft.trace.generation.generator import Settings


class Network(nn.Module):
    """`activities`, `channels`, `conditions`, `attributes`: how many codes each has. `seconds`: what a code of the
    first channel, the time since the event before, stands for on average."""

    seconds: Tensor

    def __init__(
        self, settings: Settings, activities: int, channels: Sequence[int], conditions: Sequence[int],
        attributes: Sequence[int], seconds: Sequence[float],
    ) -> None:  # fmt: skip
        super().__init__()
        wide, hidden, latent = settings.embedding, settings.hidden, settings.latent
        recurrent = {"gru": nn.GRU, "lstm": nn.LSTM}[settings.cell]
        self.attribute_sizes = list(attributes)
        self.register_buffer("seconds", torch.tensor(list(seconds), dtype=torch.float32))
        self.activity = nn.Embedding(activities, wide)
        self.channels = nn.ModuleList(nn.Embedding(size, wide) for size in channels)
        self.conditions = nn.ModuleList(nn.Embedding(size, wide) for size in conditions)
        self.attributes = nn.ModuleList(nn.Embedding(size, wide) for size in attributes)
        asked, event = wide * len(conditions), wide * (1 + len(channels))
        told = wide * len(attributes) // 2
        self.told = nn.Sequential(nn.Linear(wide * len(attributes), told), nn.ReLU()) if attributes else None
        self.reader = recurrent(event, hidden, batch_first=True)
        self.mean = nn.Linear(hidden + asked + told, latent)
        self.spread = nn.Linear(hidden + asked + told, latent)
        self.plan = nn.Sequential(nn.Linear(latent + asked, hidden), nn.ReLU(), nn.Dropout(settings.dropout))
        self.says_attributes = nn.Linear(hidden, sum(attributes)) if attributes else None
        self.writer = recurrent(hidden + event + 2, hidden, batch_first=True)
        self.dropped = nn.Dropout(settings.dropout)
        self.says_activity = nn.Linear(hidden, activities)
        self.says = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden + wide, hidden), nn.ReLU(), nn.Linear(hidden, size)) for size in channels
        )
        self.forget = settings.forget

    def asked(self, conditions: Tensor) -> Tensor:
        """The conditions, case × code, as one vector each."""
        return torch.cat([one(conditions[:, at]) for at, one in enumerate(self.conditions)], dim=1)

    def events(self, activities: Tensor, channels: Tensor) -> Tensor:
        """Events as vectors: `activities` case × event, `channels` case × event × channel."""
        parts = [one(channels[..., at]) for at, one in enumerate(self.channels)]
        return torch.cat([self.activity(activities), *parts], dim=-1)

    def encode(
        self, activities: Tensor, channels: Tensor, lengths: Tensor, attributes: Tensor, asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent vector of each case."""
        read, _ = self.reader(self.events(activities, channels))
        parts = [read[torch.arange(len(read)), lengths - 1], asked]
        if self.told is not None:
            known = [one(attributes[:, at]) for at, one in enumerate(self.attributes)]
            parts.append(self.told(torch.cat(known, dim=1)))
        whole = torch.cat(parts, dim=1)
        return self.mean(whole), self.spread(whole).clamp(-8, 8)

    def write(self, plan: Tensor, before: Tensor, clock: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the decoder holds after each event: `before` are the vectors of the events before, `clock` case ×
        event × 2 (see `clocks`). Goes on from `state`."""
        plans = plan[:, None, :].expand(-1, before.shape[1], -1)
        held, state = self.writer(torch.cat([plans, before, clock], dim=-1), state)
        return self.dropped(held), state

    def clocks(self, first: Tensor, elapsed: Tensor) -> Tensor:
        """How many events, and how much time, there was before each: `first` is the number of the event."""
        return torch.stack([first / 32, torch.log1p(elapsed) / 8], dim=-1)

    def channel(self, number: int, held: Tensor, activities: Tensor) -> Tensor:
        """Scores of the codes of one channel, knowing the activity."""
        scores: Tensor = self.says[number](torch.cat([held, self.activity(activities)], dim=-1))
        return scores

    def loss(
        self, activities: Tensor, channels: Tensor, lengths: Tensor, conditions: Tensor, attributes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Per case, in nats: what was not told of it, and the divergence of its latent vector from a standard normal
        one. Teacher-forced; a share of `Settings.forget` of the events before is hidden."""
        asked = self.asked(conditions)
        mean, spread = self.encode(activities, channels, lengths, attributes, asked)
        latent = mean + torch.exp(spread / 2) * torch.randn_like(mean)
        plan = self.plan(torch.cat([latent, asked], dim=1))
        before = functional.pad(self.events(activities, channels)[:, :-1], (0, 0, 1, 0))
        if self.training:
            before = before * (torch.rand(before.shape[:2]) >= self.forget)[..., None]
        elapsed = functional.pad(self.seconds[channels[..., 0]].cumsum(1)[:, :-1], (1, 0))
        number = torch.arange(activities.shape[1]).expand_as(elapsed)
        held, _ = self.write(plan, before, self.clocks(number, elapsed))
        there = torch.arange(activities.shape[1])[None, :] < lengths[:, None]
        missed = _missed(self.says_activity(held), activities, there)
        events = there & (activities > 1)
        for at in range(len(self.channels)):
            missed = missed + _missed(self.channel(at, held, activities), channels[..., at], events)
        if self.says_attributes is not None:
            scores = self.says_attributes(plan).split(self.attribute_sizes, dim=1)
            for at, one in enumerate(scores):
                missed = missed + functional.cross_entropy(one, attributes[:, at], reduction="none")
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(1)
        return missed, divergence


def _missed(scores: Tensor, codes: Tensor, there: Tensor) -> Tensor:
    each = functional.cross_entropy(scores[there], codes[there], reduction="none")
    total = torch.zeros(there.shape, dtype=each.dtype)
    total[there] = each
    return total.sum(1)
