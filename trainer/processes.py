"""Several processes that fit one model, as torchrun starts them: each takes a share of every batch.

Gradients are averaged by DistributedDataParallel (Li et al., 2020): over NCCL on GPUs, one for
each process, and over gloo on the CPU. The first process validates, decides and writes; the
others follow what it says.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scanner.errors import ImgscanError, UsageError
from scanner.text import one_line
from trainer.encoders import Encoded
from trainer.models import AutoencoderClassifier, Head, Output

T = TypeVar("T")
# The others wait while the first validates or fills a cache. Should it die, torchrun ends them.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process, `rank`, among `count`; `local_rank` among those of its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, prints and writes."""
        return self.rank == 0

    def device(self, name: str | None) -> torch.device:
        """ "cuda", "cpu" or None for what there is; each process has a GPU of its own.

        Raises UsageError where there is none.
        """
        available = torch.cuda.is_available()
        kind = name or ("cuda" if available else "cpu")
        if torch.device(kind).type == "cuda" and not available:
            raise UsageError(f"device {kind}: PyTorch finds no CUDA device; use --device cpu")
        if self.count == 1 or torch.device(kind).type != "cuda":
            return torch.device(kind)
        # The same in all of them, for only the first one's words are heard.
        if int(os.environ.get("LOCAL_WORLD_SIZE", self.count)) > torch.cuda.device_count():
            raise UsageError(
                f"{torch.cuda.device_count()} GPUs for more processes than that: start torchrun "
                "with a lower --nproc-per-node, or fit with --device cpu"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, in all of them; it runs in that one alone.

        Where it raises an ImgscanError there, every process does.
        """
        if self.count == 1:
            return make()
        told: list[Any] = [None, None]
        failure: ImgscanError | None = None
        if self.first:
            try:
                told[0] = make()
            except ImgscanError as error:
                failure, told[1] = error, (type(error), str(error))
        dist.broadcast_object_list(told, src=0)
        if failure is not None:
            raise failure
        if told[1] is not None:
            kind, text = told[1]
            raise kind(text)
        result: T = told[0]
        return result

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first process runs the body before the others do."""
        if not self.first:
            dist.barrier()
        yield
        if self.first and self.count > 1:
            dist.barrier()

    def total(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of an array, of any shape, over the processes."""
        if self.count > 1:
            dist.all_reduce(torch.from_numpy(sums))
        return sums

    def average_statistics(self, model: nn.Module) -> None:
        """Average what batch normalisation gathered in training: each process saw its share."""
        if self.count == 1:
            return
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                for statistic in (module.running_mean, module.running_var):
                    if statistic is not None:
                        dist.all_reduce(statistic)
                        statistic /= self.count


ALONE = Processes()


class Forward:
    """What follows the encoder, such that the backward pass averages gradients over processes."""

    def __init__(self, model: AutoencoderClassifier, processes: Processes) -> None:
        self._model, self._processes = model, processes
        self._parallel: DistributedDataParallel | None = None
        self._trained: list[bool] = []

    def follow(self) -> None:
        """Take note of which parameters learn from now on."""
        trained = [p.requires_grad for p in self._model.parameters()]
        if self._processes.count > 1 and trained != self._trained:
            self._trained = trained
            # An expert may get no picture of a batch; else every parameter has a part in it.
            experts = not isinstance(self._model.classifier, Head)
            with warnings.catch_warnings():
                # The name that takes its place is younger than the oldest PyTorch we run on.
                warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
                # Statistics are not sent at each step: the encoder has run by then, and its
                # backward needs its own.
                self._parallel = DistributedDataParallel(
                    _AfterEncoder(self._model),
                    broadcast_buffers=False,
                    find_unused_parameters=experts,
                )

    def __call__(self, encoded: Encoded, *, average: bool) -> Output:
        """As `from_encoded`; without `average`, gradients gather in each process by itself."""
        if self._parallel is None:
            return self._model.from_encoded(encoded)
        self._parallel.require_backward_grad_sync = average  # what no_sync() sets
        output: Output = self._parallel(encoded)
        return output


class _AfterEncoder(nn.Module):
    """The whole model to DistributedDataParallel, whose hooks are on the parameters; the encoder
    runs before its forward, within the same graph."""

    def __init__(self, model: AutoencoderClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, encoded: Encoded) -> Output:
        return self.model.from_encoded(encoded)


@contextmanager
def launched(device: str | None = None) -> Iterator[Processes]:
    """The processes that torchrun started this one among; one alone where it did not.

    `device` as in `Processes.device`. Raises UsageError where they cannot find each other.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available() if device is None else device == "cuda"
    # Words and sums go over gloo, tensors of the GPU over NCCL.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"torch.distributed: {one_line(error, 200)}") from None
    try:
        yield Processes(
            dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0"))
        )
    finally:
        dist.destroy_process_group()
