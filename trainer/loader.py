"""Batches of prepared pixels out of `Sample`s, the same for the same seed and epoch."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scanner.errors import ImgscanError
from scanner.preprocess import PreprocessSpec, normalised, prepare
from scanner.types import Failed
from trainer.augment import augment
from trainer.config import Augmentation, Balance, FitConfig
from trainer.data import Sample
from trainer.decoded import DecodedPictures, Recipe

# Yields (pixels float32 [N, V, 3, S, S], labels int64 [N], indices int64 [N]).
Batches = DataLoader[Any]
RGB = npt.NDArray[np.uint8]


class Pictures(Dataset[Any]):
    """Item i is (prepared pixels float32 [V, 3, S, S], label, i).

    `change` is applied between decoding and preparing. For one that needs more pixels than the
    prepared square does, a JPEG is decoded as it would be for a square of `decode_side`. Every
    random draw depends on seed, epoch and the picture's key alone: neither workers, nor a
    resumed run, nor a change of the other pictures alters it. `decoded` saves time and alters
    nothing either.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: PreprocessSpec,
        *,
        augmentation: Augmentation = "none",
        change: Callable[[RGB], RGB] | None = None,
        decode_side: int = 0,
        seed: int = 0,
        decoded: DecodedPictures | None = None,
    ) -> None:
        self.samples, self.spec, self.decoded = samples, spec, decoded
        self.augmentation, self.change, self.seed = augmentation, change, seed
        whole = augmentation != "none"
        side = max(spec.size, decode_side)
        self.recipe = Recipe(spec, side, whole=whole, change=None if whole else change)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        sample = self.samples[index]
        cache = self.decoded
        kept = self.recipe.make(sample) if cache is None else cache.read(sample, self.recipe)
        if isinstance(kept, Failed):
            raise ImgscanError(f"{sample.key}: {kept.detail}; it could be read at the start")
        if not self.recipe.whole:
            return torch.from_numpy(normalised(kept.rgb, self.spec)), sample.label, index
        rgb = kept.rgb if self.change is None else self.change(kept.rgb)
        rng = np.random.default_rng((self.seed, self.epoch, _key_number(sample)))
        rgb = augment(rgb, self.augmentation, rng)
        # The box spoke of the decoded picture; what it trims is under one pixel.
        box = kept.box if rgb is kept.rgb else None
        return torch.from_numpy(prepare(rgb, self.spec, box)), sample.label, index


def _key_number(sample: Sample) -> int:
    return zlib.crc32(sample.key.encode("utf-8", "surrogateescape"))


def train_batches(
    pictures: Pictures,
    config: FitConfig,
    epoch: int,
    *,
    pin: bool = False,
    rank: int = 0,
    count: int = 1,
) -> Batches:
    """The shuffled batches of one epoch: the share of process `rank` of `count`."""
    pictures.epoch = epoch
    order = draw_order(pictures.samples, config, epoch)
    own = share_of(order, config.batch_size, rank, count)
    return _loader(pictures, config, own, pin, config.batch_size // count)


def eval_batches(pictures: Pictures, config: FitConfig, *, pin: bool = False) -> Batches:
    """All pictures once, in order."""
    return _loader(pictures, config, list(range(len(pictures))), pin, config.batch_size)


def batch_sizes(pictures: int, batch_size: int, count: int = 1) -> list[int]:
    """How many pictures each batch of an epoch gives each of `count` processes.

    Of the last batch, what does not go round is left out, and so is a picture that would be
    alone: batch normalisation cannot learn from it.
    """
    whole, rest = divmod(pictures, batch_size)
    rest //= count
    return [batch_size // count] * whole + [rest] * (rest > 1 or (rest == 1 and not whole))


def share_of(order: Sequence[int], batch_size: int, rank: int, count: int) -> list[int]:
    """The pictures of process `rank`: every `count`th of each batch, batch after batch.

    Together the processes see the batches that one alone would see.
    """
    own: list[int] = []
    for number, size in enumerate(batch_sizes(len(order), batch_size, count)):
        start = number * batch_size
        own += order[start : start + size * count][rank::count]
    return own


def _loader(
    pictures: Pictures, config: FitConfig, order: list[int], pin: bool, batch_size: int
) -> Batches:
    return DataLoader(
        pictures,
        batch_size=batch_size,
        sampler=_Fixed(order),
        num_workers=min(config.workers, max(1, len(order))) if config.workers else 0,
        pin_memory=pin,
    )


class _Fixed(torch.utils.data.Sampler[int]):
    """The indices it is given, in that order."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


def draw_order(samples: Sequence[Sample], config: FitConfig, epoch: int) -> list[int]:
    """As many draws as there are pictures: a permutation, or weighted with replacement.

    One that would be left alone in the last batch is dropped: batch normalisation cannot
    learn from one picture.

    "class" makes both classes equally likely; "source" besides that makes the sources of a
    class count by the square root of their sizes, so that big ones do not drown small ones.
    `real_per_fake` r replaces the even classes: a draw is fake with probability 1 / (1 + r).
    """
    rng = np.random.default_rng((config.seed, epoch))
    count = len(samples)
    if config.balance == "none" and config.prior is None:
        order = rng.permutation(count)
    else:
        order = rng.choice(count, count, p=sample_weights(samples, config.balance, config.prior))
    if count > config.batch_size and count % config.batch_size == 1:
        order = order[:-1]
    return [int(i) for i in order]


def fake_share(samples: Sequence[Sample], config: FitConfig) -> float:
    """The share of `draw_order`'s draws that are fake, in expectation."""
    if config.prior is not None:
        return config.prior
    if config.balance != "none":
        return 0.5
    return sum(s.label for s in samples) / len(samples)


def sample_weights(
    samples: Sequence[Sample], balance: Balance, prior: float | None = None
) -> npt.NDArray[np.float64]:
    """Probability of each sample under `balance`, float64 [N], summing to 1.

    `prior` is the sum over the fakes, in 0..1; None: both classes sum to 0.5.
    """
    by_class = Counter(s.label for s in samples)
    by_source = Counter((s.label, s.source) for s in samples)
    if balance == "source":
        raw = {key: count**0.5 / count for key, count in by_source.items()}
    else:
        raw = {key: 1.0 / by_class[key[0]] for key in by_source}
    weights = np.array([raw[s.label, s.source] for s in samples])
    labels = np.array([s.label for s in samples])
    for label in by_class:
        share = 1.0 if prior is None else prior if label else 1 - prior
        weights[labels == label] *= share / weights[labels == label].sum()
    normalised: npt.NDArray[np.float64] = weights / weights.sum()
    return normalised
