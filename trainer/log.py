"""What a fit says of each epoch: log.csv, and TensorBoard events beside it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One line of the log. Losses are means over the epoch's pictures; `seconds` of wall time."""

    epoch: int
    epochs: int
    loss: float
    reconstruction_loss: float
    classification_loss: float
    val_auc: float
    val_balanced_accuracy: float  # at `even_cut`, before calibration
    val_reconstruction_error: float
    learning_rate: float
    seconds: float
    best: bool


class Log:
    """log.csv, and TensorBoard events where that package is installed.

    `first`: how many epochs the run already has; their lines stay, later ones are dropped. Unless
    `enabled`, nothing is opened or written.
    """

    def __init__(self, out: Path, first: int, *, enabled: bool = True) -> None:
        self._stream: TextIO | None = None
        self._board: Any = None
        if not enabled:
            return
        path = out / "log.csv"
        kept = path.read_text("utf-8").splitlines()[: first + 1] if first else []
        self._stream = path.open("w", newline="", encoding="utf-8")
        self._stream.write("".join(line + "\n" for line in kept))
        self._csv = csv.writer(self._stream, lineterminator="\n")
        if not first:
            self._csv.writerow(EpochReport.__slots__)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return  # log.csv says the same
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1)

    def write(self, report: EpochReport) -> None:
        """Add one epoch, at once on disk."""
        if self._stream is None:
            return
        self._csv.writerow([_cell(getattr(report, name)) for name in EpochReport.__slots__])
        self._stream.flush()
        if self._board is not None:
            for name in EpochReport.__slots__[2:10]:
                self._board.add_scalar(name, getattr(report, name), report.epoch)
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        if self._stream is not None:
            self._stream.close()
        if self._board is not None:
            self._board.close()


def _cell(value: float | int | bool) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(int(value))
