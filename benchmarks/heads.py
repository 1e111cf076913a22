"""Logistic regression on cached encodings, each family left out: which encodings are worth it.

    python -m benchmarks.heads --data pictures --cache encoded --blocks 6 7 8 --draws 2 \\
        --family sd1=sd15,grids-sd15-2x2,mixed-diffusion --family art=art,art-crops

A look of minutes, before `trainer benchmark` fits the real heads. The encodings are those that
`trainer benchmark --set encoder_taps=[4,5,6,7,8]` keeps in its cache; what is missing is
computed. Features are standardised by all pictures to learn from, those of the left-out family
among them though without their labels, which flatters by half a point to one; --own-scale leaves
them out. With --aligned, real training pictures also pass through a tiny autoencoder (see
benchmarks/aligned.py) and count as fakes. Thresholds are fitted to the other families' scores.
docs/model-quality.md states what was found.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.aligned import Pairs
from benchmarks.folds import HEADER, Ground, add_options, encodings, judge, read
from benchmarks.head_fits import LOSSES, Head, HeadFit
from trainer.config import FitConfig, load_config
from trainer.data import FAKE, Sample

WIDTH = 768  # of CLIP ViT-B/16
STATISTICS = ("class", "mean", "deviation")


def columns(config: FitConfig, blocks: Sequence[int], statistics: Sequence[str]) -> list[int]:
    """Places of these blocks' statistics among the features."""
    taken: list[int] = []
    for block in blocks:
        for statistic in statistics:
            place = config.encoder_taps.index(block) * 3 + STATISTICS.index(statistic)
            taken += range(place * WIDTH, (place + 1) * WIDTH)
    return taken


def weights(
    sources: Sequence[str], fake: Sequence[bool], made: Sequence[bool], share: float
) -> Tensor:
    """Each class alike, each source alike within it, float32 [N] of sum 1; the pictures that
    were `made` out of real ones take `share` of the fakes' part."""
    kinds = list(zip(sources, fake, made, strict=True))
    count = Counter(kinds)
    of_class = Counter((f, m) for _, f, m in count)
    any_made = any(made)
    part = {
        (False, False): 0.5,
        (True, False): 0.5 * (1 - share) if any_made else 0.5,
        (True, True): 0.5 * share,
    }
    each = {k: part[k[1], k[2]] / of_class[k[1], k[2]] / n for k, n in count.items()}
    return torch.tensor([each[kind] for kind in kinds], dtype=torch.float32)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--cached-blocks", type=int, nargs="+", default=[4, 5, 6, 7, 8])
    parser.add_argument("--blocks", type=int, nargs="+", default=[6, 7, 8])
    parser.add_argument("--statistics", nargs="+", choices=STATISTICS, default=list(STATISTICS))
    parser.add_argument("--augment", choices=("neutral", "uncropped"), default="uncropped")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--l2", type=float, default=1e-3)
    parser.add_argument("--loss", choices=LOSSES, default="bce")
    parser.add_argument("--hidden", type=int, default=0, help="units of a perceptron (none)")
    parser.add_argument("--dro-rounds", type=int, default=0, help="of group-DRO over sources")
    parser.add_argument("--with-fast", type=Path, metavar="CACHE",
                        help="beside them the encodings of the preset `default`")  # fmt: skip
    parser.add_argument("--without-clip", action="store_true", help="those alone")
    parser.add_argument("--own-scale", action="store_true",
                        help="standardise without the left-out family")  # fmt: skip
    parser.add_argument("--apart", type=float, default=0.0,
                        help="penalty on how far sources of a class lie apart")  # fmt: skip
    parser.add_argument("--save", type=Path, help="JSON of all left-out scores")
    parser.add_argument("--aligned", type=Path, metavar="WEIGHTS", help="folder of taef2_*.pth")
    parser.add_argument("--aligned-share", type=float, default=0.2, help="of the fakes' weight")
    parser.add_argument("--aligned-per-source", type=int, default=120)
    parser.add_argument("--matched", action="store_true", help="their spectra too (--aligned)")
    parser.add_argument("--plain", action="store_true", help="without the lottery (--aligned)")
    asked = parser.parse_args()

    settings = {"holdout": asked.holdout, "workers": 0, "augment": asked.augment,
                "encoder_taps": tuple(asked.cached_blocks)}  # fmt: skip
    config = load_config("accurate", settings)
    ground = Ground.load(asked, config)
    train = ground.train
    encoded = encodings(asked, ground, config)
    taken = columns(config, asked.blocks, asked.statistics)
    fast = None
    if asked.with_fast:
        same = {key: settings[key] for key in ("holdout", "workers", "augment")}
        small = load_config("default", same)
        of_fast = argparse.Namespace(**{**vars(asked), "cache": asked.with_fast})
        fast = encodings(of_fast, ground, small)

    def features(variant: str, of: Sequence[Sample]) -> Tensor:
        parts = [] if asked.without_clip else [read(encoded, variant, of)[:, taken]]
        parts += [read(fast, variant, of)] if fast is not None else []
        return torch.cat(parts, dim=1)

    parts = [features(f"lottery-{draw}", train) for draw in range(asked.draws)]
    learnt = train * asked.draws
    made = [False] * len(learnt)
    if asked.aligned:
        pairs = Pairs(asked.aligned, encoded, asked.aligned_per_source, matched=asked.matched,
                      plain=asked.plain)  # fmt: skip
        of, originals, remade = pairs.read(train)
        parts += [originals[:, taken], remade[:, taken]]
        learnt += of + of
        made += [False] * len(of) + [True] * len(of)
    x = torch.cat(parts)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    fake = [s.label == FAKE or m for s, m in zip(learnt, made, strict=True)]
    labels = torch.tensor(fake, dtype=torch.float32)
    fit = HeadFit(asked.loss, asked.l2, asked.hidden, asked.dro_rounds, asked.apart)

    def without(name: str) -> Head:
        groups = ground.groups(name)
        kept = [i for i, s in enumerate(learnt) if s.group not in groups]
        weight = torch.zeros(len(learnt))
        weight[kept] = weights([learnt[i].source for i in kept], [fake[i] for i in kept],
                               [made[i] for i in kept], asked.aligned_share)  # fmt: skip
        sources = [s.source for s in learnt]
        if not asked.own_scale:
            head = fit(x, labels, weight, sources, config.seed)
            return lambda raw: head((raw - mean) / deviation)
        centre, scale = x[kept].mean(0), x[kept].std(0) + 1e-6
        head = fit((x - centre) / scale, labels, weight, sources, config.seed)
        return lambda raw: head(((raw - mean) / deviation - centre) / scale)

    judged = judge(ground, without, features, asked.limit)
    if asked.save:
        rows = [{"family": s.family, "label": "fake" if s.fake else "real", "tier": s.tier,
                 "logits": s.logits} for s in judged.scores]  # fmt: skip
        asked.save.write_text(json.dumps({"left_out": rows}), encoding="utf-8")
    print("\n".join([HEADER, *judged.rows()]), flush=True)


if __name__ == "__main__":
    main()
