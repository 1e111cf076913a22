from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision

from scanner.errors import UsageError
from trainer.encoders import EfficientNetLite0Encoder, ResNet18Encoder, build_encoder


def test_resnet18_takes_its_weights_from_a_local_file(tmp_path: Path):
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    encoder = build_encoder("resnet18", 64, str(tmp_path / "resnet18.pth"))
    assert isinstance(encoder, ResNet18Encoder)
    assert torch.equal(encoder.stem[0].weight, net.conv1.weight)
    assert torch.equal(encoder.layer4[1].conv2.weight, net.layer4[1].conv2.weight)


def test_weights_of_another_network_are_refused(tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"other\.pth"):
        build_encoder("resnet18", 64, str(tmp_path / "other.pth"))
    with pytest.raises(UsageError, match="not those of EfficientNet-Lite0"):
        build_encoder("efficientnet-lite0", 64, str(tmp_path / "other.pth"))


def test_a_missing_weights_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"nowhere\.pth: no such weights file"):
        build_encoder("resnet18", 64, str(tmp_path / "nowhere.pth"))


def test_imagenet_weights_are_asked_for_by_default_and_a_failed_download_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
):
    asked = []

    def unreachable(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UsageError, match=r"resnet18-f37072fd\.pth with encoder_weights"):
        build_encoder("resnet18", 64, "default")
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]


def test_efficientnet_lite0_takes_the_packaged_imagenet_weights():
    """All of them in timm's order: a shifted one would have failed by its shape."""
    pytest.importorskip("timm")
    encoder = EfficientNetLite0Encoder("default")
    packaged = torch.load(EfficientNetLite0Encoder._packaged_file(), weights_only=True)
    tensors = list(encoder.state_dict().values())
    foreign = list(packaged.values())[: len(tensors)]
    assert all(torch.equal(a, b) for a, b in zip(tensors, foreign, strict=True))


def test_a_changed_package_of_weights_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(EfficientNetLite0Encoder, "_SHA256", "00000000")
    with pytest.raises(UsageError, match="install it again"):
        build_encoder("efficientnet-lite0", 64, "default")


@pytest.mark.parametrize("name", ["conv", "resnet18", "efficientnet-lite0"])
def test_an_encoder_is_what_it_says_of_itself(name: str):
    encoder = build_encoder(name, 64, "none").eval()
    with torch.inference_mode():
        deepest, features = encoder(torch.rand(2, 3, 64, 64))
    assert deepest.shape == (2, encoder.channels, 64 // encoder.stride, 64 // encoder.stride)
    assert features.shape == (2, encoder.feature_count)
