"""What an encoder's frozen part makes of pictures, kept on disk: computed once, read every epoch.

A cache belongs to one encoder, preprocessing, augmentation, seed, Pillow and list of pictures,
each of one size and time of change; the digest of these names its folder. A kill loses no more
than the chunk at hand. Several fits may share a folder at the same time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from trainer.config import FitConfig
from trainer.data import Sample
from trainer.decoded import DecodedPictures
from trainer.encoders import Encoded
from trainer.loader import Pictures
from trainer.models import AutoencoderClassifier
from trainer.tiers import TIERS

Rows = npt.NDArray[np.int64]
_FORMAT = 1  # raised when a tier, an augmentation or these files become others
_CHUNK = 512  # pictures between two marks of what is done


class EncodedPictures:
    """Encodings of `samples` by the frozen encoder of `model`, in a folder below `root`.

    Where its last `config.unfrozen` stages learn, what enters these can be kept beside: `begun`.
    `front` keeps such of an encoder that differs from this one in no earlier stage: features are
    then computed from there, without a look at the pictures.

    A variant is a way of looking at a picture: "lottery-0", "lottery-1" ... are draws of the
    training augmentation; "clean", "web" and "hard" are the tiers of evaluation.
    """

    def __init__(
        self,
        root: Path,
        model: AutoencoderClassifier,
        samples: Sequence[Sample],
        config: FitConfig,
        device: torch.device,
        on_progress: Callable[[str, int, int], None] = lambda variant, done, total: None,
        decoded: DecodedPictures | None = None,
        front: EncodedPictures | None = None,
    ) -> None:
        self.samples, self.config, self.device = list(samples), config, device
        self.model, self.on_progress, self.decoded = model, on_progress, decoded
        self.row_of = {sample.key: row for row, sample in enumerate(self.samples)}
        self._last, self._front = config.unfrozen, front
        self.folder = root / self._digest()
        self.folder.mkdir(parents=True, exist_ok=True)
        side = config.size // model.encoder.stride
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "features": ((model.encoder.feature_count,), "float32"),
            # Half precision halves the largest part; a decoder does not see the difference.
            "deepest": ((model.encoder.channels, side, side), "float16"),
            "target": ((model.reconstruction_size, model.reconstruction_size, 3), "uint8"),
        }
        if self._last > 0:
            begun = self._begin(torch.zeros(1, 3, config.size, config.size, device=device))
            self._shapes[f"map-{self._last}"] = tuple(begun.deepest.shape[1:]), "float16"
            self._shapes[f"before-{self._last}"] = tuple(begun.features.shape[1:]), "float32"

    def rows(self, samples: Sequence[Sample]) -> Rows:
        """Row numbers of `samples`, int64 [N]."""
        return np.array([self.row_of[sample.key] for sample in samples], np.int64)

    def fill(self, variant: str, rows: Rows, *, maps: bool, begun: bool = False) -> None:
        """Encode those of `rows` that are missing; `maps` for the decoder's input and target.

        `begun` for what enters the stages that learn in place of what leaves them.
        """
        kinds = ["features", "deepest"] if maps else ["features"]
        if begun:
            kinds = [f"map-{self._last}", f"before-{self._last}"]
        if maps:
            kinds.append("target")
        mark = "done" + f"-begun-{self._last}" * begun + "-maps" * maps
        pictures = self._pictures(variant)
        encoder = self.model.encoder.to(self.device).eval()
        # Half the time of the default layout on a CPU, the same numbers but for rounding.
        encoder = encoder.to(memory_format=torch.channels_last)
        wanted, before = np.unique(rows), 0
        while True:
            # One chunk a turn: two fits that share the folder take turns, and what the one has
            # encoded the other finds. The system takes the lock back from a process that dies.
            with FileLock(self.folder / ".lock"):
                arrays = {kind: self._array(variant, kind) for kind in kinds}
                done = self._array(variant, mark)
                missing = wanted[~done[wanted]]
                if not len(missing):
                    return
                before = before or len(missing)
                chunk = missing[:_CHUNK]
                if kinds == ["features"] and self._front is not None:
                    some = [self.samples[i] for i in chunk]
                    found = self._front.features(variant, some, self.model)
                    arrays["features"][chunk] = found.numpy()
                else:
                    loader: DataLoader[tuple[Tensor, Tensor, Tensor]] = DataLoader(
                        Subset(pictures, chunk.tolist()),
                        batch_size=32,
                        num_workers=self.config.workers,
                    )
                    for pixels, _, index in loader:
                        self._encode(encoder, pixels, index.numpy(), arrays)
                for array in arrays.values():
                    array.flush()
                done[chunk] = True
                done.flush()
            self.on_progress(variant, before - len(missing) + len(chunk), before)

    def read(self, variant: str, rows: Rows, *, maps: int) -> tuple[Encoded, Tensor]:
        """Encodings of `rows`; the maps and the targets of the first `maps` of them alone.

        Returns (Encoded, target [maps, 3, R, R]).
        """
        features = torch.from_numpy(np.array(self._array(variant, "features")[rows]))
        some = rows[:maps]
        if not maps:
            return Encoded(torch.empty(0), features), torch.empty(0)
        deepest = torch.from_numpy(self._array(variant, "deepest")[some].astype(np.float32))
        target = torch.from_numpy(self._array(variant, "target")[some].astype(np.float32) / 255)
        return Encoded(deepest, features), target.permute(0, 3, 1, 2)

    def read_begun(self, variant: str, rows: Rows, *, maps: int) -> tuple[Encoded, Tensor]:
        """What enters the stages that learn, of all of `rows`; the targets of the first `maps`.

        Returns as `read` does; `Encoder.finish` goes on from there.
        """
        entering = self._array(variant, f"map-{self._last}")[rows].astype(np.float32)
        before = torch.from_numpy(np.array(self._array(variant, f"before-{self._last}")[rows]))
        begun = Encoded(torch.from_numpy(entering), before)
        if not maps:
            return begun, torch.empty(0)
        target = torch.from_numpy(self._array(variant, "target")[rows[:maps]].astype(np.float32))
        return begun, (target / 255).permute(0, 3, 1, 2)

    @torch.no_grad()
    def features(
        self, variant: str, samples: Sequence[Sample], tuned: AutoencoderClassifier | None
    ) -> Tensor:
        """Features [N, F] on the CPU; what is missing is encoded.

        `tuned` is a model whose last stages have learnt, in evaluation mode from now on; None:
        they are as in `model`.
        """
        rows = self.rows(samples)
        self.fill(variant, rows, maps=False, begun=tuned is not None)
        if tuned is None:
            return self.read(variant, rows, maps=0)[0].features
        tuned.eval()
        found = [torch.empty(0, tuned.encoder.feature_count)]
        for start in range(0, len(rows), 256):  # in parts that fit into memory
            begun = self.read_begun(variant, rows[start : start + 256], maps=0)[0]
            found.append(tuned.encoder.finish(begun.to(self.device), self._last).features.cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def _begin(self, x: Tensor) -> Encoded:
        return self.model.encoder.to(x.device).eval().begin(x, self._last)

    @torch.inference_mode()
    def _encode(
        self, encoder: torch.nn.Module, pixels: Tensor, rows: Rows, arrays: dict[str, np.memmap]
    ) -> None:
        x = pixels[:, 0].to(self.device).contiguous(memory_format=torch.channels_last)
        entering = arrays.get(f"map-{self._last}")
        if entering is not None:
            begun = self._begin(x)
            entering[rows] = begun.deepest.half().cpu().numpy()
            arrays[f"before-{self._last}"][rows] = begun.features.float().cpu().numpy()
        else:
            encoded = encoder(x)
            arrays["features"][rows] = encoded.features.float().cpu().numpy()
            if "deepest" in arrays:
                arrays["deepest"][rows] = encoded.deepest.half().cpu().numpy()
        if "target" in arrays:
            target = self.model.to(self.device).target(x).permute(0, 2, 3, 1) * 255
            arrays["target"][rows] = target.round().byte().cpu().numpy()

    def _pictures(self, variant: str) -> Pictures:
        spec = self.model.spec
        if variant in TIERS:
            tier = TIERS[variant]
            side = tier.longest
            return Pictures(self.samples, spec, change=tier, decode_side=side, decoded=self.decoded)
        pictures = Pictures(
            self.samples,
            spec,
            augmentation=self.config.augment,
            seed=self.config.seed,
            decoded=self.decoded,
        )
        pictures.epoch = int(variant.removeprefix("lottery-"))
        return pictures

    def _array(self, variant: str, kind: str) -> np.memmap:
        shape, dtype = self._shapes.get(kind, ((), "bool"))
        path = self.folder / f"{variant}.{kind}.npy"
        if path.exists():
            return np.lib.format.open_memmap(path, mode="r+")
        # Sparse where the file system can: rows that nobody asks for take no room.
        return np.lib.format.open_memmap(
            path, mode="w+", dtype=dtype, shape=(len(self.samples), *shape)
        )

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in self.model.encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        settings = [
            _FORMAT, PIL.__version__,
            self.model.spec.to_dict(), self.model.reconstruction_size,
            self.config.augment, self.config.seed,
            [_state(sample) for sample in self.samples],
            # Of the same weights, other blocks are other features.
            *([self.config.encoder_taps] if self.config.encoder_taps else []),
        ]  # fmt: skip
        digest.update(json.dumps(settings).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def _state(sample: Sample) -> tuple[str, int, int, int]:
    """What tells that a picture was replaced, short of reading it: another size or time."""
    state = sample.path.stat()
    length = sample.length if sample.offset >= 0 else state.st_size
    return sample.key, sample.offset, length, state.st_mtime_ns
