"""Which kinds of picture get an expert of their own, and how the router follows the encoder.

The kinds are fixed before the first epoch: k-means on the features that the encoder gives the
training pictures then, or a column of the manifest. From that alone the router is placed. A
picture always goes to the expert of the nearest centroid, in training as in a scan, where no
column is there to ask. While the encoder learns its features move: after each epoch the
centroids are placed anew, at the mean of what the encoder then says of the same pictures.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanner.errors import UsageError
from trainer.batches import Source
from trainer.config import FitConfig
from trainer.data import FAKE, REAL, Sample, Splits, draw_key
from trainer.experts import ExpertHeads, Router
from trainer.models import AutoencoderClassifier
from trainer.processes import Processes
from trainer.scores import Array, Labels, figures

FILE = "experts.csv"
# The router is placed by a draw of this many training pictures: it is a handful of means.
_MOST = 5000
Members = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kinds:
    """`members` is int64 [N], the kind of each of `samples`; `names` has one for each kind."""

    samples: tuple[Sample, ...]
    members: Members
    names: tuple[str, ...]

    def place(self, source: Source, model: AutoencoderClassifier, processes: Processes) -> None:
        """Place the router of `model` at what its encoder says of the kinds now.

        The first of several processes does it for all: they must not differ by rounding.
        """
        router = _router(model)

        def placed() -> dict[str, Tensor]:
            router.place(source.features(self.samples, model), torch.from_numpy(self.members))
            return {name: tensor.cpu() for name, tensor in router.state_dict().items()}

        router.load_state_dict(processes.from_first(placed))

    def follow(
        self,
        source: Source,
        model: AutoencoderClassifier,
        judged: AutoencoderClassifier,
        processes: Processes,
    ) -> None:
        """After an epoch: place anew what has moved, in the model and in what is judged of it."""
        if not model.trained_stages:
            return  # a frozen encoder says what it said
        self.place(source, model, processes)
        if judged is not model:
            self.place(source, judged, processes)

    def write(self, out: Path) -> None:
        """Leave experts.csv, which resuming reads."""
        with (out / FILE).open(
            "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "expert", "name"])
            for sample, member in zip(self.samples, self.members, strict=True):
                writer.writerow([sample.key, int(member), self.names[member]])

    def report(
        self,
        model: AutoencoderClassifier,
        source: Source,
        val_experts: Members,
        p: Array,
        labels: Labels,
        threshold: float,
    ) -> list[dict[str, Any]]:
        """Each expert's share of the pictures and its own validation figures.

        `val_experts`, `p` and `labels` are [N], of the validation pictures. `kept` is the
        share of a kind's pictures that the router sends to that kind's expert.
        """
        features = source.features(self.samples, model)
        routed = _router(model)(features.to(_router(model).mean.device)).cpu().numpy()
        train_labels = np.array([s.label for s in self.samples])
        rows: list[dict[str, Any]] = []
        for expert, name in enumerate(self.names):
            own, val = routed == expert, val_experts == expert
            member = self.members == expert
            rows.append(
                {
                    "name": name,
                    "training": {
                        "pictures": int(own.sum()),
                        "share": float(own.mean()),
                        "real": int((train_labels[own] == REAL).sum()),
                        "fake": int((train_labels[own] == FAKE).sum()),
                        "kept": float((routed[member] == expert).mean()),
                    },
                    "validation": {
                        "pictures": int(val.sum()),
                        "share": float(val.mean()),
                        "youden": figures(p[val], labels[val], threshold) if val.any() else None,
                    },
                }
            )
        return rows


def use_kinds(
    model: AutoencoderClassifier,
    config: FitConfig,
    splits: Splits,
    source: Source,
    out: Path,
    processes: Processes,
    *,
    resume: bool,
) -> Kinds | None:
    """Give `model` its experts, or those of the run in `out` that is resumed.

    None where the fit wants none. Raises UsageError where the data does not give two experts
    enough pictures of each class.
    """
    if not config.experts and not config.expert_column:
        return None
    kinds = processes.from_first(
        lambda: _read(out / FILE, splits) if resume else _find(config, splits, source, model)
    )
    model.use_experts(len(kinds.names))
    if not resume:  # else the router comes with the weights
        kinds.place(source, model, processes)
    return kinds


def _find(config: FitConfig, splits: Splits, source: Source, model: AutoencoderClassifier) -> Kinds:
    drawn = sorted(splits.train, key=lambda s: draw_key(config.seed, "experts", s.key))
    samples = sorted(drawn[:_MOST], key=lambda s: s.key)
    if config.expert_column:
        samples = [s for s in samples if s.kind]
        if not samples:
            raise UsageError(
                f"expert_column = {config.expert_column}: no training picture has a value in it"
            )
    features = source.features(samples, model)
    labels = np.array([s.label for s in samples])
    if config.expert_column:
        names = sorted({s.kind for s in samples})
        members = np.array([names.index(s.kind) for s in samples])
    else:
        members = _clusters(features, config)
        names = [f"cluster {number + 1}" for number in range(config.experts)]
    members, names = merge_small(features, members, names, labels, config.expert_least)
    return Kinds(tuple(samples), members, tuple(names))


def _clusters(features: Tensor, config: FitConfig) -> Members:
    from sklearn.cluster import KMeans

    if len(features) < config.experts:
        raise UsageError(
            f"experts = {config.experts} for {len(features)} training pictures; lower it"
        )
    values = features.numpy()
    deviation = values.std(0)
    standard = (values - values.mean(0)) / np.where(deviation > 1e-6, deviation, 1)
    means = KMeans(config.experts, n_init=4, random_state=config.seed)
    clusters: Members = means.fit_predict(standard).astype(np.int64)
    return clusters


def merge_small(
    features: Tensor, members: Members, names: Sequence[str], labels: Members, least: int
) -> tuple[Members, list[str]]:
    """Join each kind whose expert would see under `least` pictures of a class to its nearest.

    What counts is what the router would send to the expert. The smallest goes first, and all
    are placed anew before the next. Returns members and names of the kinds that are left.
    Raises UsageError when fewer than two are.
    """
    members, left = members.copy(), list(names)
    while len(left) > 1:
        router = Router(len(left), features.shape[1])
        router.place(features, torch.from_numpy(members))
        routed = router(features).numpy()
        counts = np.array(
            [
                [int(((routed == e) & (labels == label)).sum()) for label in (REAL, FAKE)]
                for e in range(len(left))
            ]
        )  # [E, 2]
        if counts.min() >= least:
            return members, left
        small = min(range(len(left)), key=lambda e: (counts[e].min(), counts[e].sum(), e))
        distance = (router.centroids - router.centroids[small]).square().sum(1)
        distance[small] = torch.inf
        into = int(distance.argmin())
        left[into] = f"{left[into]} + {left[small]}"
        members[members == small] = into
        members[members > small] -= 1
        del left[small]
    raise UsageError(
        f"{len(names)} kinds of picture leave no two experts that see {least} real and {least} "
        "fake training pictures each; ask for fewer experts, lower expert_least, give more "
        "pictures, or fit without --per-class-experts"
    )


def _read(path: Path, splits: Splits) -> Kinds:
    by_key = {s.key: s for s in splits.train}
    names: dict[int, str] = {}
    samples, members = [], []
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            for row in csv.DictReader(stream):
                samples.append(by_key[row["file"]])
                members.append(int(row["expert"]))
                names[members[-1]] = row["name"]
        return Kinds(
            tuple(samples), np.array(members, np.int64), tuple(names[e] for e in range(len(names)))
        )
    except FileNotFoundError:
        raise UsageError(f"{path}: missing; restore it or start a new run") from None
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: not as the fit left it ({error}); start a new run") from None


def _router(model: AutoencoderClassifier) -> Router:
    assert isinstance(model.classifier, ExpertHeads)
    return model.classifier.router
