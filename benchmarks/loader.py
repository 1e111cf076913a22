"""Is loading the bottleneck? The loader's pictures per second beside the training step's.

    python -m benchmarks.loader            several minutes; --pictures 8 --rounds 2 for a look
    python -m benchmarks.loader --cpu      per second of one core instead, on a busy machine

Generated camera-like JPEGs of 12 megapixels from a seed, in a temporary folder; nothing is
downloaded. docs/training.md states the figures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.draft_decode import CAMERA, CONTENTS, jpeg, picture
from trainer.allocator import keep_freed_memory
from trainer.batches import Batch, FromCache, maps_of
from trainer.config import FitConfig, load_config
from trainer.data import Sample, Splits, load_samples
from trainer.decoded import DecodedPictures, fit_recipes
from trainer.encoded import EncodedPictures
from trainer.encoders import Encoded
from trainer.loader import Pictures, eval_batches
from trainer.losses import ClassificationLoss, ReconstructionLoss
from trainer.models import AutoencoderClassifier

PRESETS = (
    "conv-ae", "transfer-hybrid", "focal-optuna", "youden", "best", "grey", "cnn", "default"
)  # fmt: skip


@dataclass(frozen=True)
class Loading:
    """Pictures per second; `cached_bytes` is what the cache takes for each of them."""

    without: float
    first_pass: float
    cached: float
    cached_bytes: float


def make_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[Sample]:
    """`count` JPEGs of quality 90 with camera-like content, half of each class."""
    scenes = [content for content in CONTENTS if content not in ("fabric", "colour")]
    for number in range(count):
        data = jpeg(
            picture(scenes[number % len(scenes)], size, seed=number),
            quality=90,
            subsampling="4:2:0",
        )
        path = folder / ("real", "fake")[number % 2] / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return load_samples(folder)


def loading(
    config: FitConfig, samples: list[Sample], workers: int, rounds: int, folder: Path
) -> Loading:
    """Of one epoch over `rounds` times `samples`: what the start of workers costs fades."""
    spec = config.preprocess((0, 0, 0), (1, 1, 1))
    many = [replace(s, key=f"{r}/{s.key}") for r in range(rounds) for s in samples]
    config = replace(config, workers=workers)

    def epoch(decoded: DecodedPictures | None) -> float:
        pictures = Pictures(many, spec, augmentation=config.augment, decoded=decoded)

        def batches() -> int:
            return sum(len(label) for _, label, _ in eval_batches(pictures, config))

        return _rate(len(many), batches, at_least=2.0)

    without = epoch(None)
    cache = DecodedPictures(folder, limit=10**12)
    recipe, _ = fit_recipes(spec, config.augment)
    first = _rate(len(samples), lambda: cache.fill([(s, recipe) for s in samples]))
    cache.fill([(s, recipe) for s in many])  # the same content by other names: nothing is decoded
    sizes = [path.stat().st_size for path in cache.folder.rglob("*.pixels")]
    return Loading(without, first, epoch(cache), sum(sizes) / len(sizes))


def encoding_rate(config: FitConfig, device: torch.device) -> float:
    """Pictures per second through a frozen encoder, in batches of 32 as the cache takes them."""
    model = AutoencoderClassifier(replace(config, encoder_weights="none"))
    encoder = model.encoder.to(device, memory_format=torch.channels_last).eval()
    pixels = torch.rand(32, 3, config.size, config.size, device=device)

    @torch.inference_mode()
    def encode() -> None:
        encoder(pixels.contiguous(memory_format=torch.channels_last))

    return _steady(32, encode, device)


def encodings_rate(
    config: FitConfig, samples: list[Sample], device: torch.device, folder: Path
) -> float:
    """Pictures per second out of the cache of a frozen encoder's answers, as epochs read them."""
    config = replace(config, encoder_weights="none", workers=0, cached_draws=1)
    many = [replace(s, key=f"{r}/{s.key}") for r in range(8) for s in samples]
    model = AutoencoderClassifier(config)
    encoded = EncodedPictures(folder, model, many, config, device)
    splits = Splits(train=tuple(many), val=tuple(many[:2]), holdout=())
    source = FromCache(model, splits, config, device, None, encoded)

    def epoch() -> int:
        return sum(len(batch.label) for batch in source.train(0))

    return epoch() * _rate(1, epoch, at_least=1.0)


