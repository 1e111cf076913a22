"""Scores of a detector at a tier, kept on disk picture by picture: a killed run goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.peer_detectors import Peer
from scanner.errors import UsageError
from trainer.checkpoint import write_json


@dataclass(slots=True)
class Kept:
    """Of one detector (`name`, `made_of` these weights, `own` thresholds) at one tier, by the
    picture's key: `scores`, and the CPU `seconds` that each took."""

    name: str
    tier: str
    made_of: str
    own: dict[str, float]
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it whole, by a temporary name."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(_path(folder, self.name, self.tier), asdict(self))


def kept_for(folder: Path, peer: Peer, tier: str) -> Kept:
    """What is in `folder` of this detector; UsageError if that is of other weights."""
    made_of = peer.made_of()
    path = _path(folder, peer.name, tier)
    if not path.exists():
        return Kept(peer.name, tier, made_of, dict(peer.own))
    kept = _read(path)
    if kept.made_of != made_of:
        raise UsageError(f"{path}: scores of other weights of {peer.name}; remove the file")
    kept.own = dict(peer.own)
    return kept


def all_kept(folder: Path, tiers: Iterable[str]) -> dict[str, dict[str, Kept]]:
    """Name -> tier -> scores, whatever detectors `folder` holds; no weights are needed."""
    result: dict[str, dict[str, Kept]] = {}
    for path in sorted(folder.glob("*.json")):
        kept = _read(path)
        if kept.tier in tiers:
            result.setdefault(kept.name, {})[kept.tier] = kept
    return result


def _path(folder: Path, name: str, tier: str) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.{tier}.json"


def _read(path: Path) -> Kept:
    try:
        raw = json.loads(path.read_text("utf-8"))
        if not isinstance(raw, Mapping):
            raise TypeError("not an object")
        return Kept(**raw)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: no scores of this benchmark ({error}); remove it") from None
