"""An Optuna study in a storage that several processes share and that outlives them."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from scanner.errors import UsageError
from trainer.config import FitConfig
from trainer.data import Splits

# Attributes of a trial: why its own parameters failed it; that it is the preset's values.
FAILURE, PREVIOUS = "failure", "previous"
_ORIGIN = "origin"
_STARTUP_TRIALS = 5  # drawn at random before TPE and the pruner have something to go by


def open_study(
    storage: str,
    name: str,
    runs: Path,
    *,
    origin: Mapping[str, Any],
    previous: Mapping[str, float | int],
    seed: int,
    pruner: optuna.pruners.BasePruner,
) -> optuna.Study:
    """Create study `name`, or join it if it was begun from the same `origin`.

    The process that creates it queues `previous` as its first trial. Raises UsageError for a
    storage that cannot be used and for a study that something else began.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # failed trials are reported by tune()
    backend = _open_storage(storage)
    # A joining process must not repeat the draws of the one that went before.
    try:
        study = optuna.create_study(
            storage=backend,
            study_name=name,
            direction="maximize",
            sampler=_sampler(seed),
            pruner=pruner,
        )
    except DuplicatedStudyError:
        study = optuna.load_study(
            storage=backend, study_name=name, sampler=_sampler(None), pruner=pruner
        )
        _check_origin(study, origin, storage)
        trials = study.get_trials(deepcopy=False)
        # Its first trial may have gone down with a process.
        if not any(PREVIOUS in t.user_attrs and counts(t) for t in trials):
            study.enqueue_trial(dict(previous), user_attrs={PREVIOUS: True})
        return study
    if any(runs.glob("trial-*")):
        optuna.delete_study(study_name=name, storage=backend)
        raise UsageError(
            f"{runs}: holds trials of another study; name another folder with --runs, or join "
            "that study with its --storage and --study"
        )
    study.enqueue_trial(dict(previous), user_attrs={PREVIOUS: True})
    study.set_user_attr(_ORIGIN, dict(origin))  # last: who joins waits for it
    return study


def counts(trial: FrozenTrial) -> bool:
    """Whether it is one of the trials asked for; interrupted and killed ones are not."""
    return trial.state != TrialState.FAIL or FAILURE in trial.user_attrs


def fingerprint(
    config: FitConfig, splits: Splits, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    """What the trials of one study share, as JSON can hold it."""
    settings = {k: v for k, v in config.to_dict().items() if k not in ("workers", "seed")}
    digest = hashlib.sha256()
    for part in (splits.train, splits.val):
        for sample in part:
            line = f"{sample.key}\0{sample.label}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        digest.update(b"\0")
    data = {"pictures": len(splits.train) + len(splits.val), "sha256": digest.hexdigest()}
    return {"settings": settings, "data": data, "ranges": {k: list(v) for k, v in ranges.items()}}


def _check_origin(study: optuna.Study, origin: Mapping[str, Any], storage: str) -> None:
    what = f"study {study.study_name} in {storage}"
    deadline = time.monotonic() + 20
    while _ORIGIN not in study.user_attrs:
        if time.monotonic() > deadline:
            raise UsageError(f"{what} was not begun by trainer tune; use another --study")
        time.sleep(0.2)
    # Through JSON, for what was stored has been there: tuples are lists now.
    before, now = study.user_attrs[_ORIGIN], json.loads(json.dumps(origin))
    changed = [k for k in now["settings"] if before["settings"].get(k) != now["settings"][k]]
    changed += [k for k in ("data", "ranges") if before[k] != now[k]]
    if changed:
        raise UsageError(
            f"{what} was begun with another {', '.join(changed)}: its trials cannot be compared "
            "with new ones; use the same settings, or another --study"
        )


def _sampler(seed: int | None) -> optuna.samplers.BaseSampler:
    # constant_liar: processes keep away from what others are trying at this moment.
    return optuna.samplers.TPESampler(
        n_startup_trials=_STARTUP_TRIALS, seed=seed, constant_liar=True
    )


def median_pruner(warmup_epochs: int) -> optuna.pruners.BasePruner:
    """Stop a trial whose best AUC so far is below the median of others at its epoch."""
    return optuna.pruners.MedianPruner(
        n_startup_trials=_STARTUP_TRIALS - 1, n_warmup_steps=warmup_epochs
    )


def _open_storage(url: str) -> optuna.storages.BaseStorage:
    waiting = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for attempt in range(6):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # The heartbeat tells a trial that runs elsewhere from one whose process died.
                return optuna.storages.RDBStorage(
                    url, engine_kwargs=waiting, heartbeat_interval=30, grace_period=120
                )
        except (OperationalError, IntegrityError) as error:
            # Two processes create the tables of a new file at the same moment.
            if attempt == 5 or not _clash(error):
                raise UsageError(f"{url}: {_first_line(error)}; see --storage") from None
            time.sleep(0.3 * (attempt + 1))
        except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"{url}: not a usable storage ({_first_line(error)}); write --storage "
                "sqlite:///study.db"
            ) from None
    raise AssertionError("unreachable")


def _clash(error: Exception) -> bool:
    return isinstance(error, IntegrityError) or "already exists" in str(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160]
