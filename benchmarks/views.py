"""Whether several views of a picture are judged better than one: flips and crops averaged.

    python -m benchmarks.views --data pictures --cache encoded --views flip zoom --tiers clean hard

The heads are those of `benchmarks.heads` on all blocks of the preset; every family is left out in
turn. Each view's logit counts alike. Rows are the middle square, each other view alone, it with
the middle square, and all.
docs/model-quality.md states what was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.changed import VIEWS
from benchmarks.folds import HEADER, Ground, add_options, encodings, judge, read, standard_fit
from benchmarks.head_fits import Head
from trainer.config import load_config
from trainer.data import Sample
from trainer.tiers import TIERS


def main() -> None:
    """Print one table for each set of views."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--preset", choices=("default", "accurate"), default="accurate")
    parser.add_argument("--augment", choices=("neutral", "uncropped"), default="uncropped")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--views", nargs="+", choices=[*VIEWS], default=["flip", "zoom"])
    parser.add_argument("--tiers", nargs="+", choices=[*TIERS], default=["clean", "hard"])
    parser.add_argument("--features", action="store_true", help="average these, not the logits")
    asked = parser.parse_args()
    settings = {"holdout": asked.holdout, "workers": 0, "augment": asked.augment}
    config = load_config(asked.preset, settings)
    ground = Ground.load(asked, config)
    kept = encodings(asked, ground, config)
    draws = [f"lottery-{draw}" for draw in range(asked.draws)]
    fits: dict[str, Head] = {}
    without = standard_fit(ground, [(ground.train, read(kept, d, ground.train)) for d in draws])

    def fit(name: str) -> Head:
        if name not in fits:
            fits[name] = without(name)
        head = fits[name]
        # [N, V, F] -> the mean of logits, or the logit of the mean.
        if asked.features:
            return lambda views: head(views.mean(1))
        return lambda views: head(views.flatten(0, 1)).reshape(views.shape[:2]).mean(1)

    sets = [["middle"], *([v] for v in asked.views), *(["middle", v] for v in asked.views)]
    if len(asked.views) > 1:
        sets.append(["middle", *asked.views])
    for views in sets:

        def features(tier: str, of: Sequence[Sample], views: Sequence[str] = views) -> Tensor:
            variants = [tier if view == "middle" else f"{view}@{tier}" for view in views]
            return torch.stack([read(kept, variant, of) for variant in variants], dim=1)

        judged = judge(ground, fit, features, asked.limit, asked.tiers, against=False)
        print("\n".join([f"\n{' and '.join(views)}", HEADER, *judged.rows()]), flush=True)


if __name__ == "__main__":
    main()
