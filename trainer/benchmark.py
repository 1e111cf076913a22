"""Leave one generator out, leave one source out: how a recipe does on what it has never seen.

For each family of sources the recipe is fitted anew without it; then the family is scored at
the three tiers. The mean over left-out families is what decisions are made on: figures on
known sources mostly tell how well a model knows its sources.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from scanner.errors import UsageError
from scanner.verdict import probabilities
from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import FAKE, LABELS, REAL, Sample, Splits, draw_key, split_samples
from trainer.distil import Lessons
from trainer.encoded import EncodedPictures
from trainer.encoders import Encoded
from trainer.families import Outcomes, few_of_each_group, intervals
from trainer.fit import fit
from trainer.kept_apart import check_families, families_of
from trainer.left_out import FamilyScores, cross_fitted
from trainer.models import AutoencoderClassifier
from trainer.processes import ALONE
from trainer.scores import figures
from trainer.tiers import TIERS

Array = npt.NDArray[np.float64]
GROUP_LIMIT = 20  # pictures of one group: of a series, or of one prompt
_TAUGHT_FOLDS = 4


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One family at one tier, scored by a model that was fitted without it.

    `accuracy` maps an operating point to the share that is called rightly; thresholds are
    those of the fold's own validation pictures, and `cuts` the same on the logits. `auc` is against
    the known pictures of the other class in the held-out split. `keys` name the pictures, `groups`
    the group of each, and `logits` are their scores, before calibration.
    """

    family: str
    label: str
    tier: str
    count: int
    accuracy: dict[str, float]
    auc: float
    keys: tuple[str, ...] = ()
    logits: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()
    cuts: dict[str, float] = field(default_factory=dict)

    def outcomes(self, point: str) -> Outcomes:
        """1 for each picture that is rightly judged, else 0."""
        fake = self.label == LABELS[FAKE]
        right = (np.array(self.logits) >= self.cuts[point]) == fake
        return Outcomes(fake, right.astype(np.float64), self.groups)


def benchmark(
    config: FitConfig,
    samples: Sequence[Sample],
    out: Path,
    *,
    merged: Mapping[str, Sequence[str]],
    cache: Path,
    limit: int = 200,
    device: str | None = None,
    on_fold: Callable[[str, list[LeftOut]], None] = lambda family, rows: None,
    on_encode: Callable[[str, int, int], None] = lambda variant, done, total: None,
) -> dict[str, Any]:
    """Fit once with everything and once without each family; returns and writes `out` (JSON).

    `limit` caps the pictures that are scored of one family, and `GROUP_LIMIT` those of one of its
    groups, held-out ones of known sources too. Held-out pictures are scored as known ones alone.
    On a frozen encoder the decoder changes nothing about the classifier and is not fitted. Folds
    that were finished before are read from the folder beside `out`, so that an interrupted run goes
    on; those of other settings or pictures are not.
    """
    if not config.cached_draws:
        raise UsageError(
            "benchmark needs cached_draws above 0, and so an encoder that is frozen, or all of it "
            "but its last stages"
        )
    if not config.unfrozen:
        config = replace(config, decoder="none", reconstruction="none")
    target = ALONE.device(device)
    family = families_of(samples, merged)
    check_families(samples, family, config.holdout)
    full = _splits(samples, config)
    everything = sorted(samples, key=lambda sample: sample.key)
    encodings = _Encodings(config, samples, family, cache, target, on_encode)
    encoded = encodings.without("")
    work = out.with_suffix(".folds")
    known = _fold(config, full, work, "", encoded, target)
    holdout = few_of_each_group(_in_drawn_order(full.holdout, config), GROUP_LIMIT)
    known_scores = {tier: _logits(known, encoded, holdout, tier, target) for tier in TIERS}
    labels = np.array([sample.label for sample in holdout])
    in_domain = {
        tier: {
            point: figures(probabilities(logits, known.temperature), labels, threshold)
            for point, threshold in known.points.items()
        }
        for tier, logits in known_scores.items()
    }
    rows: list[LeftOut] = []
    for name in sorted(set(family.values())):
        left_out = [s for s in everything if family[s.source] == name]
        # With the rest of its groups: they are near copies, and would be known to the fold.
        groups = {s.group for s in left_out}
        rest = [s for s in samples if s.group not in groups]
        encoded = encodings.without(name)
        fold = _fold(config, _splits(rest, config), work, name, encoded, target)
        # What `trainer calibrate` is to learn from these has no part in the held-out split.
        free = [s for s in left_out if s.split != config.holdout]
        scored = few_of_each_group(_in_drawn_order(free, config), GROUP_LIMIT)[:limit]
        others = [s for s in holdout if s.label != left_out[0].label]
        of_family = []
        for tier in TIERS:
            logits = _logits(fold, encoded, scored, tier, target)
            against = _logits(fold, encoded, others, tier, target)
            of_family.append(_left_out(name, scored, tier, fold, logits, against))
        rows += of_family
        on_fold(name, of_family)
    result = {
        "preset": config.preset,
        "config": config.to_dict(),
        "families": {s: f for s, f in sorted(family.items()) if s != f},
        "limit": limit,
        "in_domain": in_domain,
        "left_out": [asdict(row) for row in rows],
        "summary": summary(rows, seed=config.seed),
        "calibrated_on_left_out": cross_fitted(
            [
                FamilyScores(r.family, r.label == LABELS[FAKE], r.tier, r.logits, r.groups)
                for r in rows
            ]
        ),
    }
    checkpoint.write_json(out, result)
    shutil.rmtree(work)
    return result


