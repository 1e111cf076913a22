"""What is worth learning from: no lottery, the lottery, and pictures changed before it.

    python -m benchmarks.roads --data pictures --cache encoded --ways blur noise screenshot

Each way replaces the second draw; the first rows are no lottery at all, one draw and two, of the
same pictures. Or --variants names what is learnt from. Heads are logistic regressions on the
frozen encoder of --preset, every family left out in turn. docs/model-quality.md states what was
found.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.changed import CUT_MIX, WAYS
from benchmarks.folds import HEADER, Ground, add_options, encodings, judge, read, standard_fit
from trainer.config import load_config

KNOWN = [*WAYS, CUT_MIX]


def main() -> None:
    """Print one table for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--preset", choices=("default", "accurate"), default="default")
    parser.add_argument("--augment", choices=("neutral", "uncropped"), default="neutral",
                        help="the lottery")  # fmt: skip
    parser.add_argument("--per-source", type=int, default=0, help="pictures to learn from")
    parser.add_argument("--ways", nargs="*", choices=KNOWN, default=KNOWN)
    parser.add_argument("--variants", nargs="+", action="append", metavar="VARIANT",
                        help="learn from these: clean, web, lottery-N, WAY+lottery-N")  # fmt: skip
    asked = parser.parse_args()
    settings = {"holdout": asked.holdout, "workers": 0, "augment": asked.augment}
    config = load_config(asked.preset, settings)
    ground = Ground.load(asked, config, asked.per_source)
    kept = encodings(asked, ground, config)
    print(f"{len(ground.train)} pictures to learn from", flush=True)
    sets = asked.variants or [
        ["clean"],
        ["lottery-0"],
        ["lottery-0", "lottery-1"],
        *(["lottery-0", f"{way}+lottery-1"] for way in asked.ways),
    ]
    for variants in sets:
        started = time.process_time()
        parts = [(ground.train, read(kept, variant, ground.train)) for variant in variants]
        fit = standard_fit(ground, parts)
        judged = judge(ground, fit, lambda tier, of: read(kept, tier, of), asked.limit)
        spent = time.process_time() - started
        title = f"\n{' and '.join(variants)} ({spent:.0f} s of CPU)"
        print("\n".join([title, HEADER, *judged.rows()]), flush=True)


if __name__ == "__main__":
    main()
