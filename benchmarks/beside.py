"""Whether another detector's score, set beside ours, judges left-out families better.

    python -m benchmarks.beside --ours benchmark-accurate.json --cache peer-scores \\
        --beside AEROBLADE-like
    python -m benchmarks.beside --ours benchmark-accurate.json --also benchmark.json

`--cache` is that of `benchmarks.peers`, which scored the same pictures; AEROBLADE-like is the
perceptual distance (LPIPS) between a picture and what TAEF2 makes of it. `--also` is another
model of ours, by what it was left without. Logistic regression on
our logit, or on both, is fitted to all families but one, families alike; it, its calibration and
its threshold are then judged on that family.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.peer_pictures import Family, read_left_out
from benchmarks.peer_scores import all_kept
from trainer.left_out import FamilyScores, LeftOutCalibration, cross_fitted, fit_left_out
from trainer.tiers import TIERS

Array = npt.NDArray[np.float64]
Rows = dict[tuple[Family, str], Array]  # family and tier -> [N, D]


def stacked(rows: Rows, family: str) -> dict[tuple[Family, str], FamilyScores]:
    """Logits of all by a regression that does not know `family`."""
    known = [(key, x) for key, x in rows.items() if key[0][0] != family]
    fake = np.concatenate([np.full(len(x), key[0][1]) for key, x in known])
    families = {c: len({key[0] for key, _ in known if key[0][1] == c}) for c in (True, False)}
    weight = np.concatenate([np.full(len(x), 1 / len(x) / families[k[0][1]]) for k, x in known])
    fitted = LogisticRegression(C=100.0).fit(
        np.concatenate([x for _, x in known]), fake, sample_weight=weight
    )
    return {
        (of, tier): FamilyScores(of[0], of[1], tier, tuple(fitted.decision_function(x).tolist()))
        for (of, tier), x in rows.items()
    }


def judged(name: str, rows: Rows) -> list[str]:
    """Rows of the table, one a tier."""
    held: list[FamilyScores] = []

    def without(family: str) -> tuple[LeftOutCalibration, list[FamilyScores]]:
        scores = stacked(rows, family).values()
        own = [s for s in scores if s.family == family]
        held.extend(own)
        return fit_left_out([s for s in scores if s.family != family]), own

    everything = list(stacked(rows, "").values())
    measured = cross_fitted(everything, without)
    lines = []
    for tier, figures in measured.items():
        of_tier = [s for s in held if s.tier == tier]
        auc = roc_auc_score(
            [s.fake for s in of_tier for _ in s.logits], [z for s in of_tier for z in s.logits]
        )
        rates = figures["points"]["youden"]
        cells = [f"{rates[key] * 100:.1f}" for key in (
            "balanced_accuracy", "left_out_generators_called_fake",
            "left_out_sources_called_real", "worst_source_called_real",
        )]  # fmt: skip
        lines.append(f"| {name} | {tier} | {' | '.join(cells)} | {auc:.3f} |")
    return lines


def main() -> None:
    """Print one table: ours alone, and with each of --also and --beside."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ours", type=Path, required=True, help="of `trainer benchmark`")
    parser.add_argument("--also", type=Path, nargs="+", default=[], help="of `trainer benchmark`")
    parser.add_argument("--cache", type=Path, help="of `benchmarks.peers`, for --beside")
    parser.add_argument("--beside", nargs="+", default=[], help="names of detectors there")
    asked = parser.parse_args()
    if not asked.also and not asked.beside:
        parser.error("give --also, or --cache and --beside")
    if asked.beside and asked.cache is None:
        parser.error("--beside needs the --cache that its scores are in")
    ours = read_left_out(asked.ours)
    others = {str(file): read_left_out(file).by_tier for file in asked.also}
    kept = all_kept(asked.cache, TIERS) if asked.beside else {}
    for name in asked.beside:
        if set(kept.get(name, ())) != set(TIERS):
            raise SystemExit(f"{asked.cache}: no scores of {name!r} at all tiers, of {list(kept)}")
        others[name] = {tier: kept[name][tier].scores for tier in TIERS}
    print("| scores | tier | left out: balanced accuracy | fakes found | real let pass | worst "
          "| AUC |\n|---|---|---|---|---|---|---|")  # fmt: skip
    # The pictures that all of them have, at every tier.
    pictures = {
        family: [k for k in keys if all(k in other[t] for other in others.values() for t in TIERS)]
        for family, keys in ours.keys.items()
    }
    if empty := [family for (family, _), keys in pictures.items() if not keys]:
        raise SystemExit(
            f"{asked.ours}: no pictures in common with the others of {', '.join(empty)}"
        )
    for names in [[], *([name] for name in others)]:
        rows: Rows = {
            (family, tier): np.array(
                [[ours.by_tier[tier][k], *(others[n][tier][k] for n in names)] for k in keys]
            )
            for family, keys in pictures.items()
            for tier in TIERS
        }
        print("\n".join(judged(" + ".join(["ours", *names]), rows)), flush=True)


if __name__ == "__main__":
    main()
