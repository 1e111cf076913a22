"""How fast a scan is, beside what the hardware allows and beside the usual ways.

    python -m benchmarks.throughput              every part but the soak
    python -m benchmarks.throughput --quick      a look: fewer files
    python -m benchmarks.throughput --parts bound rivals
    python -m benchmarks.throughput --soak       200,000 files in one scan
    python -m benchmarks.throughput --parts models --pictures FOLDER

All pictures are generated from a seed, in a temporary folder. How many a cascade scores twice hangs
on what they show, so `models` takes real ones too. What names no model is of the fast one.
docs/performance.md states the figures. Other work on the machine makes every rate lower: compare
those of one run only.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.picture_set import mixed, tiny
from benchmarks.usage import Peak, Share
from scanner.bundle import Bundle, read_bundle
from scanner.cascade import open_model
from scanner.detector import Detector
from scanner.embedded import EMBEDDED
from scanner.find import find_images
from scanner.images import decode
from scanner.journal import Journal
from scanner.journal.pipeline import pipeline_of
from scanner.limits import Limits, default_workers
from scanner.memory import Memory
from scanner.preprocess import normalised, resized_squares
from scanner.scan import Scorer, scan
from scanner.types import ImageRef, Pixels
from scanner.verdict import operating_point

CORES = default_workers()


def row(what: str, value: str, wanted: str = "") -> None:
    """One line of the table."""
    print(f"| {what} | {value} | {wanted} |", flush=True)


def scanned(folder: Path, scorer: Scorer, bundle: Bundle, memory: Memory | None = None) -> int:
    """Scan all of `folder`; how many results there were."""
    results = scan(
        find_images([folder]),
        scorer,
        point=operating_point(bundle),
        batch_size=16,
        limits=Limits(CORES),
        memory=memory,
    )
    return sum(1 for _ in results)


def seconds_alone(paths: list[Path], bundle: Bundle) -> tuple[float, float, float]:
    """CPU seconds a file of decoding, preparing and inference, each by itself on one core."""
    detector = Detector(bundle, "cpu")
    spec = bundle.spec
    decoding = preparing = inference = 0.0
    for path in paths:
        start = time.process_time()
        pixels = decode(ImageRef(path), spec)
        assert isinstance(pixels, Pixels)
        decoding -= start - (start := time.process_time())
        batch = normalised(resized_squares(pixels.rgb, spec, pixels.box), spec)[None]
        preparing -= start - (start := time.process_time())
        detector.score(batch)
        inference -= start - time.process_time()
    count = len(paths)
    return decoding / count, preparing / count, inference / count


def bound(folder: Path, bundle: Bundle, rounds: int) -> float:
    """End to end beside the bound; files per second of the best round."""
    paths = sorted(folder.iterdir())[:64]
    parts = min((seconds_alone(paths, bundle) for _ in range(rounds)), key=sum)
    for name, part in zip(("decode", "prepare", "infer"), parts, strict=True):
        row(f"CPU a file to {name}, alone", f"{part * 1000:.2f} ms")
    limit = CORES / sum(parts)
    row(f"bound: {CORES} cores / CPU a file", f"{limit:.1f} files/s")
    detector = Detector(bundle, "cpu")
    shares = []
    for _ in range(rounds):
        with Share(CORES) as share:
            count = scanned(folder, detector, bundle)
        shares.append(share)
    best = max(shares, key=lambda share: 1 / share.seconds)
    rate = count / best.seconds
    row("end to end", f"{rate:.1f} files/s")
    row("ratio to the bound", f"{rate / limit:.3f}", "0.90")
    fair = max(count * sum(parts) / share.core_seconds for share in shares)
    row("the same, of the cores that other programs left", f"{fair:.3f}", "0.90")
    overhead = min(share.ours / count / sum(parts) for share in shares)
    row("CPU of all processes to that of the parts alone", f"{overhead:.3f}")
    return rate


def rivals(folder: Path, bundle: Bundle, ours: float, count: int) -> None:
    """The usual ways over the same files."""
    from benchmarks.rivals import data_loader, torch_loader, transformers_pipeline

    paths = sorted(folder.iterdir())[:count]
    plain = max(torch_loader(paths, bundle, CORES) for _ in range(2))
    row("DataLoader loop, PyTorch encoder", f"{plain:.1f} files/s: {ours / plain:.2f} times", "")
    loader = max(data_loader(paths, bundle, CORES) for _ in range(2))
    row("DataLoader loop, our graph", f"{loader:.1f} files/s: {ours / loader:.2f} times", "")
    pipeline = transformers_pipeline(paths, CORES)
    times = f"{pipeline:.1f} files/s: {ours / pipeline:.2f} times"
    row("transformers pipeline, ViT-S/16", times, "3 times")


def models(folder: Path, rounds: int) -> None:
    """The embedded models over the same files, in turns; ratios are to the fast one.

    CPU time tells more than the rate where other programs run.
    """
    rate: dict[str, float] = {}
    cpu: dict[str, float] = {}
    used = ""
    for _ in range(rounds):
        for name, path in EMBEDDED.items():
            bundle = read_bundle(path)
            model = open_model(bundle, "cpu")
            with Share(CORES) as share:
                count = scanned(folder, model, bundle)
            rate[name] = max(rate.get(name, 0.0), count / share.seconds)
            cpu[name] = min(cpu.get(name, float("inf")), share.ours / count)
            used = model.stages_used or used
    for name in EMBEDDED:
        times = f"{cpu[name] * 1000:.1f} ms: {cpu[name] / cpu['fast']:.2f} times fast's"
        row(f"--model {name}: CPU a file", times)
        row(
            f"--model {name}",
            f"{rate[name]:.1f} files/s: {rate[name] / rate['fast']:.2f} of fast's",
        )
    row("stages of the cascade", used)


def memory(base: Path, counts: tuple[int, int]) -> None:
    """Peak of a scan of few and of many files, each in a process of its own."""
    peaks = []
    for count in counts:
        folder = base / f"memory-{count}"
        tiny(folder, count)
        with _child("scan", folder) as process, Peak(process.pid) as peak:
            process.wait()
        peaks.append(peak.megabytes)
        row(f"peak memory, {count:,} files", f"{peak.megabytes:.0f} MB")
    row("growth", f"{100 * (peaks[1] / peaks[0] - 1):+.1f} %", "10 %")


def rescan(base: Path, bundle: Bundle, count: int) -> None:
    """Listing, and a second scan of an unchanged tree through the journal."""
    folder = base / "rescan"
    tiny(folder, count)
    time.sleep(3)  # a file that has just changed is not taken for unchanged
    row(f"listing, {count:,} files", f"{_best(lambda: _listed(folder), count):,.0f} files/s")
    with Journal(base / "journal.sqlite") as journal:
        kept = journal.memory(pipeline_of(bundle))
        # What a rescan costs does not hang on the model: the first scan goes without.
        scanned(folder, _Constant(bundle), bundle, kept)
        before = time.process_time()
        rate = _best(lambda: scanned(folder, _Constant(bundle), bundle, kept), count)
        alone = 3 * count / (time.process_time() - before)
        row("rescan, unchanged, through the journal", f"{rate:,.0f} files/s", "10,000")
        row("the same, for each second of CPU it had", f"{alone:,.0f} files/s")


def start_up() -> None:
    """`imgscan --version` beside Python itself: the quickest of ten."""
    plain = min(_run_seconds(["-c", "pass"]) for _ in range(10))
    version = min(_run_seconds(["-m", "scanner", "--version"]) for _ in range(10))
    row("imgscan --version to python -c pass", f"{version / plain:.2f} times", "5 times")


def soak(base: Path, count: int) -> None:
    """One scan of many files: memory and descriptors over its length."""
    folder = base / "soak"
    tiny(folder, count)
    start = time.monotonic()
    with _child("scan", folder) as process, Peak(process.pid, every_s=1.0) as peak:
        while process.poll() is None:
            time.sleep(min(60.0, 10.0 + (time.monotonic() - start) / 10))
            megabytes, files = peak.sample()
            if files:
                minutes = (time.monotonic() - start) / 60
                row(f"soak, after {minutes:.1f} min", f"{megabytes:.0f} MB, {files} descriptors")
    row(f"soak of {count:,}: exit status", f"{process.returncode}", "0")
    row("soak, files/s", f"{count / (time.monotonic() - start):.0f}")


class _Constant:
    """A model that costs nothing."""

    streams = 1

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.full(len(batch), 0.5)


def _listed(folder: Path) -> None:
    for _ in find_images([folder]):
        pass


def _best(work: Callable[[], object], count: int) -> float:
    best = float("inf")
    for _ in range(3):
        gc.collect()
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return count / best


def _run_seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _child(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.throughput", *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"})


PARTS = ("bound", "rivals", "models", "memory", "rescan", "start")


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["scan"]:
        bundle = read_bundle(EMBEDDED["fast"])
        scanned(Path(sys.argv[2]), Detector(bundle, "cpu"), bundle)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer files")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="for the part models")
    parser.add_argument("--soak", type=int, nargs="?", const=200_000, metavar="FILES")
    asked = parser.parse_args()
    bundle = read_bundle(EMBEDDED["fast"])
    quick = asked.quick
    print(f"{CORES} cores; {bundle.name}@{bundle.digest}\n\n| | measured | wanted |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        if asked.soak:
            soak(base, asked.soak)
            return
        if {"bound", "rivals"} & set(asked.parts):
            # Enough that starting the workers, half a second, is not what is measured.
            mixed(base / "mixed", 320 if quick else 3_200)
            ours = bound(base / "mixed", bundle, 2)
            if "rivals" in asked.parts:
                rivals(base / "mixed", bundle, ours, 32 if quick else 256)
        if "models" in asked.parts:
            if asked.pictures is None:
                mixed(base / "models", 96 if quick else 480)
            models(asked.pictures or base / "models", 1 if quick else 2)
        if "memory" in asked.parts:
            memory(base, (1_000, 4_000) if quick else (1_000, 20_000))
        if "rescan" in asked.parts:
            rescan(base, bundle, 10_000 if quick else 100_000)
        if "start" in asked.parts:
            start_up()


if __name__ == "__main__":
    main()
