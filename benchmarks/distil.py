"""Whether EfficientNet-Lite0, taught by the accurate model, judges left-out families better.

    python -m benchmarks.distil --data pictures --cache encoded --maps maps --out distil.json \\
        --family sd1=sd15,grids-sd15-2x2,mixed-diffusion --family art=art,art-crops

The teacher is logistic regression on CLIP's blocks, fitted without the families left out; what it
says of a picture to learn from comes of a fit without that picture's group (or, with --inner
families, without its family). The loss is Hinton's (2015): (1 - alpha) times the labels' cross-
entropy, and alpha T^2 times that with the teacher's tempered probabilities.

- heads: small heads on frozen features, each family left out, as benchmarks.heads does it; the
  AUC is against pictures of known sources.
- tune: the last two stages are tuned, from the 14 x 14 maps that enter them, kept in --maps. Batch
  normalisation keeps its statistics. The head starts as the logistic regression that `frozen`
  is scored by. Families are left out in a few folds, several at once, and the AUC is between
  left-out families of both classes.

Each fit is kept in --out; a run that was stopped goes on there. docs/model-quality.md states what
was found.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.taught import Front, Ground, Tail, Taught, against, labels, read, weigh
from trainer.data import Sample, cap_per_source
from trainer.tiers import TIERS

STEPS = ("heads", "tune")


def heads(ground: Ground) -> None:
    """Each family left out in turn, each head with each mixture of targets."""
    asked, kept, fast = ground.asked, ground.kept, ground.fast()
    learnt = ground.train * asked.draws
    x = torch.cat([read(fast, f"lottery-{draw}", ground.train) for draw in range(asked.draws)])
    mixtures = [(0.0, 1.0), *((a, t) for a in asked.alphas for t in asked.temperatures)]
    fits = [Taught(hidden=h, alpha=a, temperature=t) for h in asked.hidden for a, t in mixtures]
    key = f"heads: {asked.blocks}, {asked.draws}, {asked.inner}, "
    for name in ground.names:
        if key + name in kept.found:
            continue
        started = time.process_time()
        targets = torch.stack([labels(learnt), ground.teacher([name])], 1)
        print(f"{name}: teacher, {time.process_time() - started:.0f} s of CPU", flush=True)
        out = ground.of([name])[0]
        gone = {s.group for s in out}
        rows = [i for i, s in enumerate(learnt) if s.group not in gone]
        mean, deviation = x[rows].mean(0), x[rows].std(0) + 1e-6
        lesson, weight = (x[rows] - mean) / deviation, weigh([learnt[i] for i in rows])
        others = [s for s in ground.known if s.label != out[0].label]
        shown = {
            tier: [(read(fast, tier, of) - mean) / deviation for of in (out[: asked.limit], others)]
            for tier in TIERS
        }
        entry: dict[str, dict[str, object]] = {"scores": {}, "auc": {}, "cpu_s": {}}
        for fit in fits:
            started = time.process_time()
            head = fit(lesson, targets[rows], weight, [], ground.config.seed)
            said = {tier: [head(part).tolist() for part in shown[tier]] for tier in TIERS}
            entry["scores"][str(fit)] = {name: {tier: own for tier, (own, _) in said.items()}}
            entry["auc"][str(fit)] = {
                tier: [against(own, other, ground.is_fake[name])]
                for tier, (own, other) in said.items()
            }
            entry["cpu_s"][str(fit)] = time.process_time() - started
        kept.put(key + name, entry)
    ground.table(key, len(ground.names), list(TIERS))


def folds(ground: Ground) -> list[list[str]]:
    """Families, each in one fold, the classes dealt out in turn."""
    dealt: list[list[str]] = [[] for _ in range(ground.asked.folds)]
    for fake in (True, False):
        for place, name in enumerate(n for n in ground.names if ground.is_fake[n] == fake):
            dealt[place % len(dealt)].append(name)
    return dealt


def tune(ground: Ground) -> None:
    """A few families left out at once; frozen and tuned, by labels and by the teacher."""
    asked, kept, config = ground.asked, ground.kept, ground.config
    fronts, device = ground.fronts(), ground.device
    train = cap_per_source(ground.train, asked.per_source, config.seed)
    place = {s.key: i for i, s in enumerate(ground.train)}
    learnt = train * asked.draws
    # Of each picture to learn from, its place in what the teacher says.
    spoken = [d * len(place) + place[s.key] for d in range(asked.draws) for s in train]

    def shown(variant: str, of: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        rows = fronts.rows(of)
        fronts.fill(variant, rows, maps=True)
        maps = np.load(fronts.folder / f"{variant}.deepest.npy", mmap_mode="r")
        before = fronts.read(variant, rows, maps=0)[0].features
        # Half precision in memory too: single would be a gigabyte a draw.
        x = torch.from_numpy(maps[rows]).to(device, memory_format=torch.channels_last)
        return x, before.to(device)

    drawn = [shown(f"lottery-{draw}", train) for draw in range(asked.draws)]
    maps, before = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    encoder = Front("default")
    untuned = Tail(encoder).to(device)
    frozen = run(untuned.features, maps, before)
    key = f"tune: {asked.per_source} a source, {asked.draws}, {asked.inner}, {asked.folds}, "
    for names in folds(ground):
        gone = {s.group for out in ground.of(names) for s in out}
        rows = [i for i, s in enumerate(learnt) if s.group not in gone]
        tests = [out[: asked.tune_limit] for out in ground.of(names)]
        for alpha in asked.tune_alphas:
            fit = Taught(alpha=alpha, temperature=asked.tune_temperature)
            settings = f"{asked.epochs:g} epochs at {asked.lr:g}"
            where = f"{key}{' '.join(names)}, {fit}, {settings}"
            if where in kept.found:
                continue
            said = ground.teacher(names)[spoken] if alpha else torch.zeros(len(learnt))
            targets = torch.stack([labels(learnt), said], 1)
            started = time.process_time()
            tail = Tail(encoder).to(device)
            weight = weigh([learnt[i] for i in rows])
            tail.start(fit, frozen[rows], targets[rows], weight)
            tails = {f"{fit}, frozen": (copy.deepcopy(tail), time.process_time() - started)}
            average = descend(tail, fit, maps, before, targets, rows, weight, asked)
            spent = time.process_time() - started
            tails[f"{fit}, {settings}"] = tail, spent
            tails[f"{fit}, {settings}, averaged"] = average, spent
            entry: dict[str, dict[str, object]] = {"scores": {}, "auc": {}, "cpu_s": {}}
            for setting, (judge, seconds) in tails.items():
                logits: dict[str, dict[str, list[float]]] = {name: {} for name in names}
                for tier in asked.tune_tiers:
                    for name, test in zip(names, tests, strict=True):
                        logits[name][tier] = run(judge, *shown(tier, test)).tolist()
                entry["scores"][setting] = logits
                entry["auc"][setting] = {
                    tier: [against(logits[name][tier], [
                        z for other in names if ground.is_fake[other] != ground.is_fake[name]
                        for z in logits[other][tier]
                    ], ground.is_fake[name]) for name in names] for tier in asked.tune_tiers
                }  # fmt: skip
                entry["cpu_s"][setting] = seconds
            kept.put(where, entry)
            print(f"{where}: {spent:.0f} s of CPU, AUC " + str({
                setting: [round(float(np.mean(a)), 3) for a in of.values()]
                for setting, of in entry["auc"].items() if isinstance(of, dict)
            }), flush=True)  # fmt: skip
    ground.table(key, len(ground.names), asked.tune_tiers)


def descend(
    tail: Tail, fit: Taught, maps: Tensor, before: Tensor, targets: Tensor,
    rows: Sequence[int], weight: Tensor, asked: argparse.Namespace,
) -> Tail:  # fmt: skip
    """AdamW on all of `tail`, the rate falling to nought; returns the average of its weights."""
    torch.manual_seed(0)
    count = int(asked.epochs * len(rows))
    drawn = torch.tensor(rows)[torch.multinomial(weight, count, replacement=True)]
    batches = torch.split(drawn, 64)
    optimiser = torch.optim.AdamW(tail.parameters(), lr=asked.lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, len(batches))
    average = AveragedModel(tail, multi_avg_fn=get_ema_multi_avg_fn(asked.decay))  # type: ignore[no-untyped-call]
    for batch in batches:
        logits = tail(maps[batch], before[batch])
        loss = fit.each(logits, targets[batch].to(logits.device)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
        average.update_parameters(tail)
    module = average.module
    assert isinstance(module, Tail)
    return module


@torch.inference_mode()
def run(what: Callable[[Tensor, Tensor], Tensor], maps: Tensor, before: Tensor) -> Tensor:
    """In parts that fit into memory, [N, ...] on the CPU."""
    parts = zip(torch.split(maps, 256), torch.split(before, 256), strict=True)
    return torch.cat([what(x, y).cpu() for x, y in parts])


def main() -> None:
    """Do what is missing in --out, then print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--maps", type=Path, default=Path("maps"), help="folder")
    parser.add_argument("--out", type=Path, default=Path("distil.json"))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--holdout", default="val")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="that decode pictures")
    parser.add_argument("--augment", choices=("neutral", "uncropped"), default="uncropped")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--blocks", type=int, nargs="+", default=[6, 7, 8], help="the teacher's")
    parser.add_argument("--inner", choices=("groups", "families"), default="groups")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.5, 1])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1, 2, 4])
    parser.add_argument("--hidden", type=int, nargs="+", default=[0, 64])
    parser.add_argument("--limit", type=int, default=75)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--per-source", type=int, default=250)
    parser.add_argument("--tune-alphas", type=float, nargs="+", default=[0, 0.5])
    parser.add_argument("--tune-temperature", type=float, default=2)
    parser.add_argument("--tune-tiers", nargs="+", default=["clean", "hard"])
    parser.add_argument("--tune-limit", type=int, default=40)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--decay", type=float, default=0.98, help="of the averaged weights")
    asked = parser.parse_args()
    ground = Ground(asked)
    if "heads" in asked.steps:
        heads(ground)
    if "tune" in asked.steps:
        tune(ground)


if __name__ == "__main__":
    main()