def step_rate(config: FitConfig, device: torch.device) -> float:
    """Pictures per second of training steps; a frozen encoder's answers are given."""
    model = AutoencoderClassifier(replace(config, encoder_weights="none")).to(device)
    model.set_trained_stages(config.unfrozen)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    classify = ClassificationLoss(config)
    rebuild = ReconstructionLoss(config).to(device) if model.decoder is not None else None
    count = config.batch_size
    maps = maps_of(model, config, count)
    pixels = torch.rand(count, 3, config.size, config.size, device=device)
    label = torch.arange(count, device=device) % 2
    with torch.no_grad():
        frozen = model.encoder(pixels)

    def step() -> None:
        encoded = frozen if config.cached_draws else model.encoder(pixels)
        few = Encoded(encoded.deepest[:maps], encoded.features)
        batch = Batch(few, model.target(pixels[:maps]), label)
        output = model.from_encoded(batch.encoded)
        loss = classify(output.logit, batch.label)
        if rebuild is not None:
            loss = loss + rebuild(output.reconstruction, batch.target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return _steady(count, step, device)


def _steady(count: int, work: Callable[[], object], device: torch.device) -> float:
    """Pictures per second, the quickest of 5 after one that is not counted."""

    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    whole()
    return max(_rate(count, whole, at_least=0.2) for _ in range(5))


def _rate(count: int, work: Callable[[], object], *, at_least: float = 0.0) -> float:
    """Pictures per second of `work`, done again until `at_least` seconds have gone."""
    start, rounds = _clock(), 0
    while not rounds or _clock() - start < at_least:
        work()
        rounds += 1
    return count * rounds / (_clock() - start)


def _cpu_seconds() -> float:
    """Of this process, all its threads, and the workers that have ended."""
    return sum(os.times()[:4])


_clock: Callable[[], float] = time.perf_counter


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--pictures", type=int, default=24, help="files (default 24)")
    parser.add_argument("--rounds", type=int, default=4, help="draws of each (default 4)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--threads", type=int, help="CPU threads of the training step")
    parser.add_argument("--cpu", action="store_true", help="per second of one core")
    asked = parser.parse_args()
    if asked.cpu:
        global _clock
        _clock = _cpu_seconds
    keep_freed_memory()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    unit = "second of one core" if asked.cpu else "second"
    print(f"{os.cpu_count()} cores, training step on {name}; pictures per {unit}\n")
    titles = ["preset", "workers", "no cache", "first pass", "cached", "MB each"]
    titles += ["encoding", "encodings read", "step"]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    with tempfile.TemporaryDirectory() as folder:
        samples = make_pictures(Path(folder) / "pictures", asked.pictures, CAMERA)
        known: dict[tuple[int, str, bool, int], Loading] = {}  # presets load alike
        for preset in asked.preset:
            config = load_config(preset)
            if config.perceptual.startswith("lpips"):
                # The same trunk; its weights come with a package, LPIPS's are a download.
                config = replace(config, perceptual="st" + config.perceptual)
            step, encoding, read = step_rate(config, device), None, None
            if config.cached_draws:
                encoding = encoding_rate(config, device)
                read = encodings_rate(config, samples, device, Path(folder) / "encoded")
            for workers in asked.workers:
                kind = (config.size, config.augment, config.grey, workers)
                if kind not in known:
                    cache = Path(folder) / f"cache-{len(known)}"
                    known[kind] = loading(config, samples, workers, asked.rounds, cache)
                    shutil.rmtree(cache)
                rates = known[kind]
                print(
                    f"| {preset} | {workers} | {rates.without:.1f} | {rates.first_pass:.1f} | "
                    f"{rates.cached:.1f} | {rates.cached_bytes / 1e6:.2f} | "
                    f"{_cell(encoding)} | {_cell(read)} | {step:.1f} |",
                    flush=True,
                )


def _cell(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"


if __name__ == "__main__":
    main()
