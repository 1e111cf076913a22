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
from trainer.experts import ExpertDecoders, ExpertHeads, Router
from trainer.models import AutoencoderClassifier

OPSET = 18


class _Encoding(nn.Module):
    """Prepared pixels [N, 3, S, S] -> features [N, F] and, if asked, the deepest map."""

    def __init__(self, model: AutoencoderClassifier, *, deepest: bool) -> None:
        super().__init__()
        self.encoder, self.deepest = model.encoder, deepest

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        deepest, features = self.encoder(pixels)
        return (features, deepest) if self.deepest else (features,)


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
    """The deepest map [N, C, S / stride, S / stride] -> RGB in [0, 1], [N, 3, R, R]."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, deepest: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(deepest)
        return reconstruction


class _RoutedReconstruction(nn.Module):
    """The same with experts; the features [N, F] say whose decoder remakes a picture."""

    def __init__(self, decoders: ExpertDecoders, router: Router) -> None:
        super().__init__()
        self.decoders, self.router = decoders, router

    def forward(self, deepest: Tensor, features: Tensor) -> Tensor:
        return self.decoders.dense(deepest, self.router(features))


def write_graphs(model: AutoencoderClassifier, folder: Path, *, decoder: bool) -> list[Path]:
    """Write encoder.onnx and classifier.onnx, and decoder.onnx if asked, into `folder`.

    Inputs and outputs are float32 with a dynamic first dimension, and have the names that
    `scanner.detector` asks for. With a decoder the encoder has a second output, the map that
    the decoder draws from: nothing of the encoder is stored or run twice.
    """
    size = model.spec.size
    pixels = torch.zeros(2, 3, size, size)
    features = torch.zeros(2, model.encoder.feature_count)
    model.eval()
    if decoder and model.decoder is None:
        raise ImgscanError("the run has no decoder; export it without --decoder")
    written = [
        _write(
            _Encoding(model, deepest=decoder),
            {"pixels": pixels},
            ["features", "deepest"] if decoder else ["features"],
            folder / "encoder.onnx",
        ),
        _write(_Logit(model), {"features": features}, ["logit"], folder / "classifier.onnx"),
    ]
    if model.decoder is not None and decoder:
        side = size // model.encoder.stride
        inputs = {"deepest": torch.zeros(2, model.encoder.channels, side, side)}
        module: nn.Module = _Reconstruction(model.decoder)
        if isinstance(model.decoder, ExpertDecoders):
            assert isinstance(model.classifier, ExpertHeads)  # experts come as heads and decoders
            inputs["features"] = features
            module = _RoutedReconstruction(model.decoder, model.classifier.router)
        written.append(_write(module, inputs, ["reconstruction"], folder / "decoder.onnx"))
    return written


def _write(module: nn.Module, examples: dict[str, Tensor], outputs: list[str], path: Path) -> Path:
    """`examples` maps each input's name, in order, to a tensor of its shape."""
    module.eval()
    batch = torch.export.Dim("batch", min=1, max=65536)
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            input_names=list(examples),
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=tuple({0: batch} for _ in examples),
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
