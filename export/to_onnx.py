"""A run's torch model -> the graphs of a bundle, checked by onnx."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from export.compact import compact
from scanner.errors import ImgscanError
from scanner.text import one_line
from trainer.experts import ExpertDecoders, ExpertHeads
from trainer.models import AutoencoderClassifier

OPSET = 18


class _Features(nn.Module):
    """Prepared pixels [N, 3, S, S] -> features [N, F]."""

    def __init__(self, model: AutoencoderClassifier) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.encoder(pixels).features
        return features


class _Logit(nn.Module):
    """Features [N, F] -> logit [N], above 0 for fake."""

    def __init__(self, model: AutoencoderClassifier) -> None:
        super().__init__()
        self.classifier = model.classifier

    def forward(self, features: Tensor) -> Tensor:
        if isinstance(self.classifier, ExpertHeads):
            return self.classifier.dense(features)
        logit: Tensor = self.classifier(features)
        return logit


class _Reconstruction(nn.Module):
    """Prepared pixels [N, 3, S, S] -> RGB in [0, 1], [N, 3, R, R]."""

    def __init__(self, model: AutoencoderClassifier) -> None:
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder
        head = model.classifier
        self.router = head.router if isinstance(head, ExpertHeads) else None

    def forward(self, pixels: Tensor) -> Tensor:
        assert self.decoder is not None
        deepest, features = self.encoder(pixels)
        if isinstance(self.decoder, ExpertDecoders):
            assert self.router is not None
            return self.decoder.dense(deepest, self.router(features))
        reconstruction: Tensor = self.decoder(deepest)
        return reconstruction


def write_graphs(model: AutoencoderClassifier, folder: Path, *, decoder: bool) -> list[Path]:
    """Write encoder.onnx and classifier.onnx, and decoder.onnx if asked, into `folder`.

    Every graph has one float32 input and output and a dynamic first dimension.
    """
    size = model.spec.size
    pixels = torch.zeros(2, 3, size, size)
    features = torch.zeros(2, model.encoder.feature_count)
    model.eval()
    written = [
        _write(_Features(model), pixels, folder / "encoder.onnx", "pixels", "features"),
        _write(_Logit(model), features, folder / "classifier.onnx", "features", "logit"),
    ]
    if decoder:
        if model.decoder is None:
            raise ImgscanError("the run has no decoder; export it without --decoder")
        path = folder / "decoder.onnx"
        written.append(_write(_Reconstruction(model), pixels, path, "pixels", "reconstruction"))
    return written


def _write(module: nn.Module, example: Tensor, path: Path, source: str, result: str) -> Path:
    module.eval()
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=[source],
            output_names=[result],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            external_data=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)
        _forget_origin(path)
        compact(path)
    try:
        onnx.checker.check_model(onnx.load(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ImgscanError(f"{path}: onnx's checker refuses it: {one_line(error)}") from None
    return path


def _forget_origin(path: Path) -> None:
    """Drop what the exporter notes about the code: stack traces name the maker's own folders.

    A bundle is passed on, and the same run must give the same bundle wherever it is exported.
    """
    model = onnx.load(path)
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    _forget(model.graph)
    for function in model.functions:
        _forget(function)
    onnx.save(model, path)


def _forget(part: Any) -> None:
    """Clear notes in a graph or function, and in the graphs inside its nodes."""
    part.ClearField("metadata_props")
    part.ClearField("doc_string")
    for values in ("input", "output", "value_info", "initializer"):
        for value in getattr(part, values, ()):
            if not isinstance(value, str):  # a function's inputs are names
                value.ClearField("metadata_props")
                value.ClearField("doc_string")
    for node in part.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                if graph.node:
                    _forget(graph)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress on stdout and through loggers; both are noise here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
