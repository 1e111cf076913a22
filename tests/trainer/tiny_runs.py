"""Runs and data sets of a few generated pictures, as `trainer fit` would leave them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import load_samples
from trainer.models import AutoencoderClassifier

# Threads cost these tiny models more than they give, several times so on a busy machine.
torch.set_num_threads(1)

CONFIG: dict[str, Any] = {
    "preset": "tiny",
    "encoder": "conv",
    "encoder_weights": "none",
    "unfrozen": -1,
    "decoder": "transposed",
    "reconstruction": "mse",
    "perceptual": "none",
    "size": 32,
    "batch_size": 8,
    "workers": 0,
}


def make_data(
    folder: Path,
    sources: Mapping[tuple[str, str], int],
    split_of: Sequence[str] = ("",),
) -> Path:
    """A manifest with `sources` {(label, source): count}; splits are dealt out in turn."""
    rows, number = [], 0
    for (label, source), count in sources.items():
        (folder / label / source).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            rng = np.random.default_rng(number)
            low = rng.integers(0, 256, (5, 4, 3), np.uint8)
            key = f"{label}/{source}/{i:02d}.png"
            Image.fromarray(low).resize((48, 60)).save(folder / key)
            rows.append([key, label, source, split_of[i % len(split_of)], f"group-{number}"])
            number += 1
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "source", "split", "group"])
        writer.writerows(rows)
    return folder


def make_run(
    folder: Path,
    data: Path,
    roles: Mapping[str, str],
    *,
    seed: int = 0,
    result: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A run with random weights. `roles` maps the data's split names to the run's."""
    folder.mkdir(parents=True)
    config = FitConfig(**{**CONFIG, **settings})
    torch.manual_seed(seed)
    model = AutoencoderClassifier(config, pretrained=False)
    with torch.no_grad():  # spread the scores, so that both verdicts occur
        for parameter in model.classifier.parameters():
            parameter.mul_(20)
    checkpoint.save(
        folder / checkpoint.BEST,
        {"model": model.state_dict(), "config": config.to_dict(), "epoch": 2},
    )
    fitted = {
        "epoch": 3,
        "temperature": 1.7,
        "thresholds": {"best_f1": 0.31, "youden": 0.46},
        "operating_point": "youden",
    }
    checkpoint.write_json(folder / "result.json", {**fitted, **(result or {})})
    with (folder / "splits.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "source", "group", "split"])
        for s in load_samples(data):
            if (s.split or "") in roles:
                writer.writerow([s.key, s.label, s.source, s.group, roles[s.split or ""]])
    return folder
