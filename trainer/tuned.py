"""What a study leaves to people and to `fit()`: a preset, a table and two plots."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

from scanner.errors import UsageError
from trainer.config import FitConfig, load_config, preset_names
from trainer.tune import TuneResult

# They make trials short or belong to the machine; a fit of the tuned preset wants its own.
_NOT_KEPT = ("epochs", "sample", "workers", "seed")


def write_preset(
    path: Path, preset: str, overrides: Mapping[str, Any], config: FitConfig, result: TuneResult
) -> None:
    """Write the TOML that `load_config` reads: `preset`, `overrides`, and the best values.

    Epochs, sample, workers and seed of the trials stay out of it.
    """
    kept = {k: v for k, v in overrides.items() if k not in (*_NOT_KEPT, *result.best)}
    lines = [
        f"# By `trainer tune`: study {result.study.study_name}, trial {result.best_trial}, the "
        f"best of {result.complete} complete ones",
        f"# ({result.pruned} pruned, {result.failed} failed), each of {config.epochs} epochs on a "
        f"sample of {config.sample:g}.",
        f"# Validation AUC {result.best_auc:.4f}; with the values before: "
        + ("no result." if result.previous_auc is None else f"{result.previous_auc:.4f}."),
        "",
        f"base = {_toml(_base(preset, path))}",
    ]
    if kept:
        lines += ["", "# Given on the command line of the study.", "[given]"]
        lines += [f"{name} = {_toml(value)}" for name, value in kept.items()]
    lines += ["", "[tuned]"]
    for name, value in result.best.items():
        lines.append(f"{name} = {_toml(value)}  # before: {_toml(result.previous[name])}")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.toml")
    temporary.write_text("\n".join(lines) + "\n", "utf-8")
    load_config(str(temporary))  # what cannot be read back must not be left behind
    temporary.replace(path)


def draw_plots(study: optuna.Study, stem: Path) -> tuple[list[Path], list[str]]:
    """Draw STEM-history.png and STEM-importances.png; (files, why one is missing)."""
    written, missing = [], []
    jobs = (("history", plot_optimization_history), ("importances", plot_param_importances))
    complete = [t for t in study.get_trials(deepcopy=False) if t.value is not None]
    for name, plot in jobs:
        if name == "importances" and len(complete) < 4:
            missing.append("no plot of importances: it takes four complete trials")
            continue
        with (
            mpl.rc_context({"backend": "agg", "figure.figsize": (8, 4.5), "figure.dpi": 120}),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", ExperimentalWarning)
            # Where too many trials are equal, optuna would draw importances without meaning.
            warnings.filterwarnings("error", "Target and region quantiles")
            try:
                axes = plot(study, target_name="validation AUC")
            except UserWarning:
                missing.append(f"no plot of {name}: too many trials are equal")
                continue
            except (RuntimeError, ValueError) as error:
                missing.append(f"no plot of {name}: {error}")
                continue
        file = stem.with_name(f"{stem.name}-{name}.png")
        figure = axes.get_figure(root=True)
        assert figure is not None  # optuna has just drawn it
        figure.savefig(file, bbox_inches="tight")
        plt.close(figure)
        written.append(file)
    return written, missing


def table(result: TuneResult) -> str:
    """Previous against best for each parameter, and what was searched."""
    rows = [("parameter", "previous", "best", "searched")]
    for name, bounds in result.space.items():
        scale = ", log" if bounds.log else ""
        rows.append(
            (
                name,
                f"{result.previous[name]:.6g}",
                f"{result.best[name]:.6g}",
                f"{bounds.low:g} to {bounds.high:g}{scale}",
            )
        )
    before = "failed" if result.previous_auc is None else f"{result.previous_auc:.4f}"
    rows.append(("validation AUC", before, f"{result.best_auc:.4f}", f"trial {result.best_trial}"))
    return "\n".join(f"{a:16s}{b:>12s}{c:>12s}   {d}".rstrip() for a, b, c, d in rows)


def _base(preset: str, path: Path) -> str:
    if preset in preset_names():
        return preset
    try:
        return Path(os.path.relpath(Path(preset), path.parent)).as_posix()
    except ValueError:  # another drive
        return Path(preset).resolve().as_posix()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    raise UsageError(f"{value!r} cannot be written to a preset")
