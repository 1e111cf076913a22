"""An encoder that learns from another: what it says afterwards, and what it must not have seen."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import CONFIG, make_data
from torch import Tensor, nn

from scanner.errors import UsageError
from trainer import benchmark as benchmark_module
from trainer import checkpoint, distil
from trainer.commands.fit import fit as fit_command
from trainer.config import FitConfig
from trainer.data import Sample, Splits, load_samples, split_samples
from trainer.distil import Lessons, teacher_config
from trainer.encoded import EncodedPictures
from trainer.fit import EpochReport, fit
from trainer.models import AutoencoderClassifier

pytest.importorskip("timm")

TAUGHT = FitConfig(
    **{**CONFIG, "encoder": "efficientnet-lite0", "unfrozen": 0, "epochs": 2, "decoder": "none",
       "reconstruction": "none", "augment": "uncropped", "head": (4,), "cached_draws": 2,
       "teacher": "tiny-teacher", "taught_epochs": 12, "taught_directions": 8,
       "val_fraction": 0.3}
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset without downloads: the same kind of encoder, with random weights of its own."""
    monkeypatch.setattr(distil, "load_config", _tiny_teacher)


def _tiny_teacher(preset: str, overrides: Any) -> FitConfig:
    assert preset == "tiny-teacher"
    return replace(TAUGHT, teacher="", preset=preset, **overrides)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(
        tmp_path_factory.mktemp("data"),
        {("real", "a"): 12, ("real", "b"): 12, ("fake", "c"): 12, ("fake", "d"): 12},
        split_of=("train", "train", "train", "test"),
    )


@pytest.fixture(scope="module")
def splits(data: Path) -> Splits:
    return split_samples(load_samples(data), val_fraction=0.25, seed=0, holdout="test")


def _lessons(root: Path, splits: Splits, config: FitConfig = TAUGHT) -> Lessons:
    torch.manual_seed(config.seed)
    samples = sorted((*splits.train, *splits.val), key=lambda s: s.key)
    return Lessons(root, AutoencoderClassifier(config), samples, config, CPU)


def _likeness(one: Tensor, other: Tensor) -> float:
    """Linear centred kernel alignment (Kornblith et al., 2019), 0 to 1."""
    a, b = ((x - x.mean(0)) / (x.std(0) + 1e-3) for x in (one, other))
    return float((a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm()))


def test_a_taught_encoder_says_what_the_teacher_says(splits: Splits, tmp_path: Path):
    lessons = _lessons(tmp_path, splits)
    model = AutoencoderClassifier(TAUGHT)
    model.encoder.load_state_dict(lessons.front.model.encoder.state_dict())
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    then, now = distil.distil(model, TAUGHT, splits.train, lessons.front, lessons.teacher)
    assert now < 0.8 * then
    wanted = lessons.teacher.features("lottery-0", splits.train, None)
    untaught = lessons.front.features("lottery-0", splits.train, lessons.front.model)
    taught = lessons.front.features("lottery-0", splits.train, model)
    assert _likeness(taught, wanted) > _likeness(untaught, wanted) + 0.02
    after = model.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("net.6.", "net.7.")) for name in moved)
    assert not any("running" in name or "tracked" in name for name in moved)


