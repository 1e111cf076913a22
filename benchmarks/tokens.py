"""What enters the last block of a transformer's tower, kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from trainer.data import Sample
from trainer.encoded import EncodedPictures

SIDE = 112  # pixels of what a decoder is to draw


class Tokens:
    """What enters the last block, float16 [N, T, C], and the picture at 112 pixels; on disk."""

    def __init__(self, kept: EncodedPictures, device: torch.device) -> None:
        self.kept, self.device = kept, device

    def read(self, variant: str, of: Sequence[Sample]) -> tuple[Any, Any, list[int]]:
        """(tokens, targets uint8 [N, 3, 112, 112], the rows of `of` in both)."""
        encoder: Any = self.kept.model.encoder
        rows = self.kept.rows(of).tolist()
        side = self.kept.model.spec.size // encoder.stride
        count = len(self.kept.samples)
        folder = self.kept.folder
        tokens = _memmap(folder / f"{variant}.tokens.npy", (count, side * side + 1, 768), "float16")
        target = _memmap(folder / f"{variant}.target112.npy", (count, 3, SIDE, SIDE), "uint8")
        done = _memmap(folder / f"{variant}.tokens-done.npy", (count,), "bool")
        missing = [row for row in rows if not done[row]]
        pictures = Subset(self.kept._pictures(variant), missing)
        encoder.to(self.device).eval()
        for number, (pixels, _, index) in enumerate(DataLoader(pictures, batch_size=32)):
            with torch.inference_mode():
                x = pixels[:, 0].to(self.device)
                tokens[index.numpy()] = _before_last(encoder, x).half().cpu().numpy()
                rgb = self.kept.model.to(self.device).target(x)
                small = F.interpolate(rgb, size=(SIDE, SIDE), mode="area")
                target[index.numpy()] = (small * 255).round().byte().cpu().numpy()
            done[index.numpy()] = True
            print(f"tokens {min(len(missing), 32 * number + 32)}/{len(missing)} ({variant})",
                  flush=True)  # fmt: skip
        return tokens, target, rows


def _before_last(encoder: Any, x: Tensor) -> Tensor:
    patch_embed, norm_pre = encoder.embed
    patches = patch_embed(x)
    first = encoder.cls_token.expand(len(patches), -1, -1)
    tokens: Tensor = norm_pre(torch.cat([first, patches], 1) + encoder.pos_embed)
    for block in encoder.blocks[:-1]:
        tokens = block(tokens)
    return tokens


def _memmap(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    if path.exists():
        return open_memmap(path, mode="r+")
    return open_memmap(path, mode="w+", dtype=dtype, shape=shape)
