"""Experts: each picture is routed, judged and remade by one, in torch as in ONNX."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny_runs import CONFIG

from export.bundle import export_run
from export.parity import TOLERANCE
from export.to_onnx import write_graphs
from scanner.errors import UsageError
from trainer import checkpoint
from trainer.cli import command
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.experts import ExpertDecoders, ExpertHeads
from trainer.fit import EpochReport, fit
from trainer.kinds import merge_small
from trainer.models import AutoencoderClassifier

TINY = FitConfig(
    **{**CONFIG, "epochs": 2, "head": (8,), "head_norm": True, "experts": 2, "expert_least": 3}
)
BASES = {"cat": (210, 40, 40), "sea": (30, 60, 220), "sky": (40, 200, 60)}


def _make(folder: Path, kinds: dict[str, int]) -> Path:
    """Pictures of a kind share a base colour; a count is of each class; "" has no colour."""
    rows, number = [], 0
    for kind, count in kinds.items():
        for label in ("real", "fake"):
            for i in range(count):
                rng = np.random.default_rng(number)
                number += 1
                noise = rng.integers(0, 30, (6, 6, 3))
                low = (np.array(BASES.get(kind, (120, 120, 120))) + noise).astype(np.uint8)
                path = folder / label / f"{kind or 'none'}-{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(low).resize((40, 36)).save(path)
                rows.append([path.relative_to(folder).as_posix(), label, kind])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "label", "Subject"], *rows])
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("kinds"), {"cat": 9, "sea": 9})


def _splits(data: Path, column: str = "") -> Splits:
    samples = load_samples(data, kind_column=column)
    return split_samples(samples, val_fraction=0.25, seed=0)


def _with_experts(config: FitConfig, count: int = 3, size: int = 32) -> AutoencoderClassifier:
    """Experts of unlike weights and a router that sends pictures to all of them."""
    torch.manual_seed(0)
    model = AutoencoderClassifier(replace(config, size=size), pretrained=False)
    model.use_experts(count)
    assert isinstance(model.classifier, ExpertHeads)
    with torch.no_grad():
        for parameter in (*model.classifier.heads.parameters(), *model.decoder.parameters()):  # type: ignore[union-attr]
            parameter.add_(torch.randn_like(parameter) * 0.05)
        features = model.encoder(torch.rand(12, 3, size, size)).features
        model.classifier.router.place(features, torch.arange(12) % count)
    return model.eval()


def test_a_fit_with_experts_reports_each_and_can_be_loaded(data: Path, tmp_path: Path):
    result = fit(TINY, _splits(data), tmp_path / "run")
    assert len(result["experts"]) == 2
    for part in ("training", "validation"):
        assert sum(row[part]["share"] for row in result["experts"]) == pytest.approx(1)
    assert sum(row["validation"]["pictures"] for row in result["experts"]) == 10
    for row in result["experts"]:
        assert min(row["training"]["real"], row["training"]["fake"]) >= 3
        assert row["validation"]["youden"]["count"] == row["validation"]["pictures"]
    model, config, _ = checkpoint.load_run(tmp_path / "run")
    assert config == TINY
    assert isinstance(model.classifier, ExpertHeads)
    assert isinstance(model.decoder, ExpertDecoders)
    assert len(model.classifier.heads) == len(model.decoder.decoders) == 2


def test_clusters_are_the_kinds_that_the_encoder_tells_apart(data: Path, tmp_path: Path):
    fit(replace(TINY, epochs=1), _splits(data), tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "experts.csv").open()))
    kind_of = {(row["file"].split("/")[1][:3], row["expert"]) for row in rows}
    assert len(kind_of) == 2, "each colour is one cluster"


def test_a_column_names_the_experts_and_is_not_needed_to_route(data: Path, tmp_path: Path):
    config = replace(TINY, experts=0, expert_column="subject", epochs=1)
    result = fit(config, _splits(data, "subject"), tmp_path / "run")
    assert [row["name"] for row in result["experts"]] == ["cat", "sea"]
    assert [row["training"]["kept"] for row in result["experts"]] == [1.0, 1.0]
    model, _, _ = checkpoint.load_run(tmp_path / "run")
    blue = torch.zeros(1, 3, 32, 32)
    blue[:, 2] = 0.9
    expert = model(blue).expert
    assert expert is not None
    assert expert.tolist() == [1]


def test_a_step_moves_only_the_experts_that_had_a_picture():
    model = _with_experts(TINY).train()
    head = model.classifier
    assert isinstance(head, ExpertHeads)
    pixels = torch.rand(6, 3, 32, 32)
    with torch.no_grad():
        features = model.encoder(pixels).features
        head.router.centroids[1:] = 1e3  # far off: all go to the first
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    output = model.from_encoded(model.encoder(pixels))
    assert output.expert is not None
    assert output.expert.tolist() == [0] * len(features)
    assert output.reconstruction is not None
    (output.logit.sum() + output.reconstruction.sum()).backward()
    optimizer.step()
    moved = {n for n, v in model.named_parameters() if not torch.equal(before[n], v)}
    assert any(name.startswith("classifier.heads.0.") for name in moved)
    assert any(name.startswith("decoder.decoders.0.") for name in moved)
    others = (
        "classifier.heads.1",
        "classifier.heads.2",
        "decoder.decoders.1",
        "decoder.decoders.2",
    )
    assert not any(name.startswith(others) for name in moved)


def test_a_picture_is_judged_the_same_alone_and_among_others():
    model = _with_experts(TINY)
    pixels = torch.rand(7, 3, 32, 32)
    with torch.inference_mode():
        together = model(pixels)
        for i in range(7):
            alone = model(pixels[i : i + 1])
            torch.testing.assert_close(alone.logit[0], together.logit[i])
            torch.testing.assert_close(alone.reconstruction[0], together.reconstruction[i])


@pytest.mark.parametrize("decoder", ["transposed", "layered"])
def test_graphs_route_as_torch_does(decoder: Any, tmp_path: Path):
    model = _with_experts(replace(TINY, decoder=decoder, decoder_norm=decoder == "layered"))
    pixels = torch.rand(9, 3, 32, 32)
    with torch.inference_mode():
        expected = model(pixels)
    assert expected.expert is not None
    assert len(set(expected.expert.tolist())) > 1, "else nothing would be shown"
    encoder, classifier, remaker = write_graphs(model, tmp_path, decoder=True)

    def answers(path: Path, **inputs: Any) -> Any:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, inputs)

    features, deepest = answers(encoder, pixels=pixels.numpy())
    (logit,) = answers(classifier, features=features)
    np.testing.assert_allclose(logit, expected.logit.numpy(), rtol=1e-3, atol=1e-4)
    assert answers(classifier, features=features[:1])[0].shape == (1,)
    (remade,) = answers(remaker, deepest=deepest, features=features)
    assert expected.reconstruction is not None
    np.testing.assert_allclose(remade, expected.reconstruction.numpy(), rtol=1e-3, atol=1e-4)


def test_a_run_with_experts_is_exported_and_agrees(data: Path, tmp_path: Path):
    fit(replace(TINY, epochs=1), _splits(data), tmp_path / "run")
    exported = export_run(tmp_path / "run", tmp_path / "bundle", name="experts", decoder=True)
    assert exported.parity.max_probability_difference <= TOLERANCE
    assert exported.parity.max_reconstruction_difference is not None, "routed by the Detector, too"
    assert "2 experts" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


class _Killed(Exception):  # noqa: N818 - stands for a signal
    pass


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_fit_with_experts_killed_and_resumed_ends_as_if_it_had_not_been(
    ema: float, data: Path, tmp_path: Path
):
    splits, config = _splits(data), replace(TINY, ema=ema)
    whole = fit(config, splits, tmp_path / "whole")

    def kill(report: EpochReport) -> None:
        raise _Killed

    with pytest.raises(_Killed):
        fit(config, splits, tmp_path / "killed", on_epoch=kill)
    resumed = fit(config, splits, tmp_path / "killed", resume=True)
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    one = checkpoint.load(tmp_path / "whole" / checkpoint.BEST)["model"]
    other = checkpoint.load(tmp_path / "killed" / checkpoint.BEST)["model"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_router_follows_an_encoder_that_learns(data: Path, tmp_path: Path):
    config = replace(TINY, epochs=2, learning_rate=3e-3)
    result = fit(config, _splits(data), tmp_path / "run")
    torch.manual_seed(config.seed)
    start = AutoencoderClassifier(config)
    model, _, _ = checkpoint.load_run(tmp_path / "run")
    assert isinstance(model.classifier, ExpertHeads)
    pixels = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(start.encoder(pixels).features, model.encoder(pixels).features)
    # The kinds are still told apart by what the encoder has become.
    assert [row["training"]["kept"] for row in result["experts"]] == [1.0, 1.0]


def test_a_frozen_encoder_and_its_cache_serve_experts(data: Path, tmp_path: Path):
    pytest.importorskip("timm")
    config = replace(
        TINY, encoder="efficientnet-lite0", unfrozen=0, decoder="layered", cached_draws=1,
        decoder_norm=True, augment="flip",
    )  # fmt: skip
    result = fit(config, _splits(data), tmp_path / "run")
    assert len(result["experts"]) == 2
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_a_kind_with_too_few_pictures_joins_its_nearest():
    rng = np.random.default_rng(0)
    places = np.array([[0.0, 0], [10, 0], [11, 0], [0, 10]])
    members = np.repeat(np.arange(4), [8, 8, 2, 8])
    features = torch.from_numpy((places[members] + rng.normal(0, 0.1, (26, 2))).astype(np.float32))
    labels = np.arange(26) % 2
    merged, names = merge_small(features, members, ["a", "b", "c", "d"], labels, 3)
    assert names == ["a", "b + c", "d"]
    assert merged.tolist() == [0] * 8 + [1] * 10 + [2] * 8
    one_sided = np.where(members == 3, 1, labels)
    merged, names = merge_small(features, members, ["a", "b", "c", "d"], one_sided, 3)
    assert len(names) == 2, "a kind that is all fake would be a detector of itself"


def test_kinds_that_leave_no_two_experts_are_refused(data: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="without --per-class-experts"):
        fit(replace(TINY, expert_least=15), _splits(data), tmp_path / "run")
    assert not (tmp_path / "run" / checkpoint.LAST).exists()
    with pytest.raises(UsageError, match="experts must be 2 or more"):
        replace(TINY, experts=1)


def test_a_column_that_is_not_there_is_named(data: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="has no column 'colour'"):
        load_samples(data, kind_column="colour")
    _make(tmp_path, {"cat": 1})
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(UsageError, match="folders no column"):
        load_samples(tmp_path, kind_column="subject")


def test_the_command_line_fits_experts(data: Path, tmp_path: Path):
    fit_two = ["fit", "--data", str(data), "--preset", "conv-ae", "--size", "32", "--epochs", "1"]
    fit_two += ["--sample", "1", "--workers", "0", "--set", "expert_least=3", "--quiet"]
    out = tmp_path / "run"
    result = CliRunner().invoke(
        command, [*fit_two, "--per-class-experts", "--experts", "2", "--out", str(out)]
    )
    assert result.exception is None, result.output
    assert "expert cluster 1" in result.output
    out = tmp_path / "column"
    result = CliRunner().invoke(
        command, [*fit_two, "--per-class-experts", "--expert-column", "Subject", "--out", str(out)]
    )
    assert result.exception is None, result.output
    assert "expert cat" in result.output
    result = CliRunner().invoke(command, [*fit_two, "--experts", "2", "--out", str(out)])
    assert "give --per-class-experts" in str(result.exception)