def test_labels_teach_nothing(splits: Splits, tmp_path: Path):
    """But by way of `balance`, which decides how often a picture is looked at."""
    found = []
    for labels in ("kept", "turned"):
        model = AutoencoderClassifier(TAUGHT)
        lessons = _lessons(tmp_path, splits)
        model.encoder.load_state_dict(lessons.front.model.encoder.state_dict())
        samples = [replace(s, label=1 - s.label) if labels == "turned" else s for s in splits.train]
        distil.distil(model, TAUGHT, samples, lessons.front, lessons.teacher)
        found.append(model.encoder.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_an_encoder_that_was_taught_is_found_again(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taught: list[int] = []
    original = distil.distil

    def counting(model: Any, config: Any, samples: Any, *rest: Any) -> Any:
        taught.append(len(samples))
        return original(model, config, samples, *rest)

    monkeypatch.setattr(distil, "distil", counting)
    states = []
    for config, part in (
        (TAUGHT, splits.train), (TAUGHT, splits.train), (TAUGHT, splits.train[1:]),
        (replace(TAUGHT, taught_epochs=1), splits.train),
    ):  # fmt: skip
        lessons = _lessons(tmp_path, splits, config)
        torch.manual_seed(config.seed)
        model = AutoencoderClassifier(config)
        lessons.teach(model, part)
        states.append(model.encoder.state_dict())
    count = len(splits.train)
    assert taught == [count, count - 1, count]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_features_of_a_taught_encoder_come_out_of_its_front(splits: Splits, tmp_path: Path):
    lessons = _lessons(tmp_path, splits)
    model = AutoencoderClassifier(TAUGHT)
    model.encoder.load_state_dict(lessons.front.model.encoder.state_dict())
    lessons.teach(model, splits.train)
    samples = lessons.front.samples
    by_front = EncodedPictures(
        tmp_path / "a", model, samples, TAUGHT, CPU, front=lessons.front
    ).features("clean", samples, None)
    by_pixels = EncodedPictures(tmp_path / "b", model, samples, TAUGHT, CPU).features(
        "clean", samples, None
    )
    # The map that enters is kept in half precision.
    torch.testing.assert_close(by_front, by_pixels, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("cache_left", [True, False])
def test_a_fit_with_a_teacher_that_is_killed_ends_as_if_it_had_not_been(
    splits: Splits, tmp_path: Path, cache_left: bool
):
    class Killed(Exception):  # noqa: N818 - stands for a signal
        pass

    def kill(report: EpochReport) -> None:
        raise Killed

    whole = fit(TAUGHT, splits, tmp_path / "whole", cache=tmp_path / "cache")
    with pytest.raises(Killed):
        fit(TAUGHT, splits, tmp_path / "killed", cache=tmp_path / "cache", on_epoch=kill)
    cache = tmp_path / ("cache" if cache_left else "another")
    resumed = fit(TAUGHT, splits, tmp_path / "killed", cache=cache, resume=True)
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    untaught = fit(replace(TAUGHT, teacher=""), splits, tmp_path / "untaught")
    assert untaught["validation"] != whole["validation"]
    model = checkpoint.load_run(tmp_path / "whole")[0]
    state = checkpoint.load(next((tmp_path / "cache").glob("taught-*.pt")))["model"]
    own = model.encoder.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in state)


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_taught(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fit(replace(TAUGHT, epochs=1), splits, tmp_path / "run", cache=tmp_path / "cache")
    monkeypatch.setattr(Lessons, "teach", lambda *_: pytest.fail("was taught"))
    with pytest.raises(UsageError, match="holds a run already"):
        fit(TAUGHT, splits, tmp_path / "run", cache=tmp_path / "other")


def test_no_fold_of_a_benchmark_was_taught_by_the_family_it_leaves_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taught: list[set[str]] = []
    seen: dict[str, set[str]] = {}
    original, of_fold = Lessons.teach, benchmark_module._fold

    def teach(self: Lessons, model: AutoencoderClassifier, samples: list[Sample]) -> None:
        original(self, model, samples)
        taught.append({s.source for s in samples})
        marks[id(model)] = taught[-1]
        kept.append(model)

    def fold(config: Any, splits: Any, work: Any, family: str, encoded: Any, device: Any) -> Any:
        seen[family] = marks[id(encoded.model)]
        found = of_fold(config, splits, work, family, encoded, device)
        own, state = found.model.encoder.state_dict(), encoded.model.encoder.state_dict()
        assert all(torch.equal(own[name], state[name]) for name in own)
        return found

    marks: dict[int, set[str]] = {}
    kept: list[nn.Module] = []  # so that no number is given twice
    monkeypatch.setattr(Lessons, "teach", teach)
    monkeypatch.setattr(benchmark_module, "_fold", fold)
    torch.manual_seed(0)
    config = replace(TAUGHT, taught_epochs=1, epochs=1, holdout="test")
    result = benchmark_module.benchmark(
        config, load_samples(data), tmp_path / "out.json", merged={}, cache=tmp_path / "cache",
        device="cpu",
    )  # fmt: skip
    assert seen == {
        "": {"a", "b", "c", "d"}, "a": {"b", "d"}, "c": {"b", "d"}, "b": {"a", "c"},
        "d": {"a", "c"},
    }  # fmt: skip
    assert len(taught) == 3
    assert result["config"]["teacher"] == "tiny-teacher"


def test_a_teacher_looks_at_the_same_square(monkeypatch: pytest.MonkeyPatch):
    assert teacher_config(replace(TAUGHT, seed=3)).seed == 3
    with pytest.raises(UsageError, match="another way"):
        teacher_config(_with_teacher(monkeypatch, size=64))
    with pytest.raises(UsageError, match="not frozen"):
        teacher_config(_with_teacher(monkeypatch, unfrozen=1, cached_draws=0))


def _with_teacher(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> FitConfig:
    monkeypatch.setattr(
        distil,
        "load_config",
        lambda name, same: replace(_tiny_teacher(name, same), **settings),
    )
    return TAUGHT


@pytest.mark.parametrize("change", [{"unfrozen": 1}, {"cached_draws": 0}, {"encoder": "resnet18"}])
def test_a_teacher_is_refused_where_it_could_not_teach(change: dict[str, Any]):
    with pytest.raises(UsageError, match="teacher teaches"):
        replace(TAUGHT, **change)


def test_no_more_directions_are_taken_than_pictures_can_tell(splits: Splits, tmp_path: Path):
    lessons = _lessons(tmp_path, splits)
    few = splits.train[:9]
    targets = distil._targets(lessons.teacher, few, 100)
    assert targets.shape == (9, 4)
    assert np.isfinite(targets.numpy()).all()


def test_unlabelled_pictures_are_taught_and_no_more(data: Path, tmp_path: Path):
    extra = tmp_path / "extra"
    for folder in ("one", "two"):
        shutil.copytree(data / "real" / "b", extra / folder)
    (extra / "two" / "00.png").write_bytes(b"no picture")
    args = ["--data", str(data), "--preset", str(_preset(tmp_path)), "--workers", "0", "--quiet"]
    plain = CliRunner().invoke(fit_command, [*args, "--out", str(tmp_path / "plain")])
    assert plain.exit_code == 0, plain.output
    more = [*args, "--unlabelled", str(extra), "--out", str(tmp_path / "more")]
    done = CliRunner().invoke(fit_command, more)
    assert done.exit_code == 0, done.output

    found = {name: json.loads((tmp_path / name / "result.json").read_text())["pictures"]
             for name in ("plain", "more")}  # fmt: skip
    assert found["more"] == {**found["plain"], "unlabelled": 23}
    rows = list(csv.DictReader((tmp_path / "more" / "splits.csv").open()))
    assert Counter(row["label"] for row in rows if row["split"] == "unlabelled") == {"-1": 23}
    one, other = (checkpoint.load_run(tmp_path / name)[0].encoder.state_dict()
                  for name in ("plain", "more"))  # fmt: skip
    moved = {name for name in one if not torch.equal(one[name], other[name])}
    assert moved
    assert all(name.startswith(("net.6.", "net.7.")) for name in moved)

    again = CliRunner().invoke(fit_command, [*more, "--resume"])
    assert again.exit_code == 0, again.output
    without = CliRunner().invoke(fit_command, [*args, "--out", str(tmp_path / "more"), "--resume"])
    assert "data has changed" in str(without.exception)


def test_a_dry_run_says_what_it_leaves_out(data: Path, tmp_path: Path):
    done = CliRunner().invoke(
        fit_command,
        ["--data", str(data), "--preset", str(_preset(tmp_path)), "--workers", "0",
         "--out", str(tmp_path / "run"), "--dry-run"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "not measured     what tiny-teacher says, and the lessons by it" in done.output
    assert not list((tmp_path / "run").glob("*"))


@pytest.mark.parametrize(
    ("folder", "settings", "said"),
    [("extra", ["teacher="], "has no teacher"), ("gone", [], "no such folder"),
     ("empty", [], "no pictures found")],
)  # fmt: skip
def test_unlabelled_pictures_want_a_teacher_and_to_be_there(
    folder: str, settings: list[str], said: str, data: Path, tmp_path: Path
):
    (tmp_path / "empty").mkdir()
    shutil.copytree(data / "real" / "b", tmp_path / "extra")
    done = CliRunner().invoke(
        fit_command,
        ["--data", str(data), "--preset", str(_preset(tmp_path)), "--out", str(tmp_path / "run"),
         "--unlabelled", str(tmp_path / folder), *(f"--set={s}" for s in settings)],
    )  # fmt: skip
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    assert not (tmp_path / "run").exists()


def _preset(folder: Path) -> Path:
    """TAUGHT as a file."""
    changed = {
        name: value for name, value in TAUGHT.to_dict().items()
        if value != getattr(FitConfig(preset=""), name) and name != "preset"
    }  # fmt: skip
    path = folder / "taught.toml"
    path.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in changed.items()))
    return path
