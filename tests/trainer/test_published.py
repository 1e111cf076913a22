"""Every preset goes the whole way at toy size: fit, resume, evaluate, export, scan.

What makes a preset is kept: encoder, decoder, head, losses, which stages are frozen and when,
the cache. Size, epochs and weights are not, so that it takes seconds and downloads nothing.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import make_data

from export.bundle import Exported, export_run
from export.parity import TOLERANCE, golden_pictures
from scanner.cli import SOME_FAILED
from scanner.cli import run as imgscan
from scanner.detector import Detector
from scanner.preprocess import prepare
from scanner.report.csv import COLUMNS
from trainer import checkpoint
from trainer.cli import command as trainer
from trainer.config import FitConfig, load_config, preset_names
from trainer.data import Splits, load_samples, split_samples
from trainer.fit import fit

pytestmark = pytest.mark.slow

EPOCHS = 3
SOURCES = {("real", "camera"): 24, ("fake", "one"): 12, ("fake", "two"): 12}
SPLITS = ("train", "train", "val", "test")


TEACHER = Path(__file__).with_name("toy_teacher.toml")


@dataclass(frozen=True)
class Fitted:
    """The run of a preset that nobody interrupted."""

    config: FitConfig
    run: Path
    result: dict[str, Any]


def toy(name: str) -> FitConfig:
    config = load_config(name)
    return replace(
        config,
        sample=1.0,
        size=64,
        reconstruction_size=32 if config.reconstruction_size else 0,
        encoder_weights="none",
        # The original LPIPS would download its trunk.
        perceptual="stlpips-alex" if config.perceptual == "lpips-alex" else config.perceptual,
        teacher=str(TEACHER) if config.teacher else "",
        freeze_epochs=min(config.freeze_epochs, 1),  # the unfrozen stages join on the way
        cached_draws=min(config.cached_draws, 2),
        epochs=EPOCHS,
        batch_size=8,
        workers=0,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("pictures"), SOURCES, SPLITS)


@pytest.fixture(scope="module")
def splits(data: Path) -> Splits:
    return split_samples(load_samples(data), val_fraction=0.2, seed=0)


@pytest.fixture(scope="module", params=preset_names())
def fitted(
    request: pytest.FixtureRequest, splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    config = toy(request.param)
    if config.encoder == "efficientnet-lite0":
        pytest.importorskip("timm")
    run = tmp_path_factory.mktemp(request.param) / "run"
    return Fitted(config, run, fit(config, splits, run, device="cpu"))


@pytest.fixture(scope="module")
def evaluation(fitted: Fitted, data: Path) -> Path:
    done = CliRunner().invoke(
        trainer,
        ["evaluate", str(fitted.run), "--data", str(data), "--device", "cpu", "--quiet"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    return fitted.run / "evaluation"


@pytest.fixture(scope="module")
def exported(fitted: Fitted) -> Exported:
    return export_run(fitted.run, fitted.run.parent / "bundle", name=fitted.config.preset)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _without_seconds(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in _rows(run / "log.csv")]


def test_killed_in_mid_epoch_and_resumed_it_ends_as_if_nothing_had_happened(
    fitted: Fitted, splits: Splits, tmp_path: Path
):
    killed = tmp_path / "killed"
    batches = 0

    def on_batch(done: int, total: int) -> None:
        nonlocal batches
        batches += 1
        if batches == total + 2:  # in the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fitted.config, splits, killed, device="cpu", on_batch=on_batch)
    assert len(_rows(killed / "log.csv")) == 1
    result = fit(fitted.config, splits, killed, device="cpu", resume=True)

    assert {**result, "seconds": 0} == {**fitted.result, "seconds": 0}
    assert _without_seconds(killed) == _without_seconds(fitted.run)
    for name in (checkpoint.BEST, checkpoint.LAST):
        whole = checkpoint.load(fitted.run / name)["model"]
        resumed = checkpoint.load(killed / name)["model"]
        assert whole.keys() == resumed.keys()
        assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_it_is_evaluated_on_the_pictures_that_the_fit_left_out(fitted: Fitted, evaluation: Path):
    (run,) = json.loads((evaluation / "evaluation.json").read_text("utf-8"))["runs"].values()
    assert (run["preset"], run["split"]) == (fitted.config.preset, "holdout")
    tier = run["tiers"]["clean"]
    scores = _rows(evaluation / "run-clean-scores.csv")
    held_out = {r["file"] for r in _rows(fitted.run / "splits.csv") if r["split"] == "holdout"}
    assert len(held_out) == 12
    assert {row["file"] for row in scores} == held_out
    right = [(float(r["p_fake"]) >= 0.5) == (r["label"] == "1") for r in scores]
    assert tier["thresholds"]["half"]["accuracy"] == pytest.approx(np.mean(right))
    assert tier["thresholds"]["youden"]["threshold"] == fitted.result["thresholds"]["youden"]
    assert (tier["reconstruction_error"] is None) == (fitted.config.decoder == "none")


def test_its_bundle_scores_as_its_torch_model_does(fitted: Fitted, exported: Exported):
    assert exported.parity.max_probability_difference <= TOLERANCE
    bundle = exported.bundle
    assert bundle.spec.grey is fitted.config.grey
    assert dict(bundle.thresholds) == fitted.result["thresholds"]
    assert bundle.training["config"] == fitted.config.to_dict()
    # Agreement means something only where the scores differ from picture to picture.
    batch = np.stack([prepare(rgb, bundle.spec) for rgb in golden_pictures()])
    spread = float(np.ptp(Detector(bundle, device="cpu").score(batch)))
    assert spread > 10 * exported.parity.max_probability_difference


def test_a_scan_with_its_bundle_gives_every_file_a_row_and_the_same_scores(
    exported: Exported, evaluation: Path, data: Path, tmp_path: Path
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not much more")
    report = tmp_path / "report.csv"
    status = imgscan(
        [
            str(data), str(broken), "--model", str(exported.bundle.path), "--device", "cpu",
            "--report", str(report), "--batch-size", "5", "--workers", "2", "--quiet",
        ]
    )  # fmt: skip
    assert status == SOME_FAILED
    rows = {row["path"]: row for row in _rows(report)}
    assert tuple(next(iter(rows.values()))) == COLUMNS
    assert rows.keys() == {str(broken), *map(str, data.rglob("*.png"))}
    assert rows.pop(str(broken))["verdict"] == "failed"
    for row in rows.values():
        assert row["error"] == ""
        fake = float(row["p_fake"]) >= float(row["threshold"])
        assert row["verdict"] == ("fake" if fake else "real")
        assert row["model"] == f"{exported.bundle.name}@{exported.bundle.digest}"
    for score in _rows(evaluation / "run-clean-scores.csv"):
        scanned = float(rows[str(data / score["file"])]["p_fake"])
        assert scanned == pytest.approx(float(score["p_fake"]), abs=2 * TOLERANCE)
