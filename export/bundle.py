"""A run of the trainer -> a verified bundle, moved into place only when all of it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.card import model_card
from export.half import write_half
from export.measured import digest
from export.parity import HalfParity, Parity, measure_half, require
from export.to_onnx import write_graphs
from scanner.bundle import HALF_ENCODER, Bundle, read_bundle
from scanner.bundle_writing import building, write_bundle
from scanner.errors import UsageError
from trainer.checkpoint import load_run

_RESERVED = (
    "validation",
    "left_out_points",
    "pictures",
    "parity",
    "rescored",
)  # names of the metrics that are always there


@dataclass(frozen=True, slots=True)
class Exported:
    """The bundle in its place, how closely it agrees with torch, and its half precision with
    its float32 (None where that was not asked for).
    """

    bundle: Bundle
    parity: Parity
    half: HalfParity | None = None


def export_run(
    run: Path,
    out: Path,
    *,
    name: str,
    operating_point: str | None = None,
    decoder: bool | None = None,
    measured: Mapping[str, Path] | None = None,
    notes: Path | None = None,
    half: bool = False,
) -> Exported:
    """Export the best epoch of folder `run` as bundle `out`.

    `measured` maps a name to a JSON file of figures that goes into the bundle's metrics beside
    those of the fit; `notes` is Markdown for the model card; `decoder` None writes decoder.onnx
    if the run has a decoder, and True refuses a run that has none; `half` writes encoder.fp16.onnx
    too, unless it scores otherwise than float32. A failure leaves no trace, nor does it touch a
    bundle that stands at `out`.
    """
    model, config, result = load_run(run)
    metrics: dict[str, Any] = {"validation": result["validation"], "pictures": result["pictures"]}
    if "left_out" in result:
        metrics["left_out_points"] = result["left_out"]["measured"]
        if any("auc" not in tier for tier in metrics["left_out_points"].values()):
            raise UsageError(
                f"{run}: was calibrated by an earlier version; run `trainer calibrate` again"
            )
    refuse_reserved(measured or {})
    for key, path in (measured or {}).items():
        metrics[key] = digest(read_figures(path), str(path))
    point = operating_point or result["operating_point"]
    if point not in result["thresholds"]:
        raise UsageError(f"--operating-point {point}: the run has {sorted(result['thresholds'])}")
    notes_text = read_text(notes) if notes is not None else ""

    out = out.absolute()
    with building(out) as work:
        write_graphs(model, work, decoder=model.decoder is not None if decoder is None else decoder)
        training = {
            "config": config.to_dict(),
            **{key: result[key] for key in ("epoch", "seconds", "device", "torch")},
            **({"experts": result["experts"]} if "experts" in result else {}),
        }
        content: dict[str, Any] = {
            "name": name,
            "spec": model.spec,
            "thresholds": result["thresholds"],
            "operating_point": point,
            "temperature": result["temperature"],
            "unsure": result.get("unsure"),
            "training": training,
        }
        # Once without the figure, so that the Detector can measure it; then with it, for good.
        card = work / "MODEL_CARD.md"
        card.write_text("", "utf-8")
        parity = require(model, write_bundle(work, metrics=metrics, **content))
        metrics["parity"] = {
            "pictures": parity.pictures,
            "max_probability_difference": parity.max_probability_difference,
            "max_logit_difference": parity.max_logit_difference,
            "probability_range": parity.probability_range,
        }
        if parity.max_reconstruction_difference is not None:
            metrics["parity"]["max_reconstruction_difference"] = (
                parity.max_reconstruction_difference
            )
        half_parity = None
        # Both ways in which it may be computed; the graph that stays is the last.
        for rounded in (True, False) if half else ():
            write_half(work / "encoder.onnx", work / HALF_ENCODER, rounded=rounded)
            found = measure_half(write_bundle(work, metrics=metrics, **content))
            half_parity = found if half_parity is None else half_parity.worse(found)
            if half_parity.problem is not None:
                (work / HALF_ENCODER).unlink()
                break
        if half_parity is not None and half_parity.problem is None:
            metrics["parity"]["half_max_probability_difference"] = (
                half_parity.max_probability_difference
            )
        card.write_text(
            model_card(metrics=metrics, notes=notes_text, **content), "utf-8", newline="\n"
        )
        write_bundle(work, metrics=metrics, **content)
    return Exported(read_bundle(out), parity, half_parity)


def refuse_reserved(measured: Iterable[str]) -> None:
    """Raise UsageError for a name that is none, or that of figures which are always there."""
    for key in measured:
        if not key or key in _RESERVED:
            raise UsageError(
                f"--metrics {key}=...: {', '.join(_RESERVED)} are the export's own; name another"
            )


def read_figures(path: Path) -> Any:
    """JSON without NaN and its like; raises UsageError."""
    try:
        return json.loads(read_text(path), parse_constant=_refuse_constant)
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply") from None


def read_text(path: Path) -> str:
    """UTF-8; raises UsageError."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no UTF-8 text") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
