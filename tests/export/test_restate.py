"""`export restate` and `trainer evaluate` of a bundle: what comes after an export."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import make_data, make_run

from export.bundle import export_run
from export.cli import command
from export.restate import restate
from scanner.bundle import EMBEDDED, Bundle, read_bundle
from scanner.errors import BundleError, ImgscanError, UsageError
from trainer.commands.evaluate import evaluate as evaluate_command
from trainer.data import load_samples
from trainer.evaluate import Evaluation, evaluate
from trainer.runs import open_runs
from trainer.selection import Selection
from trainer.tiers import CLEAN, HARD

POINT = dict.fromkeys(
    ["balanced_accuracy", "recall", "specificity", "precision", "f1", "auc", "ece"], 0.5
)
RESULT = {
    "validation": {"half": POINT, "youden": POINT, "best_f1": POINT},
    "pictures": {"train": 4, "val": 4, "holdout": 0},
    "seconds": 60.0, "device": "cpu", "torch": torch.__version__,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {("real", "photos"): 7, ("fake", "gan"): 6}
    return make_data(tmp_path_factory.mktemp("data"), sources)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    return make_run(folder, data, {}, result=RESULT, views=2)


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Bundle:
    notes = tmp_path / "notes.md"
    notes.write_text("Fitted on *nothing*.\n\n## Limits\n\nAll.\n")
    return export_run(run, tmp_path / "bundle", name="tiny", notes=notes).bundle


def judged(path: Path, data: Path, **options: Any) -> Evaluation:
    runs = [(run, Selection("all", tuple(load_samples(data)))) for run in open_runs([path])]
    return evaluate(runs, [CLEAN, HARD], data="pictures", device="cpu", **options)


def test_a_bundle_is_judged_as_the_run_that_it_was_exported_from(
    run: Path, bundle: Bundle, data: Path
):
    for of_run, of_bundle in zip(
        judged(run, data).runs[0].tiers, judged(bundle.path, data).runs[0].tiers, strict=True
    ):
        np.testing.assert_allclose(of_bundle.p_fake, of_run.p_fake, atol=1e-5)
        assert of_bundle.p_fake.std() > 1e-3
        assert [e.sample for e in of_bundle.errors] == [e.sample for e in of_run.errors] != []
        for ours, theirs in zip(of_bundle.errors, of_run.errors, strict=True):
            assert np.abs(ours.original.astype(int) - theirs.original).max() <= 1
            assert np.abs(ours.reconstruction.astype(int) - theirs.reconstruction).max() <= 1
        at = {name: row["threshold"] for name, row in of_bundle.figures.items()}
        assert at == {"half": 0.5, "best_f1": 0.31, "youden": 0.46}


def test_errors_of_a_bundle_without_a_decoder_show_the_picture_alone(
    run: Path, tmp_path: Path, data: Path
):
    export_run(run, tmp_path / "bare", name="bare", decoder=False)
    errors = judged(tmp_path / "bare", data).runs[0].tiers[0].errors
    assert errors
    assert {e.reconstruction for e in errors} == {None}
    assert {e.original.shape for e in errors} == {(32, 32, 3)}


def test_a_bundles_log_odds_stay_finite_at_certainty(run: Path, tmp_path: Path, data: Path):
    export_run(run, tmp_path / "sure", name="sure")
    raw = json.loads((tmp_path / "sure" / "bundle.json").read_text())
    (tmp_path / "sure" / "bundle.json").write_text(json.dumps({**raw, "temperature": 1e-6}))
    tier = judged(tmp_path / "sure", data).runs[0].tiers[0]
    assert set(tier.p_fake.round(9)) <= {0.0, 1.0}
    assert np.isfinite(tier.logits).all()


def test_evaluate_takes_a_bundle_by_folder_and_asks_where_to_write(
    bundle: Bundle, data: Path, tmp_path: Path
):
    args = [str(bundle.path), "--data", str(data), "--bootstrap", "0", "--device", "cpu"]
    refused = CliRunner().invoke(evaluate_command, args)
    assert isinstance(refused.exception, UsageError)
    assert "--out" in str(refused.exception)

    done = CliRunner().invoke(evaluate_command, [*args, "--out", str(tmp_path / "judged")])
    assert done.exit_code == 0, done.output
    assert "does not say which pictures it was fitted on" in done.output
    found = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
    assert found["runs"]["tiny"]["bundle"] == f"tiny@{bundle.digest}"
    page = (tmp_path / "judged" / "evaluation.html").read_text("utf-8")
    assert f"bundle tiny@{bundle.digest}, split all" in page


def test_embedded_names_are_bundles_to_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert [run.name for run in open_runs([Path("fast"), Path("cascade"), Path("fast")])] == [
        "fast", "cascade", "fast-2",
    ]  # fmt: skip


def test_nothing_given_nothing_changed(bundle: Bundle, tmp_path: Path):
    for model in (bundle.path, EMBEDDED["cascade"]):
        again = restate(model, tmp_path / "again", measured={})
        former = read_bundle(model)
        assert again.digest == former.digest
        for name in ("bundle.json", *former.files):
            assert (again.path / name).read_bytes() == (former.path / name).read_bytes()


def test_figures_and_notes_take_the_place_of_the_former(bundle: Bundle, data: Path, tmp_path: Path):
    CliRunner().invoke(
        evaluate_command,
        [str(bundle.path), "--data", str(data), "--out", str(tmp_path / "judged")],
    )
    notes = tmp_path / "other.md"
    notes.write_text("Other words.\n")
    done = CliRunner().invoke(
        command,
        ["restate", str(bundle.path), "--out", str(tmp_path / "stated"), "--notes", str(notes),
         "--metrics", f"holdout={tmp_path / 'judged' / 'evaluation.json'}"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    stated = read_bundle(tmp_path / "stated")
    assert stated.digest in done.output
    assert stated.digest != bundle.digest
    assert set(stated.metrics) - set(bundle.metrics) == {"holdout"}
    card = (stated.path / "MODEL_CARD.md").read_text("utf-8")
    assert "Other words." in card
    assert "*nothing*" not in card
    assert "| real: photos | 7 |" in card
    unchanged = ("encoder.onnx", "classifier.onnx", "decoder.onnx")
    assert {stated.files[name] == bundle.files[name] for name in unchanged} == {True}
    with pytest.raises(UsageError, match="name another"):
        restate(bundle.path, tmp_path / "no", measured={"parity": notes})
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "stages",
    [[1, 2], {}, [], [{"model": ["x"], "digest": 3}] * 2, [{"model": "fast"}] * 2, None,
     [{"model": "../fast", "digest": "0"}] * 2],
)  # fmt: skip
def test_a_bundle_of_any_content_is_refused_in_one_line(stages: Any, tmp_path: Path):
    shutil.copytree(EMBEDDED["cascade"], tmp_path / "odd")
    raw = json.loads((tmp_path / "odd" / "bundle.json").read_text())
    (tmp_path / "odd" / "bundle.json").write_text(json.dumps({**raw, "stages": stages}))
    with pytest.raises(ImgscanError) as raised:
        restate(tmp_path / "odd", tmp_path / "out", measured={})
    assert str(tmp_path / "odd") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["fast", "cascade"])
def test_a_bundle_without_the_figures_of_a_card_is_refused(name: str, tmp_path: Path):
    shutil.copytree(EMBEDDED[name], tmp_path / "odd")
    raw = json.loads((tmp_path / "odd" / "bundle.json").read_text())
    for metrics in ({}, {**raw["metrics"], "left_out_points": {"clean": 1}}):
        (tmp_path / "odd" / "bundle.json").write_text(json.dumps({**raw, "metrics": metrics}))
        with pytest.raises(UsageError, match="lacks figures that a card is made of"):
            restate(tmp_path / "odd", tmp_path / "out", measured={})
    with pytest.raises(BundleError, match="no such bundle folder"):
        restate(tmp_path / "gone", tmp_path / "out", measured={})


def test_a_cascade_follows_a_restated_stage_and_no_other(
    bundle: Bundle, tmp_path: Path
):  # fmt: skip
    cascade, former = tmp_path / "cascade", tmp_path / "former"
    shutil.copytree(EMBEDDED["cascade"], cascade)
    raw = json.loads((cascade / "bundle.json").read_text())
    shutil.copytree(EMBEDDED["fast"], cascade / "first")
    shutil.copytree(EMBEDDED["fast"], former)
    raw["stages"][0]["model"] = "first"
    (cascade / "bundle.json").write_text(json.dumps(raw))
    notes = tmp_path / "notes-of-a-stage.md"
    notes.write_text("Said anew.\n")
    restate(cascade / "first", cascade / "first", measured={}, notes=notes)

    with pytest.raises(UsageError, match="--before"):
        restate(cascade, tmp_path / "out", measured={})
    restated = restate(cascade, tmp_path / "out", measured={}, before=[former])
    assert restated.stages[0].digest == read_bundle(cascade / "first").digest
    assert restated.thresholds == read_bundle(EMBEDDED["cascade"]).thresholds

    assert {file.name for file in (restated.path / "first").iterdir()} == {
        "bundle.json", *restated.stages[0].files
    }  # fmt: skip
    with pytest.raises(UsageError, match="is no cascade"):
        restate(former, tmp_path / "other", measured={}, before=[former])


@pytest.mark.parametrize(
    "change", ["temperature", "thresholds", "operating_point", "unsure", "graph", "half"]
)
def test_a_stage_that_scores_or_judges_otherwise_is_refused(change: str, tmp_path: Path):
    cascade, former = tmp_path / "cascade", tmp_path / "former"
    shutil.copytree(EMBEDDED["cascade"], cascade)
    first = shutil.copytree(EMBEDDED["fast"], cascade / "first")
    shutil.copytree(EMBEDDED["fast"], former)
    raw = json.loads((cascade / "bundle.json").read_text())
    raw["stages"][0]["model"] = "first"
    (cascade / "bundle.json").write_text(json.dumps(raw))
    stage = json.loads((first / "bundle.json").read_text())
    changed: dict[str, Any] = {
        "temperature": 2.0, "operating_point": "best_f1", "unsure": None,
        "thresholds": {**stage["thresholds"], "youden": 0.6},
    }  # fmt: skip
    if change in changed:
        stage[change] = changed[change]
    else:
        graph = onnx.load(first / "encoder.onnx")
        graph.doc_string = "another"
        name = "encoder.onnx" if change == "graph" else "encoder.fp16.onnx"
        (first / name).write_bytes(graph.SerializeToString())
        stage["files"][name] = hashlib.sha256((first / name).read_bytes()).hexdigest()
    (first / "bundle.json").write_text(json.dumps(stage))
    with pytest.raises(UsageError, match="scores otherwise"):
        restate(cascade, tmp_path / "out", measured={}, before=[former])
    assert not (tmp_path / "out").exists()


def test_notes_with_a_heading_like_our_own_stay_whole(bundle: Bundle, tmp_path: Path):
    notes = tmp_path / "notes.md"
    notes.write_text("Intro.\n\n## Model\n\nMine.\n\n## Limits\n\nThose that matter.\n")
    one = restate(bundle.path, tmp_path / "one", measured={}, notes=notes)
    two = restate(one.path, tmp_path / "two", measured={})
    assert two.digest == one.digest
    assert "Those that matter." in (two.path / "MODEL_CARD.md").read_text("utf-8")


def test_a_cascades_card_is_read_to_the_byte(tmp_path: Path):
    folder = shutil.copytree(EMBEDDED["cascade"], tmp_path / "cascade")
    card = folder / "MODEL_CARD.md"
    card.write_bytes(card.read_bytes().replace(b"\n", b"\r\n"))
    raw = json.loads((folder / "bundle.json").read_text())
    raw["files"]["MODEL_CARD.md"] = hashlib.sha256(card.read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(raw))
    assert restate(folder, tmp_path / "out", measured={}).name == "cascade"


def test_another_bundles_figures_are_refused(bundle: Bundle, run: Path, data: Path, tmp_path: Path):
    other = export_run(run, tmp_path / "other", name="other").bundle
    CliRunner().invoke(
        evaluate_command, [str(other.path), "--data", str(data), "--out", str(tmp_path / "judged")]
    )
    figures = {"holdout": tmp_path / "judged" / "evaluation.json"}
    with pytest.raises(UsageError, match=f"is of other@{other.digest}, and this is tiny@"):
        restate(bundle.path, tmp_path / "out", measured=figures)
    assert restate(other.path, tmp_path / "out", measured=figures).metrics["holdout"]


@pytest.mark.parametrize(
    "text",
    ['{"runs": {"a": {}}}', '{"runs": {"a": 1}}', '{"left_out": 3, "summary": {}}',
     '{"kind": "evaluation"}', "[" * 100_000, "[]", "{"],
)  # fmt: skip
def test_figures_that_are_none_are_refused_by_their_own_name(
    text: str, bundle: Bundle, tmp_path: Path
):
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(UsageError) as raised:
        restate(bundle.path, tmp_path / "out", measured={"holdout": tmp_path / "figures.json"})
    assert str(raised.value).startswith(str(tmp_path / "figures.json"))
    assert "\n" not in str(raised.value)


def test_a_bundle_json_nested_too_deeply_is_one_line(tmp_path: Path):
    shutil.copytree(EMBEDDED["cascade"], tmp_path / "odd")
    (tmp_path / "odd" / "bundle.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="nested too deeply"):
        restate(tmp_path / "odd", tmp_path / "out", measured={})


@pytest.mark.parametrize("config", ["x", [1], {"batch_size": "many"}, {"of_the_future": 1}])
def test_a_bundle_of_another_versions_fit_can_be_judged(config: Any, bundle: Bundle, data: Path):
    raw = json.loads((bundle.path / "bundle.json").read_text())
    raw["training"]["config"] = config
    (bundle.path / "bundle.json").write_text(json.dumps(raw))
    assert judged(bundle.path, data).runs[0].tiers[0].p_fake.std() > 1e-3


def test_beside_a_run_a_bundle_is_judged_on_what_the_run_is(
    bundle: Bundle, run: Path, data: Path, tmp_path: Path
):
    raw = json.loads((bundle.path / "bundle.json").read_text())
    raw["training"]["config"]["holdout"] = "what its maker called it"
    (bundle.path / "bundle.json").write_text(json.dumps(raw))
    done = CliRunner().invoke(
        evaluate_command,
        [str(bundle.path), str(run), "--data", str(data), "--out", str(tmp_path / "judged")],
    )
    assert done.exit_code == 0, done.output
    runs = json.loads((tmp_path / "judged" / "evaluation.json").read_text())["runs"]
    counts = {row["tiers"]["clean"]["thresholds"]["half"]["count"] for row in runs.values()}
    assert len(runs) == 2
    assert len(counts) == 1
    assert "do not compare" not in done.output


@pytest.mark.parametrize("out", [".", "..", ""])
def test_an_evaluation_does_not_take_the_place_of_the_working_directory(
    out: str, bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    done = CliRunner().invoke(
        evaluate_command, [str(bundle.path), "--data", str(data), "--out", out]
    )
    assert isinstance(done.exception, UsageError)
    assert "working directory" in str(done.exception)
