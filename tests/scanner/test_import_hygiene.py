"""What an import or a command brings in, seen from a fresh interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = {"torch", "torchvision", "timm", "optuna", "lpips", "sklearn", "trainer", "export"}


def modules_after(code: str, *args: str) -> set[str]:
    """Top-level names in `sys.modules` after running `code`, with `args` as its arguments."""
    tail = "\nimport json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_line_brings_in_nothing_heavy() -> None:
    loaded = modules_after("import scanner.cli")
    assert not loaded & (TRAINING | {"numpy", "PIL", "onnxruntime", "rich"})
    assert "click" in loaded


def test_the_whole_scanner_brings_in_nothing_of_training() -> None:
    code = """
import importlib, pkgutil, scanner
for module in pkgutil.walk_packages(scanner.__path__, "scanner."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    loaded = modules_after(code)
    assert "onnxruntime" in loaded
    assert not loaded & TRAINING


def test_only_the_detector_brings_in_onnxruntime() -> None:
    code = """
import scanner.bundle, scanner.console, scanner.images, scanner.report, scanner.scan
"""
    assert "onnxruntime" not in modules_after(code)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_bring_in_neither_numpy_nor_onnxruntime(option: str) -> None:
    loaded = modules_after("from scanner.__main__ import main\nmain()", option)
    assert not loaded & {"numpy", "PIL", "onnxruntime", "rich"}
    if option == "--version":
        assert "click" not in loaded


def test_version_answers_in_at_most_five_times_what_python_takes() -> None:
    def seconds(code: str) -> float:
        """Quickest of several: what else the machine does can only add."""
        best = float("inf")
        for _ in range(10):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", code, "--version"],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds("from scanner.__main__ import main; main()") <= 5 * seconds("pass")


def test_imports_point_one_way() -> None:
    """scanner <- trainer <- export, also inside functions, where sys.modules would not show it."""
    may_import = {
        "scanner": {"scanner"},
        "trainer": {"scanner", "trainer"},
        "export": {"scanner", "trainer", "export"},
    }
    packages = set(may_import)
    for package, allowed in may_import.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_bytes())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    assert node.level == 0, f"{path}: relative import"
                    names = [node.module or ""]
                for name in names:
                    top = name.split(".")[0]
                    assert top not in packages - allowed, f"{path} imports {name}"


def test_decoding_for_the_detail_panel_asks_no_terminal_anything() -> None:
    """Its processes share the terminal with the screen, which would take the answer for keys."""
    assert not modules_after("import scanner.tui.detail.worker") & {"textual", "textual_image"}


@pytest.mark.parametrize("first", ["scanner.detector", "export.half", "benchmarks.rivals"])
def test_onnxruntime_reports_to_nobody(tmp_path: Path, first: str) -> None:
    # It would leave a device's number and a queue of events in the user's cache.
    pytest.importorskip("torch")
    code = f"""
import {first}
import onnxruntime
import scanner
model = {str(ROOT / "scanner/default_model/classifier.onnx")!r}
onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
"""
    cache = tmp_path / "cache"
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache), "LOCALAPPDATA": str(cache)}
    left = {"CI", "ORT_DISABLE_TELEMETRY"}  # either would silence it for a reason that is not ours
    environment = {name: value for name, value in os.environ.items() if name not in left} | places
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if "icrosoft" in str(path)]
