from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import make_data, make_run

from scanner.errors import UsageError
from trainer.data import Sample, load_samples
from trainer.evaluate import Evaluation, evaluate
from trainer.mistakes import most_confident_errors
from trainer.runs import open_runs
from trainer.selection import Selection
from trainer.tables import as_text, source_table, summary_table
from trainer.tiers import CLEAN, HARD, WEB

SOURCES = {("real", "photos"): 9, ("real", "art"): 6, ("fake", "gan"): 9, ("fake", "flow"): 6}
ROLES = {"train": "train", "val": "val", "test": "holdout"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), SOURCES, ("train", "val", "test"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first", data, ROLES)


def judged(paths, samples, **options) -> Evaluation:
    tiers = options.pop("tiers", [CLEAN])
    runs = [(run, Selection("all", tuple(samples))) for run in open_runs(paths)]
    return evaluate(runs, tiers, data="pictures", device="cpu", **options)


def test_thresholds_and_temperature_are_the_fits_whatever_the_labels(run: Path, data: Path):
    samples = load_samples(data)
    turned = [replace(s, label=1 - s.label) for s in samples]
    results = [judged([run], part).runs[0] for part in (samples, turned)]
    for result in results:
        at = {name: f["threshold"] for name, f in result.tiers[0].figures.items()}
        assert at == {"half": 0.5, "best_f1": 0.31, "youden": 0.46}
        logits = result.tiers[0].logits
        np.testing.assert_allclose(result.tiers[0].p_fake, 1 / (1 + np.exp(-logits / 1.7)))
    a, b = (result.tiers[0].figures["youden"] for result in results)
    assert a["accuracy"] == pytest.approx(1 - b["accuracy"])
    assert a["auc"] == pytest.approx(1 - b["auc"])


def test_surest_errors_come_first():
    p = np.array([0.99, 0.95, 0.60, 0.05, 0.30, 0.90])
    labels = np.array([1, 0, 0, 1, 1, 0])
    # Wrong: 1 (0.95), 2 (0.60), 3 (0.95), 4 (0.70), 5 (0.90).
    assert most_confident_errors(p, labels, 0.5, 10) == [1, 3, 5, 4, 2]
    assert most_confident_errors(p, labels, 0.5, 2) == [1, 3]
    assert most_confident_errors(p, labels, 0.5, 0) == []


def test_one_kind_of_error_does_not_crowd_out_the_other():
    """Below 0.1 every missed fake looks surer than any false alarm."""
    p = np.array([0.2, 0.15, 0.12, 0.01, 0.02, 0.03, 0.04])
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    assert most_confident_errors(p, labels, 0.1, 4) == [3, 4, 0, 1]
    assert most_confident_errors(p, labels, 0.1, 6) == [3, 4, 5, 0, 1, 2]
    assert most_confident_errors(p[2:], labels[2:], 0.1, 4) == [1, 2, 3, 0]  # no place stays empty


def test_errors_show_the_wrong_verdict_and_both_pictures(run: Path, data: Path):
    samples = load_samples(data)
    tier = judged([run], samples, max_errors=5).runs[0].tiers[0]
    p = {s.key: float(v) for s, v in zip(tier.samples, tier.p_fake, strict=True)}
    at = tier.figures["youden"]["confusion"]
    assert len(tier.errors) == min(5, at["fp"] + at["fn"]) > 0
    assert [e.confidence for e in tier.errors] == sorted(
        (e.confidence for e in tier.errors), reverse=True
    )
    for error in tier.errors:
        called_fake = p[error.sample.key] >= 0.46
        assert error.predicted == ("fake" if called_fake else "real") != error.actual
        expected = p[error.sample.key] if called_fake else 1 - p[error.sample.key]
        assert error.confidence == pytest.approx(expected)
        assert error.original.shape == error.reconstruction.shape == (32, 32, 3)
        with Image.open(data / error.sample.key) as image:  # 48 x 60: the middle, reduced
            square = image.resize((32, 32), Image.Resampling.BICUBIC, box=(0, 6, 48, 54))
        difference = np.abs(np.asarray(square).astype(int) - error.original)
        assert difference.mean() < 1.5


def test_several_runs_stand_in_one_table(tmp_path: Path, run: Path, data: Path):
    second = make_run(tmp_path / "second", data, ROLES, seed=1)
    evaluation = judged([run, second], load_samples(data), tiers=[CLEAN, WEB, HARD])
    header, rows = summary_table(evaluation)
    assert header[5:] == [
        "accuracy", "balanced", "precision", "recall", "F1", "AUC", "AP", "ECE", "Brier"
    ]  # fmt: skip
    assert [row[:3] for row in rows] == [
        [name, tier, threshold]
        for name in ("first", "second")
        for tier in ("clean", "web", "hard")
        for threshold in ("0.5", "best F1", "Youden*")
    ]
    header, rows = source_table(evaluation, "fake")
    assert len(header) == 2 + 6
    assert [row[:2] for row in rows] == [["flow", "6"], ["gan", "9"]]
    text = as_text(evaluation)
    assert text.count("classification report") == 6
    assert text.count("weighted avg") == 6


def test_runs_of_one_name_are_told_apart(tmp_path: Path, run: Path, data: Path):
    other = make_run(tmp_path / "first", data, ROLES, seed=1)
    assert [r.name for r in open_runs([run, other, run])] == ["first", "first-2", "first-3"]


def test_runs_judged_on_different_pictures_are_said_to_be(run: Path, data: Path):
    samples = tuple(load_samples(data))
    a, b = open_runs([run, run])
    both = [(a, Selection("all", samples)), (b, Selection("some", samples[2:]))]
    result = evaluate(both, [CLEAN], data="pictures", device="cpu")
    assert any("different pictures" in warning for warning in result.warnings)
    assert judged([run, run], samples).warnings == ()


def test_grey_scores_what_grey_pictures_score(tmp_path: Path, run: Path, data: Path):
    samples = load_samples(data)
    greyed = []
    for sample in samples:
        target = tmp_path / sample.key
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(sample.path) as image:
            image.convert("L").convert("RGB").save(target)
        greyed.append(replace(sample, path=target))
    by_option = judged([run], samples, grey=True).runs[0].tiers[0].p_fake
    by_file = judged([run], greyed).runs[0].tiers[0].p_fake
    in_colour = judged([run], samples).runs[0].tiers[0].p_fake
    np.testing.assert_allclose(by_option, by_file, atol=1e-6)
    assert np.abs(by_option - in_colour).max() > 1e-3


def test_grey_changes_nothing_for_a_grey_model_and_says_so(tmp_path: Path, data: Path):
    grey = make_run(tmp_path / "grey", data, ROLES, grey=True)
    samples = load_samples(data)
    with_option = judged([grey], samples, grey=True)
    without = judged([grey], samples)
    np.testing.assert_array_equal(
        with_option.runs[0].tiers[0].p_fake, without.runs[0].tiers[0].p_fake
    )
    assert "sees pictures in grey anyway" in with_option.warnings[0]


def test_a_tier_changes_the_scores(run: Path, data: Path):
    clean, hard = judged([run], load_samples(data), tiers=[CLEAN, HARD]).runs[0].tiers
    assert np.abs(clean.p_fake - hard.p_fake).max() > 1e-4


def test_a_tier_is_applied_to_the_whole_picture(tmp_path: Path, run: Path):
    """Not to what a JPEG decoder leaves of it where a small square is all that is needed."""
    low = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(low).resize((2048, 1536)).save(tmp_path / "a.jpg", quality=90)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "b.png")
    samples = [
        Sample(name, label, "x", name, None, tmp_path / name)
        for label, name in enumerate(("a.jpg", "b.png"))
    ]
    a, b = judged([run], samples, tiers=[WEB]).runs[0].tiers[0].logits
    assert a == pytest.approx(b, abs=1e-6)


def test_the_batch_size_does_not_change_the_scores(run: Path, data: Path):
    samples = load_samples(data)
    one, many = (judged([run], samples, batch_size=n).runs[0].tiers[0].p_fake for n in (1, 30))
    np.testing.assert_allclose(one, many, atol=1e-6)


@pytest.mark.parametrize(
    "result", [{"thresholds": {"youden": 0.4}}, {"temperature": None}, {"operating_point": "x"}]
)
def test_a_run_without_thresholds_is_refused(tmp_path: Path, data: Path, result):
    broken = make_run(tmp_path / "broken", data, ROLES, result=result)
    with pytest.raises(UsageError, match=r"result\.json"):
        open_runs([broken])


def test_an_unfinished_run_is_refused_with_the_remedy(tmp_path: Path, data: Path):
    unfinished = make_run(tmp_path / "unfinished", data, ROLES)
    (unfinished / "result.json").unlink()
    with pytest.raises(UsageError, match="--resume"):
        open_runs([unfinished])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(run: Path, data: Path):
    runs = [(open_runs([run])[0], Selection("all", tuple(load_samples(data))))]
    with pytest.raises(UsageError, match="--device cpu"):
        evaluate(runs, [CLEAN], data="pictures", device="cuda")
