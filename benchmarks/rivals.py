"""The same files the ways they are usually scored: what the engine is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from scanner.bundle import Bundle
from scanner.preprocess import PreprocessSpec


class _Pictures(Dataset[torch.Tensor]):
    """As tutorials have it: decode whole, resize the short side, crop the centre, normalise."""

    def __init__(self, paths: Sequence[Path], spec: PreprocessSpec) -> None:
        self._paths, self._spec = paths, spec

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        side = self._spec.size
        with Image.open(self._paths[index]) as image:
            rgb = image.convert("RGB")
        scale = side / min(rgb.size)
        rgb = rgb.resize(
            (round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC
        )
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        square = np.asarray(rgb.crop((left, top, left + side, top + side)), np.float32) / 255
        normal = (square - np.float32(self._spec.mean)) / np.float32(self._spec.std)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))


def data_loader(paths: Sequence[Path], bundle: Bundle, cores: int) -> float:
    """Files per second of a DataLoader of `cores` workers before the bundle's own encoder graph,
    which onnxruntime runs in batches of 16 as it does unless told otherwise."""
    session = ort.InferenceSession(bundle.graph("encoder.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    start = time.perf_counter()
    loader = DataLoader(_Pictures(paths, bundle.spec), batch_size=16, num_workers=cores)
    for batch in loader:
        session.run(None, {name: batch.numpy()})
    return len(paths) / (time.perf_counter() - start)


def torch_loader(paths: Sequence[Path], bundle: Bundle, cores: int) -> float:
    """The same loop in PyTorch alone: the encoder that the embedded model was made from, in eager
    mode (its weights are random here, which costs the same)."""
    from trainer.encoders import EfficientNetLite0Encoder

    torch.set_num_threads(cores)
    encoder = EfficientNetLite0Encoder("none").eval()
    start = time.perf_counter()
    loader = DataLoader(_Pictures(paths, bundle.spec), batch_size=16, num_workers=cores)
    with torch.inference_mode():
        for batch in loader:
            encoder(batch)
    return len(paths) / (time.perf_counter() - start)


def transformers_pipeline(paths: Sequence[Path], cores: int) -> float:
    """Files per second of `transformers`' image-classification pipeline over a ViT-S/16 of
    random weights, one file at a time, as its documentation shows it."""
    from transformers import (
        ImageClassificationPipeline,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessor,
    )

    torch.set_num_threads(cores)
    config = ViTConfig(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, intermediate_size=1536
    )
    pipeline = ImageClassificationPipeline(
        model=ViTForImageClassification(config).eval(),
        image_processor=ViTImageProcessor(size={"height": 224, "width": 224}),
        device="cpu",
    )
    pipeline(str(paths[0]))
    start = time.perf_counter()
    for path in paths:
        pipeline(str(path))
    return len(paths) / (time.perf_counter() - start)
