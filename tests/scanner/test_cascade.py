"""Two models as one: who scores what, and what a cascade's folder may hold."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scanner.bundle import EMBEDDED, Bundle, read_bundle
from scanner.bundle_writing import replace_folder
from scanner.cascade import Cascade, open_model
from scanner.cli import run
from scanner.detector import Detector
from scanner.errors import BundleError
from scanner.explain.maps import explain
from scanner.journal import pipeline_of
from scanner.preprocess import normalised
from scanner.types import FileFacts, ImageRef, Pixels

BAND = (0.3, 0.7)


def changed(bundle: Path, **values: Any) -> Bundle:
    """bundle.json with fields replaced."""
    raw = json.loads((bundle / "bundle.json").read_text())
    raw.update(values)
    (bundle / "bundle.json").write_text(json.dumps(raw))
    return read_bundle(bundle)


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A cascade: `tiny_bundle`, and one of another normalisation and temperature."""
    cascade = tmp_path / "cascade"
    stages = []
    for name in ("first", "second"):
        shutil.copytree(tiny_bundle.path, cascade / name)
    spec = {**tiny_bundle.spec.to_dict(), "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.4, 0.3]}
    second = {"name": "careful", "preprocess": spec, "temperature": 3.0}
    for name, values in (("first", {}), ("second", second)):
        stages.append({"model": name, "digest": changed(cascade / name, **values).digest})
    raw = json.loads((tiny_bundle.path / "bundle.json").read_text())
    del raw["preprocess"]
    card = tiny_bundle.path / "MODEL_CARD.md"
    shutil.copy(card, cascade)
    raw |= {
        "name": "both", "stages": stages, "rescore": list(BAND), "temperature": 1.0,
        "files": {"MODEL_CARD.md": raw["files"]["MODEL_CARD.md"]},
    }  # fmt: skip
    (cascade / "bundle.json").write_text(json.dumps(raw))
    return cascade


def squares(bundle: Bundle, count: int = 40) -> np.ndarray:
    """From black to white, uint8 [count, V, S, S, 3]."""
    spec = bundle.spec
    rng = np.random.default_rng(0)
    noise = rng.integers(-9, 10, (count, spec.views, spec.size, spec.size, 3))
    level = np.linspace(20, 235, count).round()[:, None, None, None, None]
    return np.asarray(level + noise, np.uint8)


def prepared(pictures: np.ndarray, bundle: Bundle) -> np.ndarray:
    return np.stack([normalised(picture, bundle.spec) for picture in pictures])


def test_the_second_scores_what_the_first_is_unsure_of_and_nothing_else(folder: Path) -> None:
    bundle = read_bundle(folder)
    model = open_model(bundle, "cpu")
    pictures = squares(bundle)
    first, second = (
        Detector(stage, "cpu").score(prepared(pictures, stage)) for stage in bundle.stages
    )
    inside = (first >= BAND[0]) & (first < BAND[1])

    scores = model.score(prepared(pictures, bundle))

    assert 5 < inside.sum() < len(pictures) - 5, "both kinds are there"
    assert np.array_equal(scores[~inside], first[~inside])
    np.testing.assert_allclose(scores[inside], second[inside], atol=1e-5)
    assert np.abs(first - second)[inside].max() > 0.05, "the stages differ"
    assert isinstance(model, Cascade)
    assert (model.scored, model.rescored) == (len(pictures), inside.sum())


def test_a_score_does_not_hang_on_what_else_is_scanned(folder: Path) -> None:
    bundle = read_bundle(folder)
    model = open_model(bundle, "cpu")
    batch = prepared(squares(bundle), bundle)

    alone = np.concatenate([model.score(picture[None]) for picture in batch])

    assert np.array_equal(model.score(batch), alone)
    assert np.array_equal(model.score(batch[::-1])[::-1], alone)


def test_the_edges_of_the_band_are_low_included_and_high_not(folder: Path) -> None:
    bundle = read_bundle(folder)
    pictures = squares(bundle)
    first = Detector(bundle.stages[0], "cpu").score(prepared(pictures, bundle))
    low, high = float(np.sort(first)[10]), float(np.sort(first)[30])
    model = Cascade(changed(folder, rescore=[low, high]), "cpu")

    model.score(prepared(pictures, bundle))

    assert model.rescored == 20


def test_maps_are_of_the_stage_that_gave_the_score(folder: Path) -> None:
    bundle = read_bundle(folder)
    model = open_model(bundle, "cpu")
    side = bundle.spec.size
    for level, by in ((20, ""), (128, ", by careful")):
        rgb = np.full((side, side, 3), level, np.uint8)
        pixels = Pixels(ImageRef(Path("a.png")), rgb, FileFacts())
        found = explain(pixels, model, grid=2)
        assert found is not None
        stage = bundle.stages[1 if by else 0]
        expected = model.score(normalised(found.squares, bundle.spec)[None])[0]
        assert found.p_fake == pytest.approx(expected, abs=1e-5)
        assert found.by == (by or f", by {stage.name}")


def test_the_digest_covers_the_stages(folder: Path) -> None:
    before = read_bundle(folder)
    stage = changed(folder / "second", temperature=2.0)

    with pytest.raises(BundleError, match=f"was made of second@.*is {stage.digest}") as caught:
        read_bundle(folder)
    assert "python -m export cascade" in str(caught.value)

    stages = json.loads((folder / "bundle.json").read_text())["stages"]
    after = changed(folder, stages=[stages[0], {"model": "second", "digest": stage.digest}])
    assert after.digest != before.digest
    assert pipeline_of(after) != pipeline_of(before)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], "two models"),
        ("first", "two models"),
        ([{"model": "first", "digest": ""}] * 3, "two models"),
        (["first", "second"], "must be an object"),
        ([{"model": "first"}, {"model": "second"}], "'digest' is missing"),
        ([{"model": 1, "digest": ""}, {"model": "second", "digest": ""}], "must be text"),
        ([{"model": "../first", "digest": ""}, {"model": "second", "digest": ""}], "'first' or a"),
        ([{"model": "second", "digest": ""}, {"model": "first", "digest": ""}], "'first' or a"),
        ([{"model": "/etc", "digest": ""}, {"model": "second", "digest": ""}], "'first' or a"),
    ],
)
def test_stages_that_are_none_are_refused(folder: Path, stages: object, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        changed(folder, stages=stages)


@pytest.mark.parametrize("band", [None, [0.5], [0.7, 0.3], [0.5, 0.5], [0, 2], ["a", "b"], 0.5])
def test_a_band_that_is_none_is_refused(folder: Path, band: object) -> None:
    with pytest.raises(BundleError, match="rescore"):
        changed(folder, rescore=band)


def test_a_temperature_of_its_own_is_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match="temperature of a cascade must be 1"):
        changed(folder, temperature=2.0)


