"""Finished fits and bundles, opened to be judged: model, thresholds, and what it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scanner.bundle import EMBEDDED, Bundle, bundle_path, names_bundle, read_bundle
from scanner.errors import UsageError
from trainer.checkpoint import load_run
from trainer.config import FitConfig, load_config
from trainer.data import Sample
from trainer.decoded import DecodedPictures
from trainer.loader import Pictures
from trainer.models import AutoencoderClassifier
from trainer.selection import Seen, read_seen
from trainer.shipped import Shipped
from trainer.tiers import Tier

_LOADING = ("holdout", "batch_size", "workers")


@dataclass(frozen=True, slots=True)
class Run:
    """A finished fit, or a bundle, of which nobody knows what it has seen.

    `thresholds` apply to P(fake) after `temperature` has divided the logit.
    """

    name: str
    path: Path
    model: AutoencoderClassifier | Shipped
    config: FitConfig
    seen: Seen
    epoch: int
    temperature: float
    thresholds: Mapping[str, float]  # "half", "best_f1", "youden", ...
    operating_point: str  # the one of them that a scan would use

    @property
    def facts(self) -> str:
        """Where it comes from, in a line."""
        if isinstance(self.model, Shipped):
            return f"bundle {self.model.bundle.name}@{self.model.bundle.digest}"
        return (
            f"preset {self.config.preset}, epoch {self.epoch}, temperature {self.temperature:.3f}"
        )


def open_runs(paths: Sequence[Path]) -> list[Run]:
    """Load runs, and bundles by name or folder; those of the same name are told apart by a
    number. Raises UsageError, BundleError.
    """
    runs: list[Run] = []
    for path in paths:
        bundle = read_bundle(bundle_path(path)) if names_bundle(path) else None
        base = bundle.name if bundle else path.resolve().name or "run"
        taken = {run.name for run in runs}
        numbered = (f"{base}-{i}" for i in range(2, len(paths) + 2))
        name = base if base not in taken else next(n for n in numbered if n not in taken)
        if bundle is None and not path.is_dir():
            raise UsageError(
                f"{path}: neither a run of trainer fit, nor a bundle, nor one of "
                f"{', '.join(EMBEDDED)}"
            )
        runs.append(_open_run(path, name) if bundle is None else _opened_bundle(bundle, name))
    return runs


def _open_run(path: Path, name: str) -> Run:
    model, config, result = load_run(path)
    try:
        required = {k: float(result["thresholds"][k]) for k in ("best_f1", "youden")}
        # `trainer calibrate` adds points of its own.
        thresholds = {**required, **{k: float(v) for k, v in result["thresholds"].items()}}
        run = Run(
            name=name,
            path=path,
            model=model,
            config=config,
            seen=read_seen(path),
            epoch=int(result["epoch"]),
            temperature=float(result["temperature"]),
            thresholds={"half": 0.5, **thresholds},
            operating_point=str(result.get("operating_point", "youden")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path / 'result.json'}: no usable {error}; fit the run anew or restore the file"
        ) from None
    if run.operating_point not in run.thresholds or not run.temperature > 0:
        raise UsageError(f"{path / 'result.json'}: unknown operating point, or no temperature")
    return run


def _opened_bundle(bundle: Bundle, name: str) -> Run:
    # A cascade has no fit of its own. What is needed of one is how pictures are loaded, and no
    # more: its other settings may be those of another version.
    fitted = bundle.models[0].training.get("config")
    known = fitted if isinstance(fitted, Mapping) else {}
    try:
        config = load_config("default", {name: known[name] for name in _LOADING if name in known})
    except UsageError:
        config = load_config("default")
    return Run(
        name=name,
        path=bundle.path,
        model=Shipped(bundle),
        config=config,
        seen=Seen({}, {}),
        epoch=0,
        temperature=1.0,
        thresholds={"half": 0.5, **bundle.thresholds},
        operating_point=bundle.operating_point,
    )


def judged_pictures(
    run: Run,
    samples: Sequence[Sample],
    tier: Tier,
    *,
    grey: bool = False,
    decoded: DecodedPictures | None = None,
) -> Pictures:
    """`samples` as `run` is shown them under `tier`."""
    spec = replace(run.model.spec, grey=grey or run.model.spec.grey)
    return Pictures(samples, spec, change=tier, decode_side=tier.longest, decoded=decoded)
