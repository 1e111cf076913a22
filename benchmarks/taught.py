"""The ground of `benchmarks.distil`: teacher, student, pictures, and what was found so far."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.head_fits import HeadFit
from benchmarks.heads import STATISTICS, columns, weights
from trainer.commands.benchmark import _parse_families
from trainer.config import load_config
from trainer.data import FAKE, Sample, draw_key, load_samples, split_samples
from trainer.encoded import EncodedPictures
from trainer.encoders import EfficientNetLite0Encoder, Encoded
from trainer.kept_apart import families_of
from trainer.left_out import FamilyScores, cross_fitted
from trainer.models import AutoencoderClassifier


@dataclass(frozen=True, slots=True)
class Taught(HeadFit):
    """As `HeadFit`, but what is learnt is [N, 2]: the label and the teacher's logit."""

    alpha: float = 0.0
    temperature: float = 1.0

    def each(self, logits: Tensor, fake: Tensor) -> Tensor:
        """The loss of each, [N]."""
        label, taught = fake.unbind(1)
        hard = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
        t = self.temperature
        soft = F.binary_cross_entropy_with_logits(
            logits / t, torch.sigmoid(taught / t), reduction="none"
        )
        return (1 - self.alpha) * hard + self.alpha * t * t * soft

    def __str__(self) -> str:
        """As a row of the table names it."""
        head = f"perceptron of {self.hidden}" if self.hidden else "logistic"
        return f"{head}, " + (f"alpha {self.alpha:g}, T {self.temperature:g}" if self.alpha
                              else "labels alone")  # fmt: skip


class Front(EfficientNetLite0Encoder):
    """Up to the map of 112 channels, the features up to there, and what `Tail` takes."""

    channels, stride = 112, 16
    feature_count = 2 * (80 + 112)

    def forward(self, x: Tensor) -> Encoded:
        """Prepared pixels -> the map [N, 112, S/16, S/16] and features [N, 384]."""
        pooled = []
        for stage in self.stages[:-2]:
            x = stage(x)
            if x.shape[1] in self._POOLED:
                pooled.append(statistics(x))
        return Encoded(x, torch.cat(pooled, 1))


def statistics(x: Tensor) -> Tensor:
    """As the encoder's: spatial means and deviations, [N, 2 C]."""
    mean = x.mean((2, 3))
    variance = (x - mean[:, :, None, None]).square().mean((2, 3))
    return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


class Tail(nn.Module):
    """The last two stages and a linear head on all 1,408 features."""

    def __init__(self, encoder: EfficientNetLite0Encoder) -> None:
        super().__init__()
        stages = [copy.deepcopy(stage) for stage in encoder.stages[-2:]]
        self.stages = nn.ModuleList(stages).to(memory_format=torch.channels_last).eval()
        self.head = nn.Linear(EfficientNetLite0Encoder.feature_count, 1)
        self.register_buffer("mean", torch.zeros(EfficientNetLite0Encoder.feature_count))
        self.register_buffer("deviation", torch.ones(EfficientNetLite0Encoder.feature_count))
        self.mean: Tensor
        self.deviation: Tensor

    def features(self, maps: Tensor, before: Tensor) -> Tensor:
        """[N, 112, 14, 14] and [N, 384] -> [N, 1408]."""
        x, found = maps.float().contiguous(memory_format=torch.channels_last), [before]
        for stage in self.stages:
            x = stage(x)
            found.append(statistics(x))
        return torch.cat(found, 1)

    @torch.no_grad()
    def start(self, fit: HeadFit, x: Tensor, targets: Tensor, weight: Tensor) -> None:
        """The head becomes a logistic regression on features x, [N, 1408]."""
        mean, deviation = x.mean(0), x.std(0) + 1e-6
        with torch.enable_grad():
            head = fit((x - mean) / deviation, targets, weight, [], 0)
        bias = head(torch.zeros(1, x.shape[1]))[0]
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.head.weight.copy_(torch.from_numpy(head(torch.eye(x.shape[1])) - bias)[None])
        self.head.bias.fill_(float(bias))

    def forward(self, maps: Tensor, before: Tensor) -> Tensor:
        """Logits, [N]."""
        x = (self.features(maps, before) - self.mean) / self.deviation
        logits: Tensor = self.head(x)
        return logits.squeeze(1)