def test_graphs_of_its_own_are_refused(folder: Path) -> None:
    shutil.copy(folder / "first" / "encoder.onnx", folder)
    digests = json.loads((folder / "first" / "bundle.json").read_text())["files"]
    with pytest.raises(BundleError, match=r"'encoder\.onnx', which is no part"):
        changed(folder, files=digests)


def test_a_second_stage_that_does_not_run_is_found_before_the_scan(folder: Path) -> None:
    """Its files are whole, so that reading finds nothing; such a graph wants other squares."""
    for stage in ("first", "second"):
        spec = json.loads((folder / stage / "bundle.json").read_text())["preprocess"]
        changed(folder / stage, preprocess={**spec, "size": 48})
    stages = [
        {"model": stage, "digest": read_bundle(folder / stage).digest}
        for stage in ("first", "second")
    ]
    bundle = changed(folder, stages=stages)
    with pytest.raises(BundleError, match="the graphs do not run"):
        open_model(bundle, "cpu")


def test_what_does_not_come_with_this_program_is_loaded_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    whole = Detector._load

    def load(self: Detector, provider: str) -> None:
        loaded.append(self.bundle.name)
        whole(self, provider)

    monkeypatch.setattr(Detector, "_load", load)
    bundle = read_bundle(folder)
    names = [stage.name for stage in bundle.stages]
    open_model(bundle, "cpu")
    assert loaded == names

    loaded.clear()
    monkeypatch.setattr("scanner.cascade.EMBEDDED", {"careful": bundle.stages[1].path})
    model = open_model(bundle, "cpu")
    model.score(prepared(squares(bundle)[:1], bundle))
    assert loaded == names[:1], "black is sure: nobody needs the second"
    model.score(prepared(squares(bundle), bundle))
    model.score(prepared(squares(bundle), bundle))
    assert loaded == names, "and it is loaded once"


