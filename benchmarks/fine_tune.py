"""Whether the last block of CLIP should be tuned, and what our decoder buys there.

    python -m benchmarks.fine_tune --data pictures --cache encoded --kinds frozen block lora

The tokens before the last block in use are computed once and kept, so that tuning that block
costs an eighth of the tower. Families are left out in a few folds, several at once. Whatever was
tuned, the head is the same in the end: logistic regression on the blocks' statistics, by the
tower as it then is. Kinds:

- frozen: nothing is tuned. What the others are compared with.
- block: all weights of the last block. lora: low-rank additions to its four matrices (Hu et al.,
  2021). Both by binary cross-entropy on that block's statistics.
- reconstruction: as block, and a decoder on the block's patch tokens draws the picture (L1, SSIM
  and LPIPS); its loss reaches the block too.
- residual: the tower stays frozen, such a decoder learns beside it, and its errors are among the
  features: their means and deviations over a grid of 4 x 4, SSIM and LPIPS.

What was done is kept in --out, fold by fold; a run that was stopped goes on there. With
--device cuda, ten minutes do several kinds with --per-source 400. docs/model-quality.md states
what was found.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.folds import HEADER, Ground, Judged, add_options, encodings, judge, standard_fit
from benchmarks.head_fits import Head
from benchmarks.tokens import SIDE, Tokens
from trainer.config import FitConfig, load_config
from trainer.data import FAKE, Sample
from trainer.losses import ReconstructionLoss
from trainer.models import LayeredDecoder

KINDS = ("frozen", "block", "lora", "reconstruction", "residual")
_GRID = 4


class LowRank(nn.Module):
    """A linear layer, frozen, and the product of two thin matrices beside it."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        out: Tensor = self.layer(x) + self.up(self.down(x))
        return out


def _statistics(tokens: Tensor) -> Tensor:
    """As the encoder's: class token, mean and deviation of the patch tokens, [N, 3 C]."""
    patches = tokens[:, 1:]
    mean = patches.mean(1)
    variance = (patches - mean[:, None]).square().mean(1)
    return torch.cat([tokens[:, 0], mean, (variance + 1e-6).sqrt()], 1)


def _map(tokens: Tensor) -> Tensor:
    """Patch tokens as the decoder takes them, [N, C, S/16, S/16]."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    out: Tensor = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)
    return out


@dataclass
class Tuned:
    """The last block and, of some kinds, a decoder."""

    block: nn.Module
    decoder: nn.Module | None
    distance: ReconstructionLoss

    @torch.inference_mode()
    def features(self, tokens: Tensor, target: Tensor, *, residual: bool) -> Tensor:
        """What the head takes of the last block: [N, 2304], or with the residual's [N, 2304+98]."""
        after = self.block(tokens)
        found = [_statistics(after)]
        if residual:
            assert self.decoder is not None
            assert self.distance.ssim is not None
            assert self.distance.perceptual is not None
            remade = self.decoder(_map(after))
            error = (remade - target).abs()
            mean = F.adaptive_avg_pool2d(error, _GRID)
            square = F.adaptive_avg_pool2d(error.square(), _GRID)
            spread = (square - mean.square()).clamp_min(0).sqrt()
            alike = torch.stack(
                [self.distance.ssim(a[None], b[None]) for a, b in zip(remade, target, strict=True)]
            )
            far = self.distance.perceptual(remade, target)
            found += [mean.flatten(1), spread.flatten(1), alike[:, None], far[:, None]]
        return torch.cat(found, 1).float()


@dataclass
class Lessons:
    """What is learnt from: tokens and targets, one for each row, labels and chances to be drawn."""

    read: Callable[[Sequence[int]], tuple[Tensor, Tensor]]
    labels: Tensor
    chance: Tensor

    def batches(self, size: int, epochs: float, seed: int) -> Iterator[list[int]]:
        """Rows of a batch: classes and sources alike."""
        generator = torch.Generator().manual_seed(seed)
        count = int(epochs * int((self.chance > 0).sum()))
        drawn = torch.multinomial(self.chance, count, replacement=True, generator=generator)
        for rows in torch.split(drawn, size):
            yield rows.tolist()


