"""Where the loop's batches come from: pictures encoded as they pass, or a cache of encodings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from scanner.errors import UsageError
from trainer.config import FitConfig
from trainer.data import Sample, Splits
from trainer.decoded import DecodedPictures
from trainer.encoded import EncodedPictures
from trainer.encoders import Encoded
from trainer.loader import (
    Pictures,
    batch_sizes,
    draw_order,
    eval_batches,
    share_of,
    train_batches,
)
from trainer.models import AutoencoderClassifier
from trainer.processes import ALONE, Processes


@dataclass(frozen=True, slots=True)
class Batch:
    """`encoded.features` is [N * V, F]; maps and `target` are of the first few, or empty.

    `label` is [N], 1 for fake.
    """

    encoded: Encoded
    target: Tensor
    label: Tensor


class Source(Protocol):
    """Batches for the loop, the same for the same seed and epoch."""

    def sizes(self) -> list[int]:
        """How many pictures each batch of an epoch has, in this process."""

    def train(self, epoch: int) -> Iterator[Batch]:
        """The shuffled training batches of one epoch, one view a picture."""

    def val(self, model: AutoencoderClassifier) -> Iterator[Batch]:
        """The validation pictures in order, all views, encoded by `model`."""

    def features(self, samples: Sequence[Sample], model: AutoencoderClassifier) -> Tensor:
        """What `model` says of the middle view of training pictures, unchanged: [N, F] on the CPU.

        `model` is left in evaluation mode.
        """


class Online:
    """Decode, change, prepare and encode in every epoch."""

    def __init__(
        self,
        model: AutoencoderClassifier,
        splits: Splits,
        config: FitConfig,
        device: torch.device,
        amp: torch.dtype | None,
        decoded: DecodedPictures | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        self.model, self.config, self.device, self.amp = model, config, device, amp
        self._train = Pictures(
            splits.train,
            model.spec,
            augmentation=config.augment,
            seed=config.seed,
            decoded=decoded,
        )
        self._val = Pictures(splits.val, model.spec, decoded=decoded)

    def sizes(self) -> list[int]:
        """See `Source`."""
        return batch_sizes(len(self._train), self.config.batch_size, self.processes.count)

    def train(self, epoch: int) -> Iterator[Batch]:
        """See `Source`."""
        pin = self.device.type == "cuda"
        rank, count = self.processes.rank, self.processes.count
        for pixels, label, index in train_batches(
            self._train, self.config, epoch, pin=pin, rank=rank, count=count
        ):
            # [N, V, 3, S, S] -> [N, 3, S, S]: each epoch shows another of a picture's views.
            x = pixels[torch.arange(len(pixels)), (index + epoch) % pixels.shape[1]]
            yield self._batch(self.model, x, label, maps_of(self.model, self.config, len(label)))

    def val(self, model: AutoencoderClassifier) -> Iterator[Batch]:
        """See `Source`."""
        for pixels, label, _ in eval_batches(self._val, self.config):
            x = pixels.flatten(0, 1)  # [N * V, 3, S, S]
            yield self._batch(model, x, label, len(x) if model.decoder is not None else 0)

    @torch.inference_mode()
    def features(self, samples: Sequence[Sample], model: AutoencoderClassifier) -> Tensor:
        """See `Source`."""
        pictures = Pictures(samples, model.spec, decoded=self._train.decoded)
        model.eval()
        found = []
        for pixels, label, _ in eval_batches(pictures, self.config):
            batch = self._batch(model, pixels[:, pixels.shape[1] // 2], label, 0)
            found.append(batch.encoded.features.float().cpu())
        return torch.cat(found)

    def _batch(self, model: AutoencoderClassifier, x: Tensor, label: Tensor, maps: int) -> Batch:
        x = x.to(self.device, non_blocking=True)
        # Validation is in float32, as the exported graphs are: thresholds come from it.
        half = self.amp is not None and model.training
        with torch.autocast(self.device.type, dtype=self.amp, enabled=half):
            encoded = model.encoder(x)
        label = label.to(self.device, non_blocking=True)
        if not maps:
            return Batch(encoded, torch.empty(0), label)
        return Batch(
            Encoded(encoded.deepest[:maps], encoded.features), model.target(x[:maps]), label
        )


class FromCache:
    """Read what a frozen encoder made of each picture.

    Epoch e sees draw e modulo `cached_draws` of the augmentation. Where the encoder's last stages
    learn, from epoch `freeze_epochs` on, what enters them is read and they run anew.
    """

    def __init__(
        self,
        model: AutoencoderClassifier,
        splits: Splits,
        config: FitConfig,
        device: torch.device,
        amp: torch.dtype | None,
        cache: EncodedPictures,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.splits, self.config = model, splits, config
        self.device, self.amp = device, amp
        self.cache, self.processes = cache, processes
        maps = model.decoder is not None
        self._rows = cache.rows(splits.train)
        self._val_rows = cache.rows(splits.val)
        whole = config.optimizer == "lbfgs"  # every epoch sees all draws
        self.draws = config.cached_draws if whole else min(config.cached_draws, config.epochs)
        self._frozen_epochs = config.freeze_epochs if config.unfrozen else config.epochs
        self._joined = config.unfrozen > 0  # whether the last stages may have learnt
        epochs = self.draws if whole else config.epochs
        seen = {(e % config.cached_draws, e >= self._frozen_epochs) for e in range(epochs)}
        for draw, begun in sorted(seen):
            cache.fill(f"lottery-{draw}", self._rows, maps=maps, begun=begun)
        if self._frozen_epochs:
            cache.fill("clean", self._val_rows, maps=maps)
        if self._joined:
            cache.fill("clean", self._val_rows, maps=maps, begun=True)
            # Half the time of the default layout on a CPU, as in filling.
            model.encoder.to(memory_format=torch.channels_last)

    def sizes(self) -> list[int]:
        """See `Source`."""
        return batch_sizes(len(self._rows), self.config.batch_size, self.processes.count)

    def train(self, epoch: int) -> Iterator[Batch]:
        """See `Source`."""
        samples, count = self.splits.train, self.processes.count
        self._joined = epoch >= self._frozen_epochs
        order = draw_order(samples, self.config, epoch)
        order = share_of(order, self.config.batch_size, self.processes.rank, count)
        size = self.config.batch_size // count
        for start in range(0, len(order), size):
            part = order[start : start + size]
            maps = maps_of(self.model, self.config, len(part))
            variant = f"lottery-{epoch % self.config.cached_draws}"
            yield self._batch(variant, [samples[i] for i in part], maps, self.model)

    def drawn(self, draw: int) -> Tensor:
        """Features of all training pictures in one draw of the augmentation, [N, F]."""
        return self.cache.read(f"lottery-{draw}", self._rows, maps=0)[0].features

    def val(self, model: AutoencoderClassifier) -> Iterator[Batch]:
        """See `Source`; as long as the encoder is frozen, it is the same in `model`."""
        samples, size = self.splits.val, self.config.batch_size
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            maps = len(part) if self.model.decoder is not None else 0
            yield self._batch("clean", part, maps, model)

    def features(self, samples: Sequence[Sample], model: AutoencoderClassifier) -> Tensor:
        """See `Source`; as long as the encoder is frozen, it is the same in `model`."""
        return self.cache.features("clean", samples, model if self._joined else None)

    def _batch(
        self, variant: str, part: Sequence[Sample], maps: int, model: AutoencoderClassifier
    ) -> Batch:
        rows = self.cache.rows(part)
        if self._joined:
            begun, target = self.cache.read_begun(variant, rows, maps=maps)
            half = self.amp is not None and model.training  # as in `Online`
            with torch.autocast(self.device.type, dtype=self.amp, enabled=half):
                encoded = model.encoder.finish(begun.to(self.device), self.config.unfrozen)
            encoded = Encoded(encoded.deepest[:maps], encoded.features)
        else:
            encoded, target = self.cache.read(variant, rows, maps=maps)
        label = torch.tensor([sample.label for sample in part])
        return Batch(
            encoded.to(self.device),
            target.to(self.device),
            label.to(self.device),
        )


def open_source(
    model: AutoencoderClassifier,
    splits: Splits,
    config: FitConfig,
    device: torch.device,
    amp: torch.dtype | None,
    cache: Path | EncodedPictures | None = None,
    on_encode: Callable[[str, int, int], None] = lambda variant, done, total: None,
    decoded: DecodedPictures | None = None,
    processes: Processes = ALONE,
) -> Source:
    """Pictures as they pass, or where `cached_draws` asks for it their encodings in `cache`.

    Either way they are read from `decoded` where that holds them. One of several `processes`
    gets its share; raises UsageError where their number does not divide `batch_size`.
    """
    _refuse_uneven(len(splits.train), config, processes)
    if not config.cached_draws:
        return Online(model, splits, config, device, amp, decoded, processes)
    assert cache is not None
    if isinstance(cache, Path):
        samples = sorted((*splits.train, *splits.val), key=lambda sample: sample.key)
        with processes.first_goes_ahead():
            cache = EncodedPictures(cache, model, samples, config, device, on_encode, decoded)
    with processes.first_goes_ahead():  # the others find nothing left to encode
        return FromCache(model, splits, config, device, amp, cache, processes)


def _refuse_uneven(pictures: int, config: FitConfig, processes: Processes) -> None:
    if config.batch_size % processes.count:
        raise UsageError(
            f"batch_size = {config.batch_size}: it is shared by {processes.count} processes; give "
            "a multiple"
        )
    if not batch_sizes(pictures, config.batch_size, processes.count):
        raise UsageError(
            f"{pictures} training pictures are too few for {processes.count} processes"
        )


def maps_of(model: AutoencoderClassifier, config: FitConfig, count: int) -> int:
    """How many of `count` pictures are reconstructed in a training step."""
    if model.decoder is None:
        return 0
    return max(1, round(config.reconstruction_share * count))