def _in_drawn_order(samples: Sequence[Sample], config: FitConfig) -> list[Sample]:
    return sorted(samples, key=lambda s: draw_key(config.seed, "benchmark", s.key))


def summary(rows: Sequence[LeftOut], *, seed: int) -> dict[str, Any]:
    """Means over families for each tier and operating point, with 95 % intervals.

    They are those of `trainer.families`: families are drawn anew, and the groups in them.
    """
    result: dict[str, Any] = {}
    for tier in dict.fromkeys(row.tier for row in rows):
        of_tier = [row for row in rows if row.tier == tier]
        result[tier] = {"auc": float(np.mean([row.auc for row in of_tier]))}
        for point in of_tier[0].accuracy:
            by_class = {
                label: np.array([r.accuracy[point] for r in of_tier if r.label == label])
                for label in LABELS
            }
            if not all(len(values) for values in by_class.values()):
                continue
            low, high = intervals([row.outcomes(point) for row in of_tier], seed)["both"]
            result[tier][point] = {
                "balanced_accuracy": float(np.mean([v.mean() for v in by_class.values()])),
                "low": low,
                "high": high,
                "left_out_generators_called_fake": float(by_class["fake"].mean()),
                "left_out_sources_called_real": float(by_class["real"].mean()),
            }
    return result


class _Encodings:
    """What the encoder says of all pictures: a frozen one the same in each fold; one that was
    taught, in each fold one that was taught without the family.

    For that, families are dealt into `_TAUGHT_FOLDS` of both classes, and for each of these an
    encoder is taught without all of its families: one for each family would take days.
    """

    def __init__(
        self,
        config: FitConfig,
        samples: Sequence[Sample],
        family: Mapping[str, str],
        cache: Path,
        device: torch.device,
        on_encode: Callable[[str, int, int], None],
    ) -> None:
        self._config, self._samples, self._family = config, samples, family
        self._rest = (config, device, on_encode)
        self._cache, self._everything = cache, sorted(samples, key=lambda sample: sample.key)
        self._found: dict[int, EncodedPictures] = {}
        self._untaught = AutoencoderClassifier(config)
        self._fold_of = {"": -1}
        if not config.teacher:
            self._fold_of |= dict.fromkeys(family.values(), -1)
            self._found[-1] = EncodedPictures(cache, self._untaught, self._everything, *self._rest)
            return
        self._lessons = Lessons(cache, self._untaught, self._everything, *self._rest)
        is_fake = {family[s.source]: s.label == FAKE for s in samples}
        for fake in (True, False):
            names = sorted(name for name, is_one in is_fake.items() if is_one == fake)
            self._fold_of |= {name: i % _TAUGHT_FOLDS for i, name in enumerate(names)}

    def without(self, name: str) -> EncodedPictures:
        """Of an encoder that family `name` has had no part in; "": of that with all."""
        fold = self._fold_of[name]
        if fold not in self._found:
            out = {n for n, f in self._fold_of.items() if f == fold and n}
            gone = {s.group for s in self._samples if self._family[s.source] in out}
            rest = [s for s in self._samples if fold < 0 or s.group not in gone]
            model = copy.deepcopy(self._untaught)
            self._lessons.teach(model, _splits(rest, self._config).train)
            self._found[fold] = EncodedPictures(
                self._cache, model, self._everything, *self._rest, front=self._lessons.front
            )
        return self._found[fold]