def tune(
    kind: str, block: nn.Module, lessons: Lessons, asked: argparse.Namespace, config: FitConfig
) -> Tuned:
    """One fold. `block` is not changed; the one returned is a copy."""
    torch.manual_seed(config.seed)
    device = torch.device(asked.device)
    block = copy.deepcopy(block).to(device).eval()
    tuned = Tuned(block, None, ReconstructionLoss(load_config("default")).to(device))
    if kind == "frozen":
        return tuned
    with_decoder = kind in ("reconstruction", "residual")
    of_block: list[nn.Parameter] = []
    if kind == "lora":
        block.requires_grad_(False)
        inner: Any = block
        for part, name in ((inner.attn, "qkv"), (inner.attn, "proj"),
                           (inner.mlp, "fc1"), (inner.mlp, "fc2")):  # fmt: skip
            setattr(part, name, LowRank(getattr(part, name), asked.rank).to(device))
    block.requires_grad_(kind != "residual") if kind != "lora" else None
    of_block = [p for p in block.parameters() if p.requires_grad]
    head = nn.Sequential(nn.LayerNorm(3 * 768), nn.Linear(3 * 768, 1)).to(device)
    groups = [
        {"params": of_block, "lr": asked.lr * (10 if kind == "lora" else 1)},
        {"params": list(head.parameters()), "lr": 1e-3},
    ]
    if with_decoder:
        tuned.decoder = LayeredDecoder(768, SIDE // 14, 128, norm=True).to(device)
        groups.append({"params": list(tuned.decoder.parameters()), "lr": 1e-3})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    average = None
    if asked.ema and kind != "residual":
        average = torch.optim.swa_utils.AveragedModel(
            block,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98),  # type: ignore[no-untyped-call]
        )
    for rows in lessons.batches(asked.batch, asked.epochs, config.seed):
        tokens, target = lessons.read(rows)
        with torch.set_grad_enabled(kind != "residual"):
            after = block(tokens)
        label = lessons.labels[rows].to(device)
        loss = F.binary_cross_entropy_with_logits(head(_statistics(after))[:, 0], label)
        if tuned.decoder is not None:
            loss = loss + asked.reconstruction_weight * tuned.distance(
                tuned.decoder(_map(after)), target
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if average is not None:
            average.update_parameters(block)
    if average is not None:
        tuned.block = average.module
    tuned.block.eval()
    if tuned.decoder is not None:
        tuned.decoder.eval()
    return tuned


def folds(ground: Ground, count: int) -> list[list[str]]:
    """Families, each in one fold, the classes dealt out in turn."""
    label = {ground.family[s.source]: s.label for s in ground.samples}
    dealt: list[list[str]] = [[] for _ in range(count)]
    for of_class in (FAKE, 1 - FAKE):
        for place, name in enumerate(sorted(n for n in ground.names() if label[n] == of_class)):
            dealt[place % count].append(name)
    return dealt


def main() -> None:
    """Run what is missing in --out, then print one table a kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.set_defaults(limit=40)
    parser.add_argument("--out", type=Path, default=Path("fine_tune.json"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--per-source", type=int, default=50, help="pictures to learn from")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--tiers", nargs="+", default=["clean", "hard"])
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-5)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--reconstruction-weight", type=float, default=1.0)
    parser.add_argument("--ema", action="store_true", help="average the block's weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-fold", type=int, help="for two processes side by side")
    asked = parser.parse_args()
    config = load_config("accurate", {"holdout": asked.holdout, "workers": 0})
    ground = Ground.load(asked, config, asked.per_source)
    run = _Run(asked, config, ground, Tokens(encodings(asked, ground, config),
                                            torch.device(asked.device)))  # fmt: skip
    for number, names in enumerate(folds(ground, asked.folds)):
        if asked.only_fold in (None, number):
            run.fold(number, names)
    for kind in asked.kinds:
        run.print(kind)


class _Run:
    def __init__(
        self, asked: argparse.Namespace, config: FitConfig, ground: Ground, tokens: Tokens
    ) -> None:
        self.asked, self.config, self.ground, self.tokens = asked, config, ground, tokens
        self.device = torch.device(asked.device)
        draws = [f"lottery-{draw}" for draw in range(asked.draws)]
        self.of_train = [(draw, *tokens.read(draw, ground.train)) for draw in draws]
        self.learnt = ground.train * asked.draws

    def read(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Of these pictures to learn from: tokens [N, T, C] and targets [N, 3, 112, 112]."""
        count = len(self.ground.train)
        found = []
        for place in places:
            _, tokens, target, rows = self.of_train[place // count]
            found.append((tokens[rows[place % count]], target[rows[place % count]]))
        return self._tensors([t for t, _ in found], [p for _, p in found])

    def _tensors(self, tokens: Any, target: Any) -> tuple[Tensor, Tensor]:
        return (
            torch.from_numpy(np.asarray(tokens, np.float32)).to(self.device),
            torch.from_numpy(np.asarray(target)).to(self.device).float() / 255,
        )

    def fold(self, number: int, names: Sequence[str]) -> None:
        """Of each kind, unless --out has it."""
        gone = set().union(*(self.ground.groups(name) for name in names))
        kept = [i for i, s in enumerate(self.learnt) if s.group not in gone]
        counts: dict[tuple[int, str], int] = {}
        for i in kept:
            key = self.learnt[i].label, self.learnt[i].source
            counts[key] = counts.get(key, 0) + 1
        of_class = [sum(label == c for label, _ in counts) for c in (0, 1)]
        chance = torch.zeros(len(self.learnt))
        for i in kept:
            s = self.learnt[i]
            chance[i] = 0.5 / of_class[s.label] / counts[s.label, s.source]
        labels = torch.tensor([float(s.label) for s in self.learnt])
        lessons = Lessons(self.read, labels, chance)
        encoder: Any = self.tokens.kept.model.encoder
        for kind in self.asked.kinds:
            if str(number) in _load(self.asked.out).get(kind, {}):
                continue
            started = time.process_time()
            tuned = tune(kind, encoder.blocks[-1], lessons, self.asked, self.config)
            judged = self._judge(kind, tuned, kept, names)
            spent = time.process_time() - started
            entry = {
                "families": list(names), "auc": judged.auc, "cpu_s": spent,
                "scores": [[s.family, s.fake, s.tier, list(s.logits)] for s in judged.scores],
            }  # fmt: skip
            found = _load(self.asked.out)
            found.setdefault(kind, {})[str(number)] = entry
            temporary = self.asked.out.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(found), encoding="utf-8")
            temporary.replace(self.asked.out)
            print(f"fold {number}, {kind}: {spent:.0f} s of CPU, AUC {judged.auc}", flush=True)

    def _judge(self, kind: str, tuned: Tuned, kept: Sequence[int], names: Sequence[str]) -> Judged:
        residual = kind == "residual"

        def features(variant: str, of: Sequence[Sample]) -> Tensor:
            tokens, target, rows = self.tokens.read(variant, of)
            last = [
                tuned.features(*self._tensors(tokens[part], target[part]), residual=residual).cpu()
                for part in np.array_split(rows, max(1, len(rows) // 32))
            ]
            kept_features = self.tokens.kept
            kept_features.fill(variant, kept_features.rows(of), maps=False)
            before = kept_features.read(variant, kept_features.rows(of), maps=0)[0].features
            return torch.cat([before[:, : -3 * 768], *[torch.cat(last)]], 1)

        count = len(self.ground.train)
        parts = []
        for draw in range(self.asked.draws):
            some = [self.learnt[i] for i in kept if i // count == draw]
            parts.append((some, features(f"lottery-{draw}", some)))
        heads: dict[str, Head] = {}

        def fit(name: str) -> Head:
            # One head for all families of the fold: none of them is among `parts`.
            if "" not in heads:
                heads[""] = standard_fit(self.ground, parts)(name)
            return heads[""]

        return judge(self.ground, fit, features, self.asked.limit, self.asked.tiers,
                     against=False, names=names)  # fmt: skip

    def print(self, kind: str) -> None:
        """The folds' scores together, as far as there are any."""
        from trainer.left_out import FamilyScores

        done = _load(self.asked.out).get(kind, {})
        scores = [
            FamilyScores(family, fake, tier, tuple(logits))
            for entry in done.values()
            for family, fake, tier, logits in entry["scores"]
        ]
        if {s.fake for s in scores} != {True, False}:
            return
        auc = {
            tier: float(np.mean([entry["auc"][tier] for entry in done.values()]))
            for tier in self.asked.tiers
        }
        spent = sum(entry["cpu_s"] for entry in done.values())
        title = f"\n{kind}, {len(done)} of {self.asked.folds} folds, {spent:.0f} s of CPU"
        print("\n".join([title, HEADER, *Judged(scores, auc).rows()]), flush=True)


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
