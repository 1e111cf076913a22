"""The whole of a fit's settings: frozen, read from TOML, saved beside the result."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec

EncoderName = Literal["conv", "resnet18", "efficientnet-lite0", "clip-vit-b16"]
DecoderName = Literal["transposed", "layered", "none"]
ReconstructionLoss = Literal["mse", "hybrid", "none"]
Perceptual = Literal["none", "lpips-alex", "lpips-vgg", "stlpips-alex", "stlpips-vgg"]
ClassificationLoss = Literal["bce", "smoothed-bce", "focal"]
Augmentation = Literal["none", "flip", "neutral", "uncropped"]
Balance = Literal["none", "class", "source"]
Optimizer = Literal["adamw", "lbfgs"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Everything `fit()` needs besides the data and the place to write to.

    Lengths are in pixels, rates are per optimiser step, fractions lie in 0..1. Presets are
    TOML files with these names; their tables are for the reader and carry no meaning.
    """

    preset: str

    # data
    sample: float = 1.0  # fraction of the groups that is used, drawn per class and source
    val_fraction: float = 0.2  # of the groups, where the data names no validation split
    holdout: str = "test"  # the split that fit() never looks at, kept for evaluate
    max_per_source: int = 0  # cap on the training pictures of one source; 0: none
    balance: Balance = "none"  # what each draw of the sampler evens out
    # Real pictures that life brings for one fake: the sampler's draws, P(fake) and best F1 keep
    # to it. 0: unstated, classes as `balance` has them and P(fake) for as many of each.
    real_per_fake: float = 0.0
    augment: Augmentation = "none"
    # Draws of the augmentation of which the answers of the encoder's frozen part are kept on disk;
    # 0: none.
    cached_draws: int = 0

    # preprocessing
    size: int = 256
    views: int = 1
    resampling: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    grey: bool = False

    # model
    encoder: EncoderName = "efficientnet-lite0"
    encoder_weights: str = "default"  # "default", "none" or a local file
    encoder_taps: tuple[int, ...] = ()  # clip-vit-b16: blocks, from 1, whose tokens are features
    unfrozen: int = 0  # last stages of the encoder that are trained; -1: all
    freeze_epochs: int = 0  # epochs before the unfrozen stages join
    freeze_norm: bool = False  # the unfrozen stages' batch norm keeps its running statistics
    # A preset whose frozen encoder teaches the last stages of this one before they are frozen,
    # without labels (trainer.distil); "": none does.
    teacher: str = ""
    taught_stages: int = 2
    taught_epochs: int = 2
    taught_rate: float = 5e-4
    taught_directions: int = 256  # principal components of what the teacher says
    decoder: DecoderName = "layered"
    decoder_width: int = 256  # channels of the layered decoder's first layer; each next: half
    decoder_norm: bool = False
    reconstruction_size: int = 0  # side of the reconstruction; 0: as the input
    head: tuple[int, ...] = ()  # widths of hidden dense layers
    head_norm: bool = False  # standardise the features by batch statistics first
    dropout: float = 0.0
    experts: int = 0  # kinds of picture with a head and a decoder of their own, by k-means; 0: one
    expert_column: str = ""  # a column of the manifest that names the kinds instead
    expert_least: int = 20  # training pictures of each class that an expert needs; else: merged

    # losses
    reconstruction: ReconstructionLoss = "hybrid"
    alpha_r: float = 0.84  # share of 1 - SSIM against L1
    beta: float = 0.15  # weight of the perceptual distance
    gamma_r: float = 1.0  # factor on the whole reconstruction loss
    reconstruction_share: float = 1.0  # part of each batch that is reconstructed
    perceptual: Perceptual = "stlpips-alex"
    classification: ClassificationLoss = "bce"
    smoothing: float = 0.1  # smoothed-bce: how far the targets move towards 0.5, both together
    alpha_c: float = 0.25  # focal: weight of the fake class; below 0: none
    gamma_c: float = 2.0  # focal: focusing exponent
    class_balance_loss: bool = False  # weigh each class by 0.5 / its share of the draws
    r_weight: float = 1.0
    c_weight: float = 1.0
    class_weight: float = -1.0  # share s: (1 - s) * reconstruction + s * classification; < 0: none
    c_off: float = 0.0  # fraction of the epochs at the start without classification loss
    c_ramp: float = 0.0  # fraction of the epochs over which its weight then rises linearly

    # schedule
    epochs: int = 10
    batch_size: int = 16  # of all processes together
    # lbfgs: all cached draws at once; a frozen encoder and a head without hidden layers alone.
    optimizer: Optimizer = "adamw"
    accumulate: int = 1  # batches whose gradients make one step
    learning_rate: float = 3e-4
    encoder_learning_rate: float = 0.0  # for the unfrozen stages; 0: as learning_rate
    weight_decay: float = 0.0  # lbfgs: the factor of the squared norm in the loss
    cosine: bool = False  # anneal the learning rate to zero over the epochs in which a part learns
    patience: int = 0  # epochs without a better validation AUC before stopping; 0: never
    ema: float = 0.0  # decay per step of the weights' moving average, which is judged; 0: none
    precision: Precision = "auto"  # auto: float16 on CUDA, float32 on the CPU
    workers: int = 2
    seed: int = 0
    deterministic: bool = False  # PyTorch's algorithms that repeat to the bit, where it has them

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(self):
            allowed = get_args(hints[item.name])
            value = getattr(self, item.name)
            if allowed and isinstance(allowed[0], str) and value not in allowed:
                choices = ", ".join(allowed)
                raise UsageError(f"{item.name} = {value!r}: it must be one of {choices}")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} = {value}: it must lie in {low:g}..{high:g}")
        if (self.decoder == "none") != (self.reconstruction == "none"):
            raise UsageError("decoder and reconstruction are either both none or neither is")
        if self.encoder == "conv" and self.unfrozen != -1:
            raise UsageError("encoder conv has no pretrained weights: unfrozen must be -1 (all)")
        if (self.encoder == "clip-vit-b16") != bool(self.encoder_taps):
            raise UsageError("encoder_taps names blocks of encoder clip-vit-b16, and of no other")
        if self.experts == 1 or (self.experts and self.expert_column):
            raise UsageError("experts must be 2 or more, or 0 where expert_column names the kinds")
        split = 0 < self.unfrozen < 8 and self.encoder == "efficientnet-lite0"
        if self.cached_draws and (self.views != 1 or (self.unfrozen and not split)):
            raise UsageError(
                "cached_draws needs one view and an encoder of which the first stages are frozen: "
                "unfrozen = 0, or up to 7 of efficientnet-lite0"
            )
        if self.teacher and not (
            self.encoder == "efficientnet-lite0" and self.cached_draws and not self.unfrozen
        ):
            raise UsageError(
                "teacher teaches encoder efficientnet-lite0, which is frozen afterwards: "
                "unfrozen = 0 and cached_draws above 0"
            )
        if self.optimizer == "lbfgs":
            needed = {
                "head": (), "decoder": "none", "experts": 0, "expert_column": "", "ema": 0.0,
                "unfrozen": 0,
            }  # fmt: skip
            wrong = [n for n, value in needed.items() if getattr(self, n) != value]
            if wrong or not self.cached_draws or self.c_off or self.c_ramp:
                raise UsageError(
                    "optimizer = 'lbfgs' fits one layer on cached_draws, without hidden layers, "
                    "unfrozen stages, decoder, experts, ema, c_off and c_ramp"
                )
        if self.unfrozen and 0 < self.epochs <= self.freeze_epochs:
            raise UsageError(
                f"freeze_epochs = {self.freeze_epochs} leaves none of {self.epochs} epochs to the "
                "unfrozen stages; lower it, or give more epochs"
            )

    @property
    def prior(self) -> float | None:
        """The share of fakes that `real_per_fake` states, in 0..1; None where it does not."""
        return 1 / (1 + self.real_per_fake) if self.real_per_fake else None

    def preprocess(self, mean: tuple[float, ...], std: tuple[float, ...]) -> PreprocessSpec:
        """The preprocessing of this fit, with the encoder's own normalisation."""
        return PreprocessSpec(
            size=self.size,
            mean=(mean[0], mean[1], mean[2]),
            std=(std[0], std[1], std[2]),
            views=self.views,
            resampling=self.resampling,
            grey=self.grey,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON or TOML can hold them."""
        taps = list(self.encoder_taps)
        return {**asdict(self), "head": list(self.head), "encoder_taps": taps}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("sample", 1e-6, 1),
    ("val_fraction", 0.01, 0.9),
    ("max_per_source", 0, 10**9),
    ("real_per_fake", 0, 10**6),
    ("size", 16, 2048),
    ("views", 1, 16),
    ("unfrozen", -1, 100),
    ("freeze_epochs", 0, 10**6),
    ("taught_stages", 1, 7),
    ("taught_epochs", 1, 10**4),
    ("taught_rate", 1e-9, 1),
    ("taught_directions", 1, 10**4),
    ("reconstruction_size", 0, 2048),
    ("decoder_width", 16, 4096),
    ("cached_draws", 0, 1000),
    ("dropout", 0, 0.95),
    ("experts", 0, 64),
    ("expert_least", 1, 10**6),
    ("alpha_r", 0, 1),
    ("beta", 0, 100),
    ("gamma_r", 0, 100),
    ("smoothing", 0, 0.9),
    ("alpha_c", -1, 1),
    ("gamma_c", 0, 20),
    ("r_weight", 0, 1e6),
    ("c_weight", 0, 1e6),
    ("class_weight", -1, 1),
    ("reconstruction_share", 0.001, 1),
    ("c_off", 0, 1),
    ("c_ramp", 0, 1),
    ("epochs", 1, 10**6),
    ("batch_size", 1, 65536),
    ("accumulate", 1, 65536),
    ("learning_rate", 1e-9, 10),
    ("encoder_learning_rate", 0, 10),
    ("weight_decay", 0, 10),
    ("patience", 0, 10**6),
    ("ema", 0, 0.999999),
    ("workers", 0, 256),
    ("seed", 0, 2**31 - 1),
)


def preset_names() -> list[str]:
    """Names of the presets that are installed, in alphabetical order."""
    folder = resources.files("trainer") / "presets"
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )


def load_config(preset: str, overrides: Mapping[str, Any] | None = None) -> FitConfig:
    """A preset by name, or a TOML file by path, with single fields replaced.

    A TOML may name what it starts from: a preset, `base = "default"`, or another TOML, whose
    relative path counts from its own folder. Raises UsageError that names the file and field.
    """
    values = _load_values(preset, seen=())
    values.update(overrides or {})
    return config_from_dict(values, origin=preset)


def config_from_dict(values: Mapping[str, Any], origin: str) -> FitConfig:
    """Check names and types, then build; raises UsageError."""
    hints = get_type_hints(FitConfig)
    known = {}
    for name, value in values.items():
        if name not in hints:
            raise UsageError(f"{origin}: no setting is called {name!r}")
        known[name] = _as_type(value, hints[name], f"{origin}: {name}")
    try:
        return FitConfig(**known)
    except TypeError as error:
        raise UsageError(f"{origin}: {error}") from None


def _load_values(preset: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if preset in seen:
        raise UsageError(f"{preset}: presets start from each other in a circle")
    path = Path(preset)
    if preset in preset_names():
        text = (resources.files("trainer") / "presets" / f"{preset}.toml").read_text("utf-8")
    elif path.suffix == ".toml" and path.is_file():
        text = path.read_text("utf-8")
    else:
        raise UsageError(
            f"{preset}: neither a preset ({', '.join(preset_names())}) nor a .toml file"
        )
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{preset}: not valid TOML: {error}") from None
    base = raw.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UsageError(f"{preset}: base must be the name of a preset or a .toml file")
    if base is not None and base not in preset_names():
        base = str((path.parent / base).resolve())
    values = _load_values(base, (*seen, preset)) if base is not None else {}
    values["preset"] = path.stem
    for key, value in raw.items():
        values.update(value if isinstance(value, dict) else {key: value})
    return values


def _as_type(value: Any, hint: Any, what: str) -> Any:
    if hint == tuple[int, ...]:
        if not isinstance(value, list | tuple) or any(type(v) is not int or v < 1 for v in value):
            raise UsageError(f"{what} must be a list of whole numbers above 0")
        return tuple(value)
    wanted = str if get_args(hint) else hint
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise UsageError(f"{what} = {value!r}: it must be of type {wanted.__name__}")
    return value
