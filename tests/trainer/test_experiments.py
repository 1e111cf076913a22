"""What the experiments of `benchmarks` take for granted: nothing of a left-out family leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import CONFIG, make_data
from torch import nn

from benchmarks.changed import VIEWS, WAYS, ChangedEncodings
from benchmarks.fine_tune import LowRank, folds
from benchmarks.folds import Ground, judge, standard_fit
from benchmarks.head_fits import HeadFit
from trainer.config import FitConfig
from trainer.data import load_samples
from trainer.models import AutoencoderClassifier

pytest.importorskip("timm")

FROZEN = FitConfig(
    **{**CONFIG, "encoder": "efficientnet-lite0", "encoder_weights": "none", "unfrozen": 0,
       "cached_draws": 2, "decoder": "none", "reconstruction": "none", "augment": "uncropped"}
)  # fmt: skip
SOURCES = {
    ("real", "a"): 8, ("real", "b"): 8, ("real", "c"): 8,
    ("fake", "d"): 8, ("fake", "e"): 8, ("fake", "f"): 8,
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", SOURCES, split_of=("train", "train", "train", "test"))


def _ground(data: Path) -> Ground:
    samples = sorted(load_samples(data), key=lambda s: s.key)
    train = [s for s in samples if s.split == "train"]
    held = [s for s in samples if s.split == "test"]
    return Ground(samples, {s.source: s.source for s in samples}, train, held, 0)


def _encodings(data: Path, ground: Ground, folder: Path) -> ChangedEncodings:
    model = AutoencoderClassifier(FROZEN)
    config = replace(FROZEN, workers=0)
    return ChangedEncodings(folder, model, ground.samples, config, torch.device("cpu"))


def test_cut_mix_takes_its_part_from_the_same_source_and_split(data, tmp_path, monkeypatch):
    ground = _ground(data)
    pictures = _encodings(data, ground, tmp_path)._pictures("cutmix+lottery-0")
    taken: list[tuple[int, int]] = []
    original = type(pictures)._image

    def watched(self, index):
        taken.append(index)
        return original(self, index)

    monkeypatch.setattr(type(pictures), "_image", watched)
    for index, sample in enumerate(ground.samples):
        taken.clear()
        pictures[index]
        assert len(taken) == 2
        for other in taken:
            assert ground.samples[other].source == sample.source
            assert ground.samples[other].split == sample.split


def test_a_variant_is_the_same_each_time_and_differs_from_the_plain_one(data, tmp_path):
    ground = _ground(data)
    kept = _encodings(data, ground, tmp_path)
    for plain, variant in (("clean", "flip@clean"), ("lottery-1", "noise+lottery-1")):
        one, other = (kept._pictures(variant)[0][0] for _ in range(2))
        torch.testing.assert_close(one, other)
        assert not torch.equal(one, kept._pictures(plain)[0][0])


@pytest.mark.parametrize("way", list(WAYS))
def test_each_way_gives_a_picture_that_is_not_the_one_it_was_given(way):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8))
    out = WAYS[way](image, np.random.default_rng(1))
    assert out.mode == "RGB"
    assert min(out.size) >= 16
    assert out.size != image.size or out.tobytes() != image.tobytes()


def test_the_ends_of_a_long_picture_are_squares_at_its_ends():
    image = Image.new("RGB", (300, 100))
    image.paste((255, 0, 0), (0, 0, 100, 100))
    image.paste((0, 0, 255), (200, 0, 300, 100))
    assert VIEWS["start"](image).getcolors() == [(10_000, (255, 0, 0))]
    assert VIEWS["end"](image).getcolors() == [(10_000, (0, 0, 255))]


def test_a_left_out_family_has_no_part_in_the_head_that_judges_it(data):
    """Features that name the picture's family: one that was learnt is told apart with ease, one
    that was not lies on no side."""
    ground = _ground(data)
    names = ground.names()

    def features(tier, of):
        return torch.stack([
            torch.nn.functional.one_hot(torch.tensor(names.index(s.source)), len(names)).float()
            for s in of
        ])  # fmt: skip

    fit = standard_fit(ground, [(ground.train, features("", ground.train))])
    judged = judge(ground, fit, features, 8, ("clean",))
    own = {s.family: np.mean(s.logits) for s in judged.scores}
    head = fit("a")
    real, fake = (
        head(features("", [s for s in ground.samples if s.source == source]))[0]
        for source in ("b", "f")
    )
    assert real < -1
    assert fake > 1
    assert max(abs(value) for value in own.values()) < min(-real, fake) / 2


def test_each_fold_leaves_out_families_of_both_classes_and_all_are_left_out_once(data):
    ground = _ground(data)
    dealt = folds(ground, 3)
    assert sorted(name for names in dealt for name in names) == ground.names()
    for names in dealt:
        assert {s.label for s in ground.samples if s.source in names} == {0, 1}


def test_low_rank_additions_start_from_the_layer_they_are_added_to():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    x = torch.randn(3, 6)
    expected = layer(x).detach()
    added = LowRank(layer, rank=2)
    torch.testing.assert_close(added(x), expected)
    trained = {name for name, p in added.named_parameters() if p.requires_grad}
    assert trained == {"down.weight", "up.weight"}


def test_the_penalty_draws_the_sources_of_a_class_together_and_forgets_those_left_out():
    """Two real sources that differ in a feature of their own; a third one has no weight."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=rng)
    fake = torch.tensor([0.0, 0.0, 1.0]).repeat_interleave(100)
    x[fake == 1, 0] += 2
    x[:100, 1] += 2  # the first real source's own
    sources = ["a"] * 100 + ["b"] * 100 + ["g"] * 100
    weight = torch.full((300,), 1 / 300)

    def gap(apart: float, weight: torch.Tensor) -> float:
        logits = HeadFit(apart=apart)(x, fake, weight, sources, 0)(x)
        return abs(float(logits[:100].mean() - logits[100:200].mean()))

    assert gap(1.0, weight) < 0.3 * gap(0.0, weight)
    weight[:100] = 0
    assert gap(1.0, weight) == pytest.approx(gap(0.0, weight), rel=0.01)
