"""One head and one decoder for each kind of picture, behind one encoder and a router.

The published work fits an autoencoder to each class of picture; here the kinds are clusters of
encoder features, or a column of the manifest (`trainer.kinds`). Hard routing by the nearest
centroid, of each input by itself, as in a mixture of experts (Jacobs et al., 1991) whose gate
is not learnt by gradient but placed.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Router(nn.Module):
    """Features -> the expert whose centroid is nearest, in standardised feature space.

    `mean` and `std` are [F] and `centroids` is [E, F], all buffers: they are saved with the
    weights and no gradient moves them.
    """

    def __init__(self, experts: int, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("centroids", torch.zeros(experts, features))
        self.mean: Tensor
        self.std: Tensor
        self.centroids: Tensor

    @torch.no_grad()
    def place(self, features: Tensor, members: Tensor) -> None:
        """Take mean and deviation of `features`, [N, F], and the centroid of each expert.

        `members` is int64 [N], the expert of each; every expert needs one.
        """
        features = features.float().to(self.mean.device)
        members = members.to(self.mean.device)
        self.mean.copy_(features.mean(0))
        deviation = features.std(0, correction=0)
        # A feature that never moved tells nothing apart: it must not be divided by zero.
        self.std.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))
        standard = (features - self.mean) / self.std
        for expert in range(len(self.centroids)):
            self.centroids[expert] = standard[members == expert].mean(0)

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> int64 [N]."""
        standard = (features.float() - self.mean) / self.std
        # Not by a matrix product: autocast would halve its precision, and routing must be the
        # same in training, in validation and in ONNX.
        distance = (standard[:, None] - self.centroids).square().sum(2)  # [N, E]
        return distance.argmin(1)


class ExpertHeads(nn.Module):
    """`count` copies of a head; each input is judged by the one that `router` names."""

    def __init__(self, head: nn.Sequential, features: int, count: int) -> None:
        super().__init__()
        self.router = Router(count, features)
        layers = list(head)
        # Batch statistics are of all pictures: an expert may have a single one in a batch.
        norm = isinstance(layers[0], nn.BatchNorm1d)
        self.norm = layers.pop(0) if norm else nn.Identity()
        self.heads = nn.ModuleList(copy.deepcopy(nn.Sequential(*layers)) for _ in range(count))

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> [N]."""
        return self.judge(features, self.router(features))

    def judge(self, features: Tensor, expert: Tensor) -> Tensor:
        """[N, F] and int64 [N] -> [N]; an expert that no picture is for gets no gradient."""
        standard = self.norm(features)
        logit = torch.zeros(len(features), device=features.device)
        for number, head in enumerate(self.heads):
            own = (expert == number).nonzero().squeeze(1)
            if len(own):
                logit = logit.index_copy(0, own, head(standard[own]).squeeze(1).float())
        return logit

    def last_layers(self) -> list[nn.Linear]:
        """The layers that the logits come out of."""
        lasts = [list(head.children())[-1] for head in self.heads]
        return [last for last in lasts if isinstance(last, nn.Linear)]

    def dense(self, features: Tensor) -> Tensor:
        """The same as `forward` without a branch, for ONNX: all heads judge, one is picked."""
        standard = self.norm(features)
        logits = torch.cat([head(standard) for head in self.heads], 1)  # [N, E]
        return logits.gather(1, self.router(features)[:, None]).squeeze(1)


class ExpertDecoders(nn.Module):
    """`count` copies of a decoder; each picture is remade by its own."""

    def __init__(self, decoder: nn.Module, count: int) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(copy.deepcopy(decoder) for _ in range(count))

    def forward(self, deepest: Tensor, expert: Tensor) -> Tensor:
        """[N, C, S / stride, S / stride] and int64 [N] -> [N, 3, R, R]."""
        remade: Tensor | None = None
        for number, decoder in enumerate(self.decoders):
            own = (expert == number).nonzero().squeeze(1)
            if len(own):
                part = decoder(deepest[own])
                if remade is None:
                    remade = part.new_zeros(len(deepest), *part.shape[1:])
                remade = remade.index_copy(0, own, part)
        assert remade is not None  # there is a picture, and each has an expert
        return remade

    def dense(self, deepest: Tensor, expert: Tensor) -> Tensor:
        """The same without a branch, for ONNX: every decoder remakes every picture."""
        remade: Tensor = self.decoders[0](deepest)
        for number, decoder in enumerate(self.decoders):
            if number:
                chosen = (expert == number)[:, None, None, None]
                remade = torch.where(chosen, decoder(deepest), remade)
        return remade


def experts_in(state: dict[str, Tensor]) -> int:
    """How many experts a state dict is of; 0: it has one head for all."""
    centroids = state.get("classifier.router.centroids")
    return 0 if centroids is None else len(centroids)
