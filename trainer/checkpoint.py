"""What a run leaves behind: state dicts with config, and JSON beside them. No pickled modules."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scanner.errors import UsageError
from scanner.text import one_line
from trainer.config import FitConfig, config_from_dict
from trainer.experts import ExpertHeads, experts_in
from trainer.models import AutoencoderClassifier

BEST, LAST, RESULT = "best.pt", "last.pt", "result.json"


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write by a temporary name, so that a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    torch.save(dict(content), temporary)
    temporary.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint as `save` wrote it; tensors, numbers and strings only."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such checkpoint; is the folder a run of trainer fit?"
        ) from None
    # torch.load raises whatever zip, pickle and its own reader raise on a damaged file.
    except Exception as error:  # noqa: BLE001
        raise UsageError(f"{path}: not a checkpoint: {one_line(error, 120)}") from None
    if not isinstance(content, dict) or not {"model", "config", "epoch"} <= content.keys():
        raise UsageError(f"{path}: not a checkpoint of trainer fit")
    return content


def load_run(run: Path) -> tuple[AutoencoderClassifier, FitConfig, dict[str, Any]]:
    """The best model of a run in evaluation mode, its config, and its result.json.

    Its logits are those that the result's temperature and thresholds are for.

    Raises UsageError where they are not of the same epoch.
    """
    content = load(run / BEST)
    config = config_from_dict(content["config"], origin=str(run / BEST))
    model = AutoencoderClassifier(config, pretrained=False)
    load_model(model, content["model"], run / BEST)
    model.eval()
    result = read_json(run / RESULT)
    if result.get("epoch") != content["epoch"] + 1:
        raise UsageError(
            f"{run / RESULT}: is of epoch {result.get('epoch')}, {BEST} of epoch "
            f"{content['epoch'] + 1}: thresholds of another model; `trainer fit --resume` "
            "concludes the run anew"
        )
    model.shift_logit(float(result.get("left_out", {}).get("shift", 0.0)))
    return model, config, result


def load_model(model: AutoencoderClassifier, state: dict[str, Tensor], origin: Path) -> None:
    """Load a state dict, all of it, of as many experts as it has; raises UsageError."""
    experts = experts_in(state)
    if experts and not isinstance(model.classifier, ExpertHeads):
        model.use_experts(experts)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(f"{origin}: {one_line(error, 200)}") from None


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON by a temporary name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that a run wrote."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: missing; the run has not finished: `trainer fit --resume`"
        ) from None
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: must hold an object")
    return content
