"""From the command line to the folder."""

from __future__ import annotations

import csv
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import make_data, make_run

from scanner.errors import UsageError
from trainer import cli, edge, evaluation_folder
from trainer.evaluation_folder import check_target, file_stems

SOURCES = {("real", "a&b"): 6, ("fake", "<i>gan</i>"): 6, ("fake", 'flow"s'): 6}
ROLES = {"train": "train", "val": "val", "test": "holdout"}
MARKUP = "<img src=x onerror=alert(1)>&'\" $x_1$"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), SOURCES, ("train", "val", "test"))


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    return make_run(tmp_path / "first", data, ROLES)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No curves drawn: they take most of the time, and half the tests look elsewhere."""
    monkeypatch.setattr(evaluation_folder, "plots_of", lambda title, tier: {})


def trainer(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(
        sys, "argv", ["trainer", "evaluate", "--device", "cpu", *map(str, arguments)]
    )
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def strict_json(path: Path):
    def refuse(name: str):
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_one_run_leaves_json_page_and_figures(run: Path, data: Path, monkeypatch, capsys):
    assert trainer(monkeypatch, run, "--data", data, "--tier", "clean", "--tier", "hard") == 0
    out = run / "evaluation"
    content = strict_json(out / "evaluation.json")
    assert {p.name for p in out.iterdir()} == {"evaluation.json", *content["files"]}
    of_run = content["runs"]["first"]
    assert (of_run["split"], of_run["warnings"]) == ("holdout", [])
    assert set(of_run["tiers"]) == {"clean", "hard"}
    thresholds = of_run["tiers"]["clean"]["thresholds"]
    assert set(thresholds) == {"half", "best_f1", "youden"}
    at = thresholds["youden"]
    assert at["count"] == 6
    assert [s["source"] for s in at["sources"]] == ["a&b", "<i>gan</i>", 'flow"s']
    for kind in ("confusion", "roc", "precision-recall", "reliability", "histogram"):
        with Image.open(out / f"first-clean-{kind}.png") as image:
            assert min(image.size) > 300
    printed = capsys.readouterr().out
    assert (out / "first-clean-report.txt").read_text() in printed
    assert f"{at['auc']:.3f}" in printed
    with (out / "first-hard-scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert {row["source"] for row in rows} == {"a&b", "<i>gan</i>", 'flow"s'}


def test_the_page_loads_nothing_and_escapes_names(tmp_path: Path, data: Path, monkeypatch, capsys):
    runs = [make_run(tmp_path / name, data, ROLES, seed=i) for i, name in enumerate(("a", "b"))]
    runs[1] = runs[1].rename(tmp_path / MARKUP)
    out = tmp_path / "out"
    assert trainer(monkeypatch, *runs, "--data", data, "--out", out) == 0
    text = (out / "evaluation.html").read_text("utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "i", "b")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset"):
                assert value.startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import|https?:", text)
    seen = "".join(page.text)
    assert MARKUP in seen
    assert "<i>gan</i>" in seen
    images = sum(tag == "img" for tag, _ in page.tags)
    assert images == len(list(out.glob("*.png"))) > 10
    assert (out / "roc.clean.png").is_file()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", path.name) for path in out.iterdir())


@pytest.mark.usefixtures("plain")
def test_thresholds_fitted_on_these_pictures_are_told_everywhere(
    tmp_path: Path, data: Path, monkeypatch, capsys
):
    run = make_run(tmp_path / "r", data, {"train": "train", "val": "val"}, holdout="none")
    assert trainer(monkeypatch, run, "--data", data, "--quiet") == 0
    warning = "thresholds and temperature were fitted on these pictures"
    content = strict_json(run / "evaluation/evaluation.json")
    assert content["runs"]["r"]["split"] == "val"
    assert warning in content["runs"]["r"]["warnings"][0]
    assert warning in (run / "evaluation/evaluation.html").read_text("utf-8")
    assert warning in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
def test_a_crash_leaves_the_old_evaluation(run: Path, data: Path, monkeypatch, capsys):
    assert trainer(monkeypatch, run, "--data", data) == 0
    before = {p.name: p.read_bytes() for p in (run / "evaluation").iterdir()}
    beside = {p.name for p in run.iterdir()}

    def crash(*_: object) -> str:
        raise RuntimeError("power cut")

    monkeypatch.setattr(evaluation_folder, "page", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(monkeypatch, run, "--data", data, "--tier", "hard")
    assert {p.name: p.read_bytes() for p in (run / "evaluation").iterdir()} == before
    assert {p.name for p in run.iterdir()} == beside


@pytest.mark.usefixtures("plain")
def test_a_failure_to_put_the_new_one_in_place_restores_the_old(
    run: Path, data: Path, monkeypatch, capsys
):
    assert trainer(monkeypatch, run, "--data", data) == 0
    before = {p.name: p.read_bytes() for p in (run / "evaluation").iterdir()}
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise PermissionError(13, "in use")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        assert trainer(patched, run, "--data", data, "--tier", "hard") == edge.USAGE_ERROR
    assert {p.name: p.read_bytes() for p in (run / "evaluation").iterdir()} == before
    assert not list(run.glob(".evaluation*"))


@pytest.mark.usefixtures("plain")
def test_an_evaluation_replaces_the_one_before_whole(run: Path, data: Path, monkeypatch, capsys):
    assert trainer(monkeypatch, run, "--data", data, "--tier", "hard") == 0
    assert trainer(monkeypatch, run, "--data", data) == 0
    assert not list((run / "evaluation").glob("*hard*"))


@pytest.mark.usefixtures("plain")
def test_a_folder_with_anything_else_in_it_is_not_replaced(run: Path, data: Path, monkeypatch):
    with pytest.raises(UsageError, match=r"best\.pt"):
        check_target(run)
    assert trainer(monkeypatch, run, "--data", data, "--out", run) == edge.USAGE_ERROR
    assert (run / "best.pt").is_file()
    assert trainer(monkeypatch, run, "--data", data) == 0
    (run / "evaluation/notes.txt").write_text("mine")
    assert trainer(monkeypatch, run, "--data", data) == edge.USAGE_ERROR
    assert (run / "evaluation/notes.txt").read_text() == "mine"


def test_several_runs_need_a_folder_of_their_own(run: Path, data: Path, monkeypatch, capsys):
    assert trainer(monkeypatch, run, run, "--data", data) == edge.USAGE_ERROR
    assert "--out" in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
def test_an_unreadable_picture_is_left_out_and_named(
    tmp_path: Path, run: Path, monkeypatch, capsys
):
    data = make_data(tmp_path / "other", {("real", "x"): 4, ("fake", "y"): 4}, ("",))
    (data / "real/x/02.png").write_bytes(b"no picture")
    assert trainer(monkeypatch, run, "--data", data) == 0
    content = strict_json(run / "evaluation/evaluation.json")
    assert content["runs"]["first"]["tiers"]["clean"]["thresholds"]["half"]["count"] == 7
    assert content["runs"]["first"]["split"] == "all"
    assert "real/x/02.png" in content["warnings"][0]


def test_one_class_leaves_undefined_figures_null_and_no_curves(
    tmp_path: Path, run: Path, monkeypatch, capsys
):
    data = make_data(tmp_path / "other", {("real", "x"): 4}, ("night",))
    rows = (data / "manifest.csv").read_text() + "fake.png,fake,y,day,g\n"
    (data / "manifest.csv").write_text(rows)
    Image.new("RGB", (40, 40)).save(data / "fake.png")
    assert trainer(monkeypatch, run, "--data", data, "--split", "night") == 0
    content = strict_json(run / "evaluation/evaluation.json")
    half = content["runs"]["first"]["tiers"]["clean"]["thresholds"]["half"]
    assert (half["count"], half["auc"], half["balanced_accuracy"]) == (4, None, None)
    made = {p.name for p in (run / "evaluation").glob("*.png")} - {"first-clean-misclassified.png"}
    assert made == {f"first-clean-{kind}.png" for kind in ("confusion", "reliability", "histogram")}


@pytest.mark.usefixtures("plain")
def test_a_run_without_decoder_shows_originals_alone(
    tmp_path: Path, data: Path, monkeypatch, capsys
):
    settings = {"decoder": "none", "reconstruction": "none"}
    thresholds = {"thresholds": {"best_f1": 0.0, "youden": 0.0}}  # all are called fake
    heights = []
    for name, more in (("bare", settings), ("whole", {})):
        run = make_run(tmp_path / name, data, ROLES, result=thresholds, **more)
        assert trainer(monkeypatch, run, "--data", data) == 0
        with Image.open(run / f"evaluation/{name}-clean-misclassified.png") as sheet:
            heights.append(sheet.height)
        content = strict_json(run / "evaluation/evaluation.json")
        tier = content["runs"][name]["tiers"]["clean"]
        assert len(tier["misclassified"]) == 2
        assert (tier["reconstruction_error"] is None) == (name == "bare")
    assert heights[0] < heights[1]


def test_no_errors_no_sheet(tmp_path: Path, data: Path, monkeypatch, capsys):
    run = make_run(tmp_path / "r", data, ROLES)
    assert trainer(monkeypatch, run, "--data", data, "--max-misclassified", 0) == 0
    assert not (run / "evaluation/r-clean-misclassified.png").exists()


def test_file_names_are_safe_and_told_apart():
    assert file_stems(["a", "A", "a b", "a/b", "..", ".hidden"]) == [
        "a", "A-2", "a_b", "a_b-2", "_", "_hidden"
    ]  # fmt: skip
