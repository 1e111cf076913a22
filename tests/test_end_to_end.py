"""From labelled pictures to a report: fit, export and scan as a person runs them."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

TOML = """
[preprocessing]
size = 32
[model]
encoder = "conv"
encoder_weights = "none"
unfrozen = -1
decoder = "transposed"
head = [16]
[losses]
reconstruction = "mse"
perceptual = "none"
[schedule]
epochs = 12
batch_size = 8
learning_rate = 3e-3
workers = 0
"""
COLUMNS = [
    "path", "member", "verdict", "confidence", "p_fake", "threshold", "real_below", "fake_from",
    "operating_point", "width", "height", "format", "bytes", "sha256", "notes", "model", "error",
    "review", "review_note",
]  # fmt: skip


def _run(*command: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def _picture(path: Path, fake: bool, seed: int) -> None:
    """Real: a gradient. Fake: stripes. A model that learns at all tells them apart."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, 60)[None, :] * np.ones((48, 1))
    wave = np.sign(np.sin(x * rng.uniform(60, 90))) if fake else x * rng.uniform(0.5, 1)
    grey = np.clip(128 + 90 * wave + rng.normal(0, 6, x.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).convert("RGB").save(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    for i in range(40):
        _picture(folder / "data" / "real" / f"{i}.png", False, i)
        _picture(folder / "data" / "fake" / f"{i}.png", True, 1000 + i)
    for i in range(6):
        _picture(folder / "new" / f"real-{i}.jpg", False, 2000 + i)
        _picture(folder / "new" / f"fake-{i}.webp", True, 3000 + i)
    (folder / "new" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much more")
    (folder / "tiny.toml").write_text(TOML)
    _run(
        "trainer", "fit", "--data", str(folder / "data"), "--preset", str(folder / "tiny.toml"),
        "--out", str(folder / "run"), "--quiet",
    )  # fmt: skip
    _run("export", "onnx", str(folder / "run"), "--out", str(folder / "bundle"), "--name", "tiny")
    return folder


def test_a_scan_with_a_fitted_model_fills_every_field(work: Path):
    report = work / "out.csv"
    out = _run(
        "scanner", str(work / "new"), "--model", str(work / "bundle"), "--report", str(report),
        code=2,  # a file could not be read
    )  # fmt: skip
    with report.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = {Path(row["path"]).name: row for row in reader}
    assert reader.fieldnames == COLUMNS
    assert sorted(rows) == sorted(p.name for p in (work / "new").iterdir())
    failed = rows.pop("broken.jpg")
    assert failed["verdict"] == "failed"
    assert failed["error"].split(":")[0] in ("truncated", "unreadable", "not_an_image")
    assert failed["p_fake"] == failed["confidence"] == failed["threshold"] == ""
    for name, row in rows.items():
        content = (work / "new" / name).read_bytes()
        p, threshold = float(row["p_fake"]), float(row["threshold"])
        assert row["verdict"] == name.split("-")[0], "the fitted model tells them apart"
        assert (p >= threshold) == (row["verdict"] == "fake")
        assert float(row["confidence"]) == pytest.approx(p if row["verdict"] == "fake" else 1 - p)
        assert row["operating_point"] == "youden"
        assert (row["width"], row["height"]) == ("60", "48")
        assert row["format"] == ("JPEG" if name.endswith("jpg") else "WEBP")
        assert row["bytes"] == str(len(content))
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["model"].startswith("tiny@")
        assert row["error"] == ""
    assert "fake-0.webp" in out
    assert "real-0.jpg" not in out, "only suspects are listed"


def test_a_custom_threshold_changes_verdicts_and_not_scores(work: Path):
    found = {}
    for threshold in ("0", "1"):
        report = work / f"at-{threshold}.csv"
        _run(
            "scanner", str(work / "new" / "real-0.jpg"), "--model", str(work / "bundle"),
            "--report", str(report), "--threshold", threshold, "--exit-zero", "--quiet",
        )  # fmt: skip
        (row,) = csv.DictReader(report.open(encoding="utf-8", newline=""))
        found[threshold] = row
        assert row["operating_point"] == "custom"
    assert found["0"]["verdict"] == "fake"
    assert found["1"]["verdict"] == "real"
    assert found["0"]["p_fake"] == found["1"]["p_fake"]


def test_a_spoilt_bundle_ends_the_scan_before_it_begins(work: Path, tmp_path: Path):
    import shutil

    spoilt = Path(shutil.copytree(work / "bundle", tmp_path / "spoilt"))
    with (spoilt / "encoder.onnx").open("ab") as stream:
        stream.write(b"!")
    report = tmp_path / "out.csv"
    _run(
        "scanner", str(work / "new"), "--model", str(spoilt), "--report", str(report), code=3
    )  # fmt: skip
    assert not report.exists()
