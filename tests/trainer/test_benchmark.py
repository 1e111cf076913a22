"""A family that is left out is left out whole, and a fold is that of its settings and data."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer import benchmark as module
from trainer.config import FitConfig
from trainer.data import Sample, Splits, load_samples
from trainer.encoded import EncodedPictures
from trainer.families import few_of_each_group
from trainer.models import AutoencoderClassifier

pytest.importorskip("timm")

FROZEN = FitConfig(
    **{**CONFIG, "encoder": "efficientnet-lite0", "unfrozen": 0, "cached_draws": 1, "epochs": 1,
       "decoder": "none", "reconstruction": "none", "augment": "none", "head": (4,),
       "val_fraction": 0.3, "holdout": "test"}
)  # fmt: skip
SOURCES = {("real", "known"): 8, ("real", "a/b"): 8, ("fake", "a_b"): 8, ("fake", "d"): 8}


class _Stop(Exception):  # noqa: N818 - ends a benchmark where a test has seen enough
    pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", SOURCES, split_of=("train", "train", "train", "test"))


def _run(
    config: FitConfig, samples: list[Sample], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Splits, Path]]:
    """The parts and folder of each fold that is fitted, in order: with all, then by family."""
    fitted: list[tuple[Splits, Path]] = []
    original = module.fit

    def fit(config: Any, splits: Splits, out: Path, **rest: Any) -> Any:
        fitted.append((splits, out))
        return original(config, splits, out, **rest)

    def stop(*_: Any, **__: Any) -> Any:
        raise _Stop

    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "summary", stop)  # before the folds are deleted
    torch.manual_seed(0)  # random weights are part of the cache's name
    with pytest.raises(_Stop):
        module.benchmark(
            config, samples, folder / "out.json", merged={}, cache=folder / "cache", device="cpu"
        )
    monkeypatch.setattr(module, "fit", original)
    return fitted


def test_a_fold_is_found_again_by_settings_and_pictures_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    samples = load_samples(data)
    fitted = _run(FROZEN, samples, tmp_path, monkeypatch)
    assert len({out for _, out in fitted}) == 1 + len(SOURCES), "no two share a folder"
    assert _run(FROZEN, samples, tmp_path, monkeypatch) == []
    assert len(_run(replace(FROZEN, dropout=0.3), samples, tmp_path, monkeypatch)) == 5


def test_pictures_that_share_a_group_with_a_left_out_one_are_not_learnt(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    samples = load_samples(data)
    first = next(s for s in samples if s.source == "a_b" and s.split == "train")
    other = next(s for s in samples if s.source == "d" and s.split == "train")
    samples[samples.index(other)] = replace(other, group=first.group)
    fitted = _run(FROZEN, samples, tmp_path, monkeypatch)
    without = {
        source: {s.key for s in (*parts.train, *parts.val)}
        for (parts, _), source in zip(fitted[1:], sorted({s.source for s in samples}), strict=True)
    }
    assert other.key in without["known"]
    assert other.key not in without["a_b"]
    assert first.key not in without["d"]


def test_a_replaced_picture_is_encoded_anew(data: Path, tmp_path: Path):
    """Also where its size is that of the one before."""
    samples, device = load_samples(data), torch.device("cpu")
    model = AutoencoderClassifier(FROZEN)  # one for all, for its weights are random
    before = EncodedPictures(tmp_path, model, samples, FROZEN, device).folder
    assert EncodedPictures(tmp_path, model, samples, FROZEN, device).folder == before
    content = samples[0].path.read_bytes()
    samples[0].path.write_bytes(content[:-1] + b"!")
    assert EncodedPictures(tmp_path, model, samples, FROZEN, device).folder != before


def test_a_family_of_all_sources_of_a_class_is_refused_by_its_own_name(data: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"--family all takes in all fake sources \(a_b, d\)"):
        module.benchmark(
            FROZEN, load_samples(data), tmp_path / "out.json", merged={"all": ["a_b", "d"]},
            cache=tmp_path / "cache",
        )  # fmt: skip


def test_a_class_of_one_source_is_refused_before_anything_is_encoded(tmp_path: Path):
    sources = {("real", "one"): 8, ("fake", "a"): 8, ("fake", "b"): 8}
    data = make_data(tmp_path / "data", sources, split_of=("train", "train", "train", "test"))
    with pytest.raises(UsageError, match="all real pictures are of one source, 'one'"):
        module.benchmark(
            FROZEN, load_samples(data), tmp_path / "out.json", merged={}, cache=tmp_path / "cache"
        )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("sources", "splits", "options", "said"),
    [
        ({"one": 1, "a": 0, "b": 0}, [""], [], ["all real pictures are of one source", "'one'"]),
        ({"a": 1, "b": 1, "c": 0, "d": 0}, [""], [],
         ["'test'", "has no splits", "test/real/SOURCE", "column split"]),
        ({"a": 1, "b": 1, "c": 0, "d": 0}, ["train", "val"], [],
         ["'test'", "the data has train, val: name one with --holdout"]),
        ({"a": 1, "b": 1, "c": 0, "d": 0}, ["train", "val"], ["--model", "fast"],
         ["no source", "on the data that it was made with", "trainer evaluate fast"]),
    ],
)  # fmt: skip
def test_what_the_list_of_files_tells_is_told_before_anything_slow(
    tmp_path: Path, sources: dict[str, int], splits: list[str], options: list[str], said: list[str]
):
    labelled = {(("fake", "real")[real], name): 4 for name, real in sources.items()}
    data = make_data(tmp_path / "data", labelled, split_of=splits)
    code = "import sys; from trainer.commands.benchmark import benchmark as b\n"
    code += "try: b.main(sys.argv[1:], standalone_mode=False)\n"
    code += "except Exception as e: print(type(e).__name__, e)\n"
    code += "print('slow' if {'torch', 'sklearn'} & set(sys.modules) else 'quick')"
    names = ["--data", str(data), "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "o.json")]
    done = subprocess.run(
        [sys.executable, "-c", code, *names, *options],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    line, speed = done.stdout.splitlines()
    assert line.startswith(f"UsageError {data}: ")
    assert not [text for text in said if text not in line]
    assert speed == "quick"
    assert not (tmp_path / "c").exists()


def test_a_held_out_split_of_one_class_is_refused(data: Path, tmp_path: Path):
    samples = [s for s in load_samples(data) if s.split != "test" or s.label]
    with pytest.raises(UsageError, match="'test' lacks a class; name another with --holdout"):
        module.benchmark(FROZEN, samples, tmp_path / "o.json", merged={}, cache=tmp_path / "cache")


def test_a_family_that_is_held_out_whole_is_refused(data: Path, tmp_path: Path):
    samples = [s for s in load_samples(data) if s.split == "test" or s.source != "d"]
    with pytest.raises(UsageError, match="all pictures of d are in the split 'test'"):
        module.benchmark(FROZEN, samples, tmp_path / "o.json", merged={}, cache=tmp_path / "cache")


def test_left_out_pictures_are_of_no_held_out_split_and_few_of_a_group(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What `trainer calibrate` learns from has no part in the held-out figures."""
    monkeypatch.setattr(module, "GROUP_LIMIT", 1)
    samples = load_samples(data)
    of_d = [s for s in samples if s.source == "d" and s.split == "train"]
    for i, sample in enumerate(of_d):
        samples[samples.index(sample)] = replace(sample, group=f"series {i % 3}")
    held = {s.key for s in samples if s.split == "test"}
    by_key = {s.key: s for s in samples}
    result = module.benchmark(
        FROZEN, samples, tmp_path / "out.json", merged={}, cache=tmp_path / "cache", device="cpu"
    )
    for row in result["left_out"]:
        assert not held & set(row["keys"])
        assert row["groups"] == tuple(by_key[key].group for key in row["keys"])
        assert len(row["keys"]) == (3 if row["family"] == "d" else 6)
        fake = row["label"] == "fake"
        for point, share in row["accuracy"].items():
            right = [(logit >= row["cuts"][point]) == fake for logit in row["logits"]]
            assert np.mean(right) == pytest.approx(share)


@pytest.mark.parametrize("most", [1, 3])
def test_of_each_group_the_first_few_are_kept(data: Path, most: int):
    samples = [replace(s, group=s.source) for s in load_samples(data)]
    kept = few_of_each_group(samples, most)
    assert kept == [
        s for s in samples if [x for x in samples if x.group == s.group].index(s) < most
    ]
