"""Families left out one by one, and what heads fitted to the rest say of them: shared by the
experiments on cached encodings."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.changed import ChangedEncodings
from benchmarks.head_fits import Head, HeadFit
from trainer.commands.benchmark import _parse_families
from trainer.config import FitConfig
from trainer.data import FAKE, Sample, cap_per_source, draw_key, load_samples, split_samples
from trainer.encoded import EncodedPictures
from trainer.kept_apart import families_of
from trainer.left_out import FamilyScores, cross_fitted
from trainer.models import AutoencoderClassifier
from trainer.tiers import TIERS

Features = Callable[[str, Sequence[Sample]], Tensor]  # (tier, pictures) -> [N, F]
HEADER = (
    "| tier | left out: balanced accuracy | fakes found | real let pass | worst | AUC |\n"
    "|---|---|---|---|---|---|"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every experiment is told of the data."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--holdout", default="val")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--limit", type=int, default=75, help="pictures judged of a family")
    parser.add_argument("--graph", type=Path, help="encoder.onnx of a bundle, to encode quicker")
    parser.add_argument("--threads", type=int, default=1, help="of --graph")


@dataclass(frozen=True, slots=True)
class Ground:
    """The pictures, in families; those to learn from and those held out."""

    samples: list[Sample]
    family: Mapping[str, str]
    train: list[Sample]
    holdout: list[Sample]
    seed: int

    @classmethod
    def load(cls, asked: argparse.Namespace, config: FitConfig, per_source: int = 0) -> Ground:
        """As `trainer benchmark` parts them; of each source at most `per_source` to learn from
        (0: as many as the preset takes)."""
        samples = sorted(load_samples(asked.data), key=lambda sample: sample.key)
        splits = split_samples(
            samples, val_fraction=config.val_fraction, holdout=config.holdout, fraction=1.0,
            max_per_source=config.max_per_source, seed=config.seed,
        )  # fmt: skip
        train = [*splits.train, *splits.val]
        if per_source:
            train = cap_per_source(train, per_source, config.seed)
        family = families_of(samples, _parse_families(asked.family))
        return cls(samples, family, train, list(splits.holdout), config.seed)

    def names(self) -> list[str]:
        """Of all families."""
        return sorted(set(self.family.values()))

    def left_out(self, name: str, limit: int) -> list[Sample]:
        """The pictures of a family that are judged."""
        of = [s for s in self.samples if self.family[s.source] == name]
        return sorted(of, key=lambda s: draw_key(self.seed, "benchmark", s.key))[:limit]

    def groups(self, name: str) -> set[str]:
        """Of a family: no picture of these may be learnt from while it is left out."""
        return {s.group for s in self.samples if self.family[s.source] == name}


def encodings(asked: argparse.Namespace, ground: Ground, config: FitConfig) -> ChangedEncodings:
    """The frozen encoder's answers, in --cache; computed where they are missing, by --graph if
    that was given."""
    kept = ChangedEncodings(
        asked.cache, AutoencoderClassifier(config), ground.samples, config, torch.device("cpu"),
        progress,
    )  # fmt: skip
    if asked.graph:
        kept.use(asked.graph, asked.threads)
    return kept


def progress(variant: str, done: int, total: int) -> None:
    """One line."""
    print(f"encoded {done}/{total} ({variant})", flush=True)


def read(kept: EncodedPictures, variant: str, of: Sequence[Sample]) -> Tensor:
    """Features [N, F] of a variant."""
    rows = kept.rows(of)
    kept.fill(variant, rows, maps=False)
    return kept.read(variant, rows, maps=0)[0].features


@dataclass(frozen=True, slots=True)
class Judged:
    """Left-out scores; and for each tier the mean AUC over families, each against the held-out
    pictures of the other class."""

    scores: list[FamilyScores]
    auc: dict[str, float]

    def rows(self) -> list[str]:
        """Of the table under `HEADER`, one a tier."""
        found = []
        for tier, measured in cross_fitted(self.scores).items():
            rates = measured["points"]["youden"]
            cells = [f"{rates[key] * 100:.1f}" for key in (
                "balanced_accuracy", "left_out_generators_called_fake",
                "left_out_sources_called_real", "worst_source_called_real",
            )]  # fmt: skip
            found.append(f"| {tier} | {' | '.join(cells)} | {self.auc[tier]:.3f} |")
        return found


def standard_fit(
    ground: Ground, parts: Sequence[tuple[Sequence[Sample], Tensor]], l2: float = 1e-3
) -> Callable[[str], Head]:
    """Logistic regression on these encodings, class and source alike; given a family's name,
    without that family. Features are standardised by all, for want of memory."""
    learnt = [sample for of, _ in parts for sample in of]
    x = torch.cat([features for _, features in parts])
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    labels = torch.tensor([float(s.label == FAKE) for s in learnt])

    def without(name: str) -> Head:
        groups = ground.groups(name)
        kept = [i for i, s in enumerate(learnt) if s.group not in groups]
        count = Counter((s.label, s.source) for s in (learnt[i] for i in kept))
        sources = Counter(label for label, _ in count)
        weight = torch.zeros(len(learnt))
        for i in kept:
            s = learnt[i]
            weight[i] = 0.5 / sources[s.label] / count[s.label, s.source]
        head = HeadFit(l2=l2)(x, labels, weight, [s.source for s in learnt], ground.seed)
        return lambda raw: head((raw - mean) / deviation)

    return without


def judge(
    ground: Ground,
    fit: Callable[[str], Head],
    features: Features,
    limit: int,
    tiers: Sequence[str] = tuple(TIERS),
    *,
    against: bool = True,
    names: Sequence[str] = (),
) -> Judged:
    """`fit` gives the head that has not seen the family; `features` what it takes. Without
    `against`, AUC is that of all left-out scores of a tier together, for want of the held-out
    pictures' features. `names`: these families alone."""
    scores: list[FamilyScores] = []
    aucs: dict[str, list[float]] = {tier: [] for tier in tiers}
    for name in names or ground.names():
        head = fit(name)
        out = ground.left_out(name, limit)
        others = [s for s in ground.holdout if s.label != out[0].label] if against else []
        for tier in tiers:
            own = head(features(tier, out))
            scores.append(FamilyScores(name, out[0].label == FAKE, tier, tuple(own.tolist())))
            if against:
                known = head(features(tier, others))
                labels = [out[0].label] * len(own) + [others[0].label] * len(known)
                aucs[tier].append(float(roc_auc_score(labels, np.concatenate([own, known]))))
    for tier in tiers if not against else ():
        rows = [s for s in scores if s.tier == tier]
        labels = [int(s.fake) for s in rows for _ in s.logits]
        aucs[tier].append(float(roc_auc_score(labels, [x for s in rows for x in s.logits])))
    return Judged(scores, {tier: float(np.mean(of)) for tier, of in aucs.items()})
