"""`export cascade`: two bundles and their left-out scores become one bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from export.cascade import _placed, export_cascade
from export.cli import command
from scanner.bundle import EMBEDDED, bundle_path, read_bundle
from scanner.errors import UsageError
from trainer.left_out import fit_left_out, read_scores

SIZE = 40


def benchmark(path: Path, noise: float, *, rename: str = "", labels: str = "both") -> Path:
    """Logits of 3 families a class: the picture's own, and of this model `noise` besides."""
    rng, shared = np.random.default_rng(int(noise * 10)), np.random.default_rng(0)
    rows = []
    for label, mean in (("real", -2.0), ("fake", 2.0)):
        for i in range(3):
            for tier in ("clean", "hard"):
                logits = shared.normal(mean, 1.5, SIZE) + rng.normal(0, noise, SIZE)
                rows.append(
                    {"family": f"{label}-{i}", "label": label, "tier": tier,
                     "keys": [f"{rename}{label}/{i}/{n}" for n in range(SIZE)],
                     "logits": logits.tolist()}
                )  # fmt: skip
    if labels != "both":
        rows = [row for row in rows if row["label"] == labels]
    path.write_text(json.dumps({"left_out": rows}))
    return path


def stage(folder: Path, scores: Path, name: str) -> Path:
    """The embedded fast bundle, as if it had been calibrated by `scores`."""
    shutil.copytree(EMBEDDED["fast"], folder)
    raw = json.loads((folder / "bundle.json").read_text())
    fitted = fit_left_out(read_scores(json.loads(scores.read_text()), scores.name))
    raw |= {"temperature": fitted.temperature, "name": name}
    (folder / "bundle.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    rough, fine = benchmark(tmp_path / "rough.json", 3.0), benchmark(tmp_path / "fine.json", 0.1)
    return {
        "rough.json": rough, "fine.json": fine,
        "rough": stage(tmp_path / "rough", rough, "rough"),
        "fine": stage(tmp_path / "fine", fine, "fine"),
    }  # fmt: skip


def made(parts: dict[str, Path], out: Path, **options: Any) -> Any:
    models, scores = (parts["rough"], parts["fine"]), (parts["rough.json"], parts["fine.json"])
    return export_cascade(models, scores, out, name="both", **options)


def balanced(bundle: Any, tier: str = "clean") -> float:
    return float(bundle.metrics["left_out_points"][tier]["points"]["youden"]["balanced_accuracy"])


def test_what_the_band_sends_on_is_scored_by_the_better_stage(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    few = made(parts, tmp_path / "few", rescore=(0.49, 0.51))
    many = made(parts, tmp_path / "many", rescore=(0.05, 0.95))

    assert few.metrics["rescored"]["clean"]["real"] < 0.1
    assert many.metrics["rescored"]["clean"]["real"] > 0.3
    assert balanced(many) > balanced(few) + 0.02
    assert many.temperature == 1.0
    assert many.rescore == (0.05, 0.95)
    assert {"youden", "best_f1", "fpr_1pct", "fpr_0.1pct"} == set(many.thresholds)


def test_the_chosen_band_keeps_within_the_share_and_pays(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    bundle = made(parts, tmp_path / "out", share=0.4)

    shares = bundle.metrics["rescored"]
    assert np.mean([shares[tier]["real"] for tier in shares]) <= 0.4
    assert balanced(bundle) > balanced(made(parts, tmp_path / "few", rescore=(0.49, 0.51)))


def test_bundles_from_elsewhere_are_copied_and_those_that_come_along_are_named(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    bundle = made(parts, tmp_path / "out", rescore=(0.2, 0.8))

    assert [stage.path.name for stage in bundle.stages] == ["first", "second"]
    assert [stage.name for stage in bundle.stages] == ["rough", "fine"]
    assert "`rough@" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    shutil.rmtree(parts["rough"])
    assert read_bundle(tmp_path / "out").digest == bundle.digest


def test_scores_that_a_stage_was_not_calibrated_by_are_refused(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    parts["fine.json"] = parts["rough.json"]
    with pytest.raises(UsageError, match=r"fine@.* was not calibrated by these scores"):
        made(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_of_the_same_benchmark_run_again_will_do(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    """On another machine they come out the same but for roundings."""
    raw = json.loads(parts["fine.json"].read_text())
    for change, taken in ((1.002, True), (1.05, False)):
        other = json.loads(json.dumps(raw))
        for row in other["left_out"]:
            row["logits"] = [z * change for z in row["logits"]]
        parts["fine.json"] = tmp_path / f"{change}.json"
        parts["fine.json"].write_text(json.dumps(other))
        if taken:
            assert made(parts, tmp_path / "out").stages[1].name == "fine"
        else:
            with pytest.raises(UsageError, match="was not calibrated by these scores"):
                made(parts, tmp_path / "out")


def test_scores_without_the_pictures_names_are_refused(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    raw = json.loads(parts["fine.json"].read_text())
    del raw["left_out"][3]["keys"]
    parts["fine.json"].write_text(json.dumps(raw))
    with pytest.raises(UsageError, match="does not say which pictures"):
        made(parts, tmp_path / "out")


def test_a_model_that_comes_along_is_named_even_where_its_folder_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EMBEDDED["fast"].parent)
    for given in (Path("fast"), EMBEDDED["fast"], Path("default_model")):
        assert _placed(read_bundle(bundle_path(given)), tmp_path / "first") == "fast"
    assert not (tmp_path / "first").exists()


def test_a_cascade_is_no_stage_and_stages_see_the_same_squares(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    made(parts, tmp_path / "both", rescore=(0.2, 0.8))
    with pytest.raises(UsageError, match="is a cascade itself"):
        made({**parts, "fine": tmp_path / "both"}, tmp_path / "out")
    path = parts["fine"] / "bundle.json"
    raw = json.loads(path.read_text())
    raw["preprocess"]["resampling"] = "lanczos"
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError, match="prepare pictures differently"):
        made(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"rename": "other/"}, {"labels": "fake"}])
def test_scores_without_pictures_of_both_classes_in_common_are_refused(
    parts: dict[str, Path], tmp_path: Path, change: dict[str, str]
) -> None:
    benchmark(parts["fine.json"], 0.1, **change)
    with pytest.raises(UsageError, match=r"in common|one class only"):
        made(parts, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rescore", "0.8", "0.2"], "rising"),
        (["--share", "0"], "raise it"),
        (["--operating-point", "none"], "none of"),
    ],
)
def test_the_command_says_what_is_wrong_and_leaves_nothing(
    parts: dict[str, Path], tmp_path: Path, options: list[str], said: str
) -> None:
    out = tmp_path / "made" / "out"
    args = ["cascade", str(parts["rough"]), str(parts["fine"]), "--out", str(out),
            "--left-out-first", str(parts["rough.json"]),
            "--left-out-second", str(parts["fine.json"])]  # fmt: skip

    result = CliRunner().invoke(command, [*args, *options])

    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
    assert not out.exists()
    assert CliRunner().invoke(command, [*args, "--rescore", "0.2", "0.8"]).exit_code == 0
    assert read_bundle(out).name == "cascade"
