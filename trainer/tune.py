"""Search loss parameters with Optuna; each trial is one call of `fit()`.

The space is that of the published work: what mixes and weighs its losses. Sampler: TPE
(Bergstra et al., 2011). The objective is the validation AUC of the best epoch: it needs no
threshold, so that no trial wins by a lucky one, and it does not move with the share of fakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from scanner.errors import ImgscanError, UsageError
from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import Splits
from trainer.decoded import DecodedPictures
from trainer.fit import DivergedError, EpochReport, fit
from trainer.losses import loss_weights
from trainer.study import FAILURE, PREVIOUS, counts, fingerprint, median_pruner, open_study

Value = float | int


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of one parameter, both included; `log`: drawn on a logarithmic scale."""

    low: float
    high: float
    log: bool = False


# The bounds are our reading: wide around the values the published work began and ended with.
LOSS_SPACE: dict[str, Range] = {
    "alpha_r": Range(0.0, 1.0),
    "beta": Range(0.0, 1.0),
    "gamma_r": Range(0.25, 4.0, log=True),
    "gamma_c": Range(0.0, 5.0),
    "alpha_c": Range(0.05, 0.95),
    "class_weight": Range(0.05, 0.95),
}
EXTRA_SPACE: dict[str, Range] = {
    "learning_rate": Range(1e-5, 1e-2, log=True),
    "unfrozen": Range(0, 5),
    "dropout": Range(0.0, 0.7),
}


@dataclass(frozen=True, slots=True)
class TrialReport:
    """One trial that ended. `auc` is None unless it ran to its last epoch."""

    number: int
    state: str  # "complete", "pruned" or "failed"
    auc: float | None
    epochs: int
    params: Mapping[str, Value]
    detail: str  # why it failed
    best: bool


@dataclass(frozen=True, slots=True)
class TuneResult:
    """A study as it stands. AUCs are of the validation set; None: that trial did not end."""

    study: optuna.Study
    space: Mapping[str, Range]
    previous: Mapping[str, Value]
    previous_auc: float | None
    best: Mapping[str, Value]
    best_auc: float
    best_trial: int
    complete: int
    pruned: int
    failed: int
    running: int  # elsewhere, or left behind less than two minutes ago by a killed process


def tuning_config(config: FitConfig, epochs: int) -> FitConfig:
    """`config` for shorter trials: frozen epochs shrink with the epochs, as c_off does."""
    frozen = round(config.freeze_epochs * min(1.0, epochs / config.epochs))
    return replace(config, epochs=epochs, freeze_epochs=min(frozen, epochs - 1))


def search_space(config: FitConfig, also: Sequence[str] = ()) -> dict[str, Range]:
    """The loss parameters that this fit uses, and those named in `also`.

    Each range is widened to hold the preset's own value. Raises UsageError where nothing is
    left to search.
    """
    # Reconstruction moves the AUC through the encoder alone: from a frozen one, decoder and
    # classifier learn apart.
    felt = config.reconstruction != "none" and (config.unfrozen != 0 or "unfrozen" in also)
    used = {
        "alpha_r": felt and config.reconstruction == "hybrid",
        "beta": felt and config.reconstruction == "hybrid" and config.perceptual != "none",
        "gamma_r": felt,
        "gamma_c": config.classification == "focal",
        "alpha_c": config.classification == "focal" and config.alpha_c >= 0,
        "class_weight": felt and config.class_weight >= 0,
    }
    if "unfrozen" in also and config.unfrozen < 0:
        raise UsageError(
            "unfrozen = -1 (all) is no place to search from: name a number, --set unfrozen=2"
        )
    space = {name: item for name, item in LOSS_SPACE.items() if used[name]}
    space.update({name: EXTRA_SPACE[name] for name in also})
    if not space:
        raise UsageError(
            f"preset {config.preset} has no loss parameter that moves its validation AUC (from a "
            "frozen encoder, reconstruction has none); try --also learning_rate or unfrozen"
        )
    for name, item in space.items():
        value = getattr(config, name)
        space[name] = replace(item, low=min(item.low, value), high=max(item.high, value))
    return space