@dataclass(frozen=True, slots=True)
class _Fold:
    model: AutoencoderClassifier
    temperature: float
    points: dict[str, float]


def _splits(samples: Sequence[Sample], config: FitConfig) -> Splits:
    return split_samples(
        samples,
        val_fraction=config.val_fraction,
        holdout=config.holdout,
        fraction=config.sample,
        max_per_source=config.max_per_source,
        seed=config.seed,
    )


def _fold(
    config: FitConfig,
    splits: Splits,
    work: Path,
    family: str,
    encoded: EncodedPictures,
    device: torch.device,
) -> _Fold:
    """Fit without `family`, "" for with all, or read what an interrupted benchmark has fitted.

    The folder's name is a digest of all that decides the fold, the pictures' files among it.
    """
    parts = {part: [s.key for s in getattr(splits, part)] for part in ("train", "val")}
    decided_by = json.dumps([config.to_dict(), family, parts, encoded.folder.name])
    folder = work / hashlib.sha256(decided_by.encode()).hexdigest()[:16]
    if not (folder / "result.json").exists():
        resume = (folder / checkpoint.LAST).exists()
        fit(config, splits, folder, resume=resume, cache=encoded, device=device.type)
    model, _, result = checkpoint.load_run(folder)
    points = {"half": 0.5, **result["thresholds"]}
    return _Fold(model.to(device), result["temperature"], points)


@torch.inference_mode()
def _logits(
    fold: _Fold,
    encoded: EncodedPictures,
    samples: Sequence[Sample],
    tier: str,
    device: torch.device,
) -> Array:
    tuned = fold.model if encoded.config.unfrozen else None
    features = encoded.features(tier, samples, tuned).to(device)
    output = fold.model.eval().from_encoded(Encoded(torch.empty(0), features))
    logits: Array = output.logit.double().cpu().numpy()
    return logits


def _left_out(
    family: str, scored: Sequence[Sample], tier: str, fold: _Fold, logits: Array, against: Array
) -> LeftOut:
    label = scored[0].label
    p = probabilities(logits, fold.temperature)
    called = {point: float((p >= t).mean()) for point, t in fold.points.items()}
    both = np.concatenate([logits, against])
    labels = np.array([label] * len(logits) + [REAL if label == FAKE else FAKE] * len(against))
    return LeftOut(
        family=family,
        label=LABELS[label],
        tier=tier,
        count=len(logits),
        accuracy={point: c if label == FAKE else 1 - c for point, c in called.items()},
        auc=float(roc_auc_score(labels, both)),
        keys=tuple(sample.key for sample in scored),
        # In full: rounded, one at a threshold would be on its other side.
        logits=tuple(logits.tolist()),
        groups=tuple(sample.group for sample in scored),
        cuts={point: _logit_of(t, fold.temperature) for point, t in fold.points.items()},
    )


def _logit_of(threshold: float, temperature: float) -> float:
    """The uncalibrated logit whose P(fake) is `threshold`."""
    p = min(max(threshold, 1e-12), 1 - 1e-12)
    return temperature * float(np.log(p / (1 - p)))