def test_threads_that_score_at_once_share_one_second_stage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(folder)
    monkeypatch.setattr("scanner.cascade.EMBEDDED", {"careful": bundle.stages[1].path})
    model = Cascade(bundle, "cpu")
    batch = prepared(squares(bundle), bundle)
    expected = Cascade(bundle, "cpu").score(batch)
    start, seconds, wrong = threading.Barrier(4), set(), []

    def score() -> None:
        start.wait()
        for _ in range(5):
            if not np.array_equal(model.score(batch), expected):
                wrong.append(1)
            seconds.add(id(model.second()))

    threads = [threading.Thread(target=score) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(seconds) == 1
    assert model.scored == 20 * len(batch)


def test_a_cascade_in_a_cascade_is_refused(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    for entry in folder.iterdir():
        if entry != inner:
            entry.rename(inner / entry.name)
    inner.rename(folder / "first")
    shutil.copytree(folder / "first" / "second", folder / "second")
    shutil.copy(folder / "first" / "bundle.json", folder)
    shutil.copy(folder / "first" / "MODEL_CARD.md", folder)

    # What lies in the inner one is not followed, however deep that would go.
    (folder / "first" / "second" / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match="first: is a cascade itself"):
        read_bundle(folder)


def test_a_missing_stage_and_a_linked_one_are_refused(folder: Path) -> None:
    (folder / "second").rename(folder / "away")
    with pytest.raises(BundleError, match="no such bundle"):
        read_bundle(folder)
    (folder / "second").symlink_to(folder / "away")
    with pytest.raises(BundleError, match="links are refused"):
        read_bundle(folder)


def test_stages_that_see_different_squares_are_refused(folder: Path) -> None:
    spec = json.loads((folder / "second" / "bundle.json").read_text())["preprocess"]
    other = changed(folder / "second", preprocess={**spec, "resampling": "lanczos"})
    stages = json.loads((folder / "bundle.json").read_text())["stages"]
    stages[1]["digest"] = other.digest

    with pytest.raises(BundleError, match="prepare pictures differently"):
        changed(folder, stages=stages)


def test_a_changed_file_of_a_stage_is_named(folder: Path) -> None:
    with (folder / "second" / "encoder.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"second/encoder\.onnx: sha256"):
        read_bundle(folder)


def test_replacing_swaps_a_cascade_but_no_folder_with_more_in_it(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    replace_folder(other, folder)
    assert read_bundle(folder).name == "both"

    shutil.copytree(folder, other)
    (folder / "first" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="first, which is no part of a bundle"):
        replace_folder(other, folder)


def test_the_command_line_scans_explains_and_checks_with_a_cascade(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for level in (40, 128, 220):
        noise = rng.integers(-35, 36, (64, 64, 3))
        Image.fromarray(np.asarray(level + noise, np.uint8)).save(photos / f"{level}.png")
    report, sheet = tmp_path / "a.csv", tmp_path / "sheet.png"

    status = run([str(photos), "--model", str(folder), "--no-journal", "--report", str(report)])

    assert status in (0, 1)
    assert report.read_text().count(f"both@{read_bundle(folder).digest}") == 3
    capsys.readouterr()
    assert (
        run(["explain", str(photos / "128.png"), "--model", str(folder), "--out", str(sheet)]) == 0
    )
    assert ", by careful" in capsys.readouterr().out
    run(["doctor", "--model", str(folder), "--device", "cpu"])
    first, second = read_bundle(folder).stages
    said = " ".join(capsys.readouterr().out.split())
    assert f"{first.name}@{first.digest}, then careful@{second.digest}" in said


def test_the_journal_knows_scores_by_the_cascades_digest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for level in (40, 128, 220):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(photos / f"{level}.png")
    args = [str(photos), "--model", str(folder), "--journal", str(tmp_path / "j.sqlite")]

    def said() -> str:
        assert run(args) in (0, 1)
        return capsys.readouterr().out

    first = said()
    assert "Stages" in first
    assert "3 scored by tiny, 1 (33%) then by careful" in first
    assert "Stages" not in said(), "the contents are known, and nothing is scored"
    changed(folder, rescore=[0.2, 0.8])
    assert "3 scored by tiny" in said(), "another band is another model"


def test_the_embedded_cascade_is_made_of_the_other_two() -> None:
    bundle = read_bundle(EMBEDDED["cascade"])

    assert [stage.path for stage in bundle.stages] == [EMBEDDED["fast"], EMBEDDED["accurate"]]
    assert bundle.has_decoder == bundle.stages[0].has_decoder
    assert bundle.unsure is not None
    assert {"youden", "best_f1", "fpr_1pct", "fpr_0.1pct"} == set(bundle.thresholds)
    card = (bundle.path / "MODEL_CARD.md").read_text("utf-8")
    for stage in bundle.stages:
        assert f"{stage.name}@{stage.digest}" in card
    for tier, shares in bundle.metrics["rescored"].items():
        assert f"{tier}: {shares['real']:.0%} of real, {shares['fake']:.0%} of fake" in card


def test_the_samples_are_scored_by_the_stage_that_the_band_says(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "sample_images"
    found = {}
    for model in ("fast", "accurate", "cascade"):
        report = tmp_path / f"{model}.csv"
        args = [str(samples), "--model", model, "--device", "cpu", "--no-journal", "--quiet"]
        assert run([*args, "--exit-zero", "--report", str(report)]) == 0
        with report.open(encoding="utf-8", newline="") as stream:
            found[model] = {row["path"]: float(row["p_fake"]) for row in csv.DictReader(stream)}
    band = read_bundle(EMBEDDED["cascade"]).rescore
    assert band is not None
    inside = {path for path, p in found["fast"].items() if band[0] <= p < band[1]}
    assert 0 < len(inside) < len(found["fast"])
    for path, p in found["cascade"].items():
        expected = found["accurate" if path in inside else "fast"][path]
        assert p == pytest.approx(expected, abs=1e-4), path