class Kept:
    """What was found so far, in a JSON file that is replaced whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def put(self, key: str, value: object) -> None:
        """Kept from now on, whatever happens."""
        self.found[key] = value
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.found), encoding="utf-8")
        temporary.replace(self.path)


class Ground:
    """The pictures, their families, and the encodings that are read."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.kept = asked, Kept(asked.out)
        settings = {"holdout": asked.holdout, "workers": asked.workers, "augment": asked.augment}
        self.config = load_config("default", settings)
        self.device = torch.device(asked.device)
        self.samples = sorted(load_samples(asked.data), key=lambda sample: sample.key)
        self.family = families_of(self.samples, _parse_families(asked.family))
        self.names = sorted(set(self.family.values()))
        self.is_fake = {self.family[s.source]: s.label == FAKE for s in self.samples}
        splits = split_samples(
            self.samples, val_fraction=self.config.val_fraction, holdout=asked.holdout,
            fraction=1.0, max_per_source=self.config.max_per_source, seed=self.config.seed,
        )  # fmt: skip
        self.train, self.known = [*splits.train, *splits.val], splits.holdout
        clip = load_config("accurate", settings)
        self.clip = self._encodings(asked.cache, AutoencoderClassifier(clip), clip)
        self.taken = columns(clip, asked.blocks, STATISTICS)
        self.taught_by: list[Tensor] = []

    def _encodings(self, root: Path, model: AutoencoderClassifier, config: Any) -> EncodedPictures:
        def progress(variant: str, done: int, total: int) -> None:
            print(f"encoded {done}/{total} ({variant})", flush=True)

        return EncodedPictures(root, model, self.samples, config, self.device, progress)

    def fast(self) -> EncodedPictures:
        """Features of the whole encoder."""
        return self._encodings(self.asked.cache, AutoencoderClassifier(self.config), self.config)

    def fronts(self) -> EncodedPictures:
        """Maps and features of `Front`."""
        model = AutoencoderClassifier(self.config)
        model.encoder = Front("default")
        return self._encodings(self.asked.maps, model, self.config)

    def of(self, names: Sequence[str]) -> list[list[Sample]]:
        """Of each of these families, the pictures in the order in which they are scored."""
        pictures: list[list[Sample]] = []
        for name in names:
            out = [s for s in self.samples if self.family[s.source] == name]
            order = sorted(out, key=lambda s: draw_key(self.config.seed, "benchmark", s.key))
            pictures.append(order)
        return pictures

    def teacher(self, names: Sequence[str]) -> Tensor:
        """Its logits, without these families, of draw after draw of `train`; 0 for theirs."""
        asked, seed = self.asked, self.config.seed
        key = f"teacher: {asked.blocks}, {asked.draws}, {asked.inner}, {' '.join(names)}"
        if key in self.kept.found:
            return torch.tensor(self.kept.found[key])
        for draw in range(len(self.taught_by), asked.draws):
            self.taught_by.append(read(self.clip, f"lottery-{draw}", self.train)[:, self.taken])
        gone = {s.group for out in self.of(names) for s in out}
        rows = [i for i, s in enumerate(self.train) if s.group not in gone]
        if asked.inner == "groups":
            parts = [draw_key(seed, "inner", self.train[i].group)[0] % 4 for i in rows]
        else:
            parts = [self.names.index(self.family[self.train[i].source]) % 4 for i in rows]
        said = torch.zeros(asked.draws, len(self.train))
        for part in range(4):
            learnt = [i for i, p in zip(rows, parts, strict=True) if p != part]
            judged = [i for i, p in zip(rows, parts, strict=True) if p == part]
            x = self.taught_by[0][learnt]
            mean, deviation = x.mean(0), x.std(0) + 1e-6
            some = [self.train[i] for i in learnt]
            head = HeadFit()(x.sub_(mean).div_(deviation), labels(some), weigh(some), [], seed)
            for draw, features in enumerate(self.taught_by):
                z = head((features[judged] - mean) / deviation)
                said[draw, judged] = torch.from_numpy(z.astype(np.float32))
        self.kept.put(key, [round(z, 3) for z in said.flatten().tolist()])
        return said.flatten()

    def table(self, key: str, families: int, tiers: Sequence[str]) -> None:
        """One row for each setting of which --out has all folds."""
        print("| setting | tiers | left out: balanced accuracy | fakes found | real let pass "
              "| worst | AUC | CPU |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
        found = [v for k, v in self.kept.found.items() if k.startswith(key)]
        for setting in dict.fromkeys(row for entry in found for row in entry["scores"]):
            done = [entry for entry in found if setting in entry["scores"]]
            if sum(len(entry["scores"][setting]) for entry in done) < families:
                continue
            scores = [
                FamilyScores(name, self.is_fake[name], tier, tuple(logits))
                for entry in done
                for name, of_tier in entry["scores"][setting].items()
                for tier, logits in of_tier.items()
            ]
            rates = [measured["points"]["youden"] for measured in cross_fitted(scores).values()]
            cells = [", ".join(f"{rate[k] * 100:.1f}" for rate in rates) for k in (
                "balanced_accuracy", "left_out_generators_called_fake",
                "left_out_sources_called_real", "worst_source_called_real",
            )]  # fmt: skip
            aucs = [np.mean([a for e in done for a in e["auc"][setting][t]]) for t in tiers]
            cells.append(", ".join(f"{auc:.3f}" for auc in aucs))
            cells.append(f"{sum(entry['cpu_s'][setting] for entry in done):.0f} s")
            print(f"| {setting} | {', '.join(tiers)} | {' | '.join(cells)} |", flush=True)


def read(kept: EncodedPictures, variant: str, of: Sequence[Sample]) -> Tensor:
    """Features of these pictures, [N, F]; what is missing is computed."""
    kept.fill(variant, kept.rows(of), maps=False)
    return kept.read(variant, kept.rows(of), maps=0)[0].features


def labels(of: Sequence[Sample]) -> Tensor:
    """1 for fake, float32 [N]."""
    return torch.tensor([float(s.label == FAKE) for s in of])


def weigh(of: Sequence[Sample]) -> Tensor:
    """Classes and sources alike, [N], of sum 1."""
    return weights([s.source for s in of], [s.label == FAKE for s in of], [False] * len(of), 0)


def against(own: Sequence[float], others: Sequence[float], fake: bool) -> float:
    """AUC of a family's logits against others of the other class."""
    truth = [fake] * len(own) + [not fake] * len(others)
    return float(roc_auc_score(truth, [*own, *others]))
