"""A finished run, calibrated anew on scores of left-out families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scanner.errors import UsageError
from trainer import checkpoint
from trainer.config import FitConfig, config_from_dict
from trainer.left_out import cross_fitted, fit_left_out, read_scores

# Settings in which a benchmark differs from the fit it stands for: it fits no decoder.
_APART = ("decoder", "reconstruction", "workers", "preset")


def require_same_recipe(config: FitConfig, other: Any, left_out: Path, *, of: str) -> None:
    """Raises UsageError unless `other`, the settings in file `left_out`, are `config` of `of`."""
    others = config_from_dict(other, origin=str(left_out)).to_dict()
    differing = sorted(
        name
        for name, value in config.to_dict().items()
        if others[name] != value and name not in _APART
    )
    if differing:
        raise UsageError(
            f"{left_out}: is of another {', '.join(differing)} than {of}; run "
            "`trainer benchmark` with the settings of the run"
        )


def recalibrate(run: Path, left_out: Path) -> dict[str, Any]:
    """Put the calibration on left-out scores into `run` and return its new result.

    `left_out` is the JSON of `trainer benchmark`. Raises UsageError unless that was run with
    the run's own settings: thresholds fit the scores of one recipe alone.
    """
    _, config, result = checkpoint.load_run(run)
    raw = checkpoint.read_json(left_out)
    scores = read_scores(raw, str(left_out))
    require_same_recipe(config, raw["config"], left_out, of=str(run))
    if config.prior is not None:
        raise UsageError(
            f"{run}: was fitted with real_per_fake, whose P(fake) left-out families, which count "
            "alike, cannot calibrate"
        )
    calibration = fit_left_out(scores)
    before = result.get("left_out", {})
    result = {
        **result,
        "temperature": calibration.temperature,
        "thresholds": calibration.thresholds,
        "unsure": None if calibration.unsure is None else list(calibration.unsure),
        "left_out": {
            "shift": calibration.shift,  # which load_run() adds to the logit
            "measured": cross_fitted(scores),
            "on_validation": before.get("on_validation")
            or {key: result[key] for key in ("temperature", "thresholds")},
        },
    }
    checkpoint.write_json(run / checkpoint.RESULT, result)
    return result
