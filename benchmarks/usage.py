"""What processes take: CPU of a tree of them, of all others, memory and descriptors."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil


def busy_seconds() -> float:
    """CPU seconds that the whole machine has worked since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0.0)) + float(
        getattr(times, "softirq", 0.0) + getattr(times, "steal", 0.0)
    )


def tree_seconds(pid: int | None = None) -> float:
    """CPU seconds of a process and all below it that are there; those that ended are missed."""
    total = 0.0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


@dataclass
class Peak:
    """Highest of a process and all below it, sampled while entered: `megabytes` are PSS, which
    counts memory that processes share once; `files` are open descriptors; `cpu_seconds`."""

    pid: int | None = None
    every_s: float = 0.25
    megabytes: float = 0.0
    files: int = 0
    cpu_seconds: float = 0.0

    def __enter__(self) -> Peak:
        self._before = tree_seconds(self.pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.sample()
            if self._stop.wait(self.every_s):
                return

    def sample(self) -> tuple[float, int]:
        """(megabytes, open descriptors) at this moment."""
        memory, files = 0, 0
        try:
            root = psutil.Process(self.pid)
            family = [root, *root.children(recursive=True)]
            self.cpu_seconds = max(self.cpu_seconds, tree_seconds(self.pid) - self._before)
        except psutil.NoSuchProcess:
            return 0.0, 0
        for process in family:
            try:
                memory += process.memory_full_info().pss
                files += process.num_fds()
            except psutil.Error:
                continue
        self.megabytes = max(self.megabytes, memory / 2**20)
        self.files = max(self.files, files)
        return memory / 2**20, files


@dataclass
class Share:
    """Of the cores, what was left to us while entered: `core_seconds`, others' work deducted."""

    cores: int
    seconds: float = 0.0
    ours: float = 0.0
    core_seconds: float = 0.0

    def __enter__(self) -> Share:
        self._start, self._busy = time.perf_counter(), busy_seconds()
        self._own = Peak(os.getpid(), every_s=0.1)
        self._own.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self._own.__exit__(None, None, None)
        self.ours = self._own.cpu_seconds
        others = max(0.0, busy_seconds() - self._busy - self.ours)
        self.core_seconds = self.cores * self.seconds - others