def tune(
    config: FitConfig,
    splits: Splits,
    runs: Path,
    *,
    trials: int,
    storage: str,
    study: str,
    also: Sequence[str] = (),
    prune: bool = True,
    keep_checkpoints: bool = False,
    on_trial: Callable[[TrialReport], None] = lambda report: None,
    on_epoch: Callable[[int, EpochReport], None] = lambda trial, report: None,
    cache: Path | None = None,
    decoded: DecodedPictures | None = None,
    device: str | None = None,
) -> TuneResult:
    """Run trials until the study holds `trials` of them, whoever ran them, and return it.

    The preset's own values come first. Each trial leaves its fit's log and result in the
    folder `runs`/trial-NNNN; its checkpoints only with `keep_checkpoints`. All trials, also
    those of other processes, share `decoded` and a frozen encoder's answers in `cache`, by
    default a folder of `runs`. A fit that diverges is recorded as failed. Raises UsageError for
    a study begun with other data or settings, ImgscanError if no trial ran to its end.
    """
    space = search_space(config, also)
    if "unfrozen" in space:
        config = replace(config, cached_draws=0)  # only a frozen encoder's answers stay true
    previous = {name: getattr(config, name) for name in space}
    # The first epoch at the full classification loss is spared, too.
    warmup = math.ceil((config.c_off + config.c_ramp) * config.epochs) + 2
    opened = open_study(
        storage,
        study,
        runs,
        origin=fingerprint(config, splits, {k: (r.low, r.high) for k, r in space.items()}),
        previous=previous,
        seed=config.seed,
        pruner=median_pruner(warmup) if prune else optuna.pruners.NopPruner(),
    )

    def ended(study: optuna.Study, trial: FrozenTrial) -> None:
        on_trial(_trial_report(study, trial))

    runs.mkdir(parents=True, exist_ok=True)
    cache = cache or runs / "encoded"
    objective = _Objective(
        config, splits, space, runs, cache, decoded, keep_checkpoints, on_epoch, device
    )
    # One at a time, for another process may have run the rest of them meanwhile.
    while _claimed(opened) < trials:
        opened.optimize(objective, n_trials=1, catch=(DivergedError,), callbacks=[ended])
    return _summarise(opened, space, previous)


@dataclass(frozen=True, slots=True)
class _Objective:
    config: FitConfig
    splits: Splits
    space: Mapping[str, Range]
    runs: Path
    cache: Path
    decoded: DecodedPictures | None
    keep_checkpoints: bool
    on_epoch: Callable[[int, EpochReport], None]
    device: str | None

    def __call__(self, trial: optuna.Trial) -> float:
        drawn: dict[str, Any] = {k: _draw(trial, k, r) for k, r in self.space.items()}
        config = replace(self.config, **drawn)
        out = self.runs / f"trial-{trial.number:04d}"

        def on_epoch(report: EpochReport) -> None:
            self.on_epoch(trial.number, report)
            # Without classification loss the AUC says nothing of this trial.
            if loss_weights(config, report.epoch - 1)[1] == 0:
                return
            trial.report(report.val_auc, report.epoch)
            if report.epoch < report.epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            result = fit(
                config,
                self.splits,
                out,
                on_epoch=on_epoch,
                cache=self.cache,
                decoded=self.decoded,
                device=self.device,
            )
        except DivergedError as error:
            trial.set_user_attr(FAILURE, str(error))
            raise
        finally:
            if not self.keep_checkpoints:  # a hundred of ResNet-18 fill a disk
                (out / checkpoint.LAST).unlink(missing_ok=True)
                (out / checkpoint.BEST).unlink(missing_ok=True)
        return float(result["validation"]["half"]["auc"])


def _draw(trial: optuna.Trial, name: str, bounds: Range) -> Value:
    if name == "unfrozen":
        return int(trial.suggest_int(name, int(bounds.low), int(bounds.high)))
    return float(trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log))


def _claimed(study: optuna.Study) -> int:
    """Trials that ended or run somewhere; those that only wait are for whoever comes first."""
    trials = study.get_trials(deepcopy=False)
    return sum(counts(t) and t.state != TrialState.WAITING for t in trials)


def _trial_report(study: optuna.Study, trial: FrozenTrial) -> TrialReport:
    state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(
        trial.state, "failed"
    )
    complete = state == "complete"
    return TrialReport(
        number=trial.number,
        state=state,
        auc=trial.value if complete else None,
        epochs=max(trial.intermediate_values, default=0),
        params=trial.params,
        detail=trial.user_attrs.get(FAILURE, ""),
        best=complete and study.best_trial.number == trial.number,
    )


def _summarise(
    study: optuna.Study, space: Mapping[str, Range], previous: Mapping[str, Value]
) -> TuneResult:
    trials = study.get_trials(deepcopy=False)
    number = {state: sum(t.state == state for t in trials) for state in TrialState}
    if not number[TrialState.COMPLETE]:
        reasons = [t.user_attrs[FAILURE] for t in trials if FAILURE in t.user_attrs]
        raise ImgscanError(
            f"study {study.study_name}: none of {len(trials)} trials ran to its end"
            + (f"; the last one failed: {reasons[-1]}" if reasons else "")
        )
    best = study.best_trial
    previous_values = [
        t.value for t in trials if PREVIOUS in t.user_attrs and t.state == TrialState.COMPLETE
    ]
    return TuneResult(
        study=study,
        space=space,
        previous=previous,
        previous_auc=previous_values[0] if previous_values else None,
        best={name: best.params[name] for name in space},
        best_auc=float(best.values[0]),
        best_trial=best.number,
        complete=number[TrialState.COMPLETE],
        pruned=number[TrialState.PRUNED],
        failed=sum(FAILURE in t.user_attrs for t in trials),
        running=number[TrialState.RUNNING],
    )
