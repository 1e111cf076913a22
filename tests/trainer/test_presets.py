"""The presets hold the published numbers, and each of them learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scanner.errors import UsageError
from trainer.config import FitConfig, load_config, preset_names
from trainer.losses import ClassificationLoss, ReconstructionLoss, loss_weights
from trainer.models import AutoencoderClassifier, LayeredDecoder, TransposedDecoder

COMMON = {"batch_size": 16, "learning_rate": 3e-4, "val_fraction": 0.2, "augment": "none"}
HYBRID: dict[str, Any] = {
    "encoder": "resnet18", "encoder_weights": "default", "size": 256, "decoder": "layered",
    "reconstruction": "hybrid", "perceptual": "lpips-alex",
}  # fmt: skip
TUNED: dict[str, Any] = {
    **HYBRID, "unfrozen": 3, "decoder_norm": True, "classification": "focal",
    "alpha_r": 0.8199844782456824, "beta": 0.23515562871287, "gamma_r": 1.4612961670003108,
    "gamma_c": 3.1038963555252, "alpha_c": 0.5518748596679164,
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "conv-ae": {
        "encoder": "conv", "size": 128, "decoder": "transposed", "reconstruction": "mse",
        "classification": "bce", "sample": 0.01, "epochs": 200, "r_weight": 1.0, "c_weight": 1.0,
        "class_weight": -1.0, "gamma_r": 1.0,
    },
    "transfer-hybrid": {
        **HYBRID, "unfrozen": 2, "classification": "smoothed-bce", "alpha_r": 0.84, "beta": 0.15,
        "gamma_r": 1.0, "c_off": 0.1, "sample": 0.05, "epochs": 200,
    },
    "focal-optuna": {**TUNED, "sample": 0.05, "epochs": 200},
    "youden": {**TUNED, "sample": 0.5, "epochs": 100},
    "best": {**TUNED, "sample": 1.0, "epochs": 100},
    "grey": {
        **TUNED, "grey": True, "sample": 0.05, "epochs": 100, "alpha_r": 0.5526043142841599,
        "beta": 0.4041598185631064, "gamma_r": 0.9653969778156798,
        "gamma_c": 1.7976319360196373, "alpha_c": 0.3582681521119193,
        "class_weight": 0.2867933630943549,
    },
    "cnn": {
        "encoder": "conv", "size": 256, "decoder": "none", "reconstruction": "none",
        "classification": "bce", "sample": 1.0,
    },
}  # fmt: skip


def toy(name: str) -> FitConfig:
    """The preset at 64 pixels and from random weights: nothing is downloaded."""
    # From random weights nothing stays frozen, so that nothing can be cached.
    overrides: dict[str, Any] = {"size": 64, "encoder_weights": "none", "unfrozen": -1}
    overrides |= {"cached_draws": 0, "optimizer": "adamw", "teacher": ""}
    config = load_config(name, overrides)
    if config.perceptual.startswith("lpips"):
        config = replace(config, perceptual="stlpips-alex")
    if config.reconstruction_size:
        config = replace(config, reconstruction_size=32)
    return config


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_preset_holds_the_published_numbers(name: str) -> None:
    config = load_config(name)
    expected = {**COMMON, **PUBLISHED[name], "preset": name}
    assert {key: getattr(config, key) for key in expected} == expected


def test_every_published_model_has_a_preset_and_every_preset_says_what_it_is() -> None:
    assert set(PUBLISHED) | {"default"} <= set(preset_names())
    folder = Path(load_config.__code__.co_filename).parent / "presets"
    for name in PUBLISHED:
        text = (folder / f"{name}.toml").read_text("utf-8")
        assert "reported" in text
        assert "Published:" in text or name == "best"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_builds_a_model_that_learns_in_one_step(name: str) -> None:
    torch.manual_seed(0)
    config = toy(name)
    model = AutoencoderClassifier(config)
    model.set_trained_stages(config.unfrozen)
    model.train()
    r_weight, c_weight = loss_weights(config, config.epochs - 1)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    before = {key: value.clone() for key, value in model.named_parameters()}
    pixels, label = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 0, 1])
    output = model(pixels)
    loss = c_weight * ClassificationLoss(config)(output.logit, label)
    if model.decoder is not None:
        assert output.reconstruction.shape == model.target(pixels).shape
        target = model.target(pixels)
        loss = loss + r_weight * ReconstructionLoss(config)(output.reconstruction, target)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    still = [k for k, v in model.named_parameters() if torch.equal(before[k], v)]
    assert still == []


def test_the_models_have_the_published_parts() -> None:
    conv = AutoencoderClassifier(toy("conv-ae"))
    assert isinstance(conv.decoder, TransposedDecoder)
    kinds = [type(layer).__name__ for layer in conv.decoder.layers]
    assert kinds == ["ConvTranspose2d", "ReLU"] * 3 + ["ConvTranspose2d", "Sigmoid"]
    assert [type(m).__name__ for m in conv.classifier.layers].count("Linear") == 2
    assert AutoencoderClassifier(toy("cnn")).decoder is None
    plain = AutoencoderClassifier(toy("transfer-hybrid"))
    normed = AutoencoderClassifier(toy("focal-optuna"))
    for model, expected in ((plain, False), (normed, True)):
        assert isinstance(model.decoder, LayeredDecoder)
        kinds = [type(layer).__name__ for layer in model.decoder.layers]
        assert ("BatchNorm2d" in kinds) is expected
        assert model.encoder.feature_count == 512  # globally pooled


@pytest.mark.parametrize(("name", "trained"), [("transfer-hybrid", 2), ("focal-optuna", 3)])
def test_only_the_last_layers_of_the_encoder_learn(name: str, trained: int) -> None:
    config = replace(toy(name), unfrozen=load_config(name).unfrozen)
    model = AutoencoderClassifier(config)
    model.set_trained_stages(config.unfrozen)
    learns = [all(p.requires_grad for p in s.parameters()) for s in model.encoder.stages]
    assert learns == [False] * (5 - trained) + [True] * trained


def test_classification_waits_for_a_tenth_of_the_epochs_and_then_rises() -> None:
    config = load_config("focal-optuna")
    weights = [loss_weights(config, epoch) for epoch in range(config.epochs)]
    assert [c for _, c in weights[:20]] == [0.0] * 20
    rising = [c for _, c in weights[20:40]]
    assert rising == sorted(rising)
    assert 0 < rising[0] < rising[-1] < 1
    assert weights[40:] == [(1.0, 1.0)] * 160


def test_class_weight_is_the_share_of_classification() -> None:
    config = load_config("grey")
    r_weight, c_weight = loss_weights(config, config.epochs - 1)
    assert c_weight == pytest.approx(0.2867933630943549)
    assert r_weight == pytest.approx(1 - 0.2867933630943549)


def test_unfreezing_after_the_last_epoch_is_refused() -> None:
    with pytest.raises(UsageError, match="freeze_epochs = 5 leaves none of 3 epochs"):
        load_config("youden", {"epochs": 3})


def test_a_toml_starts_from_the_toml_that_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.toml").write_text('base = "grey"\nbeta = 0.5\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\nalpha_r = 0.25\n')
    monkeypatch.chdir("/")
    config = load_config(str(tmp_path / "b.toml"))
    assert (config.preset, config.beta, config.alpha_r, config.grey) == ("b", 0.5, 0.25, True)


def test_presets_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n')
    with pytest.raises(UsageError, match="circle"):
        load_config(str(tmp_path / "a.toml"))
