"""What the command lines of trainer and export say when they cannot do what is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("trainer", ["fit", "--data", "x", "--out", "y"]),
        ("trainer", ["evaluate", "x", "--data", "y"]),
        ("export", ["onnx", "x", "--out", "y"]),
    ],
)
def test_without_the_trainers_packages_the_remedy_is_one_line(package, arguments):
    """As after `pip install imgscan`, which brings no torch."""
    done = _run(
        "import sys\n"
        "for n in ('torch', 'torchvision', 'timm', 'onnx', 'sklearn'): sys.modules[n] = None\n"
        f"sys.argv = ['{package}', *{arguments!r}]\n"
        f"from {package}.__main__ import main\n"
        "main()"
    )
    assert done.returncode == 3, done.stderr
    assert "imgscan[train]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["trainer", "export"])
@pytest.mark.parametrize("arguments", [["--no-such-option"], ["no-such-command"]])
def test_a_wrong_command_line_exits_with_3(package, arguments):
    done = subprocess.run(
        [sys.executable, "-m", package, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 3
    assert "Usage" in done.stderr


@pytest.mark.parametrize("package", ["trainer", "export"])
def test_asking_for_help_needs_no_torch(package):
    done = _run(
        f"import sys; sys.modules['torch'] = None; sys.argv = ['{package}', '--help']\n"
        f"from {package}.__main__ import main\n"
        "main()"
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_a_device_that_is_not_there_is_said_before_the_data_is_read(tmp_path):
    done = _run(
        "import torch; torch.cuda.is_available = lambda: False\n"
        f"import sys; sys.argv = ['trainer', 'fit', '--data', 'x', '--out', {str(tmp_path)!r},\n"
        "    '--device', 'cuda']\n"
        "from trainer.__main__ import main\n"
        "main()"
    )
    assert done.returncode == 3, done.stderr
    assert "no CUDA device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        "UsageError('\\x1b]0;gone\\x07.png: is no picture')",
        "PermissionError(13, 'Permission denied', '/\\x1b]0;gone\\x07.png')",
        "click.UsageError('no option \\x1b]0;gone\\x07')",
    ],
)
def test_an_error_is_one_line_that_no_terminal_obeys(error):
    done = _run(
        "import click\n"
        "from scanner.errors import UsageError\n"
        "from trainer.edge import run\n"
        "@click.command()\n"
        f"def command(): raise {error}\n"
        "import sys; sys.argv = ['x']\n"
        "run(command, name='x', interrupted='')"
    )
    assert done.returncode == 3, done.stderr
    assert "\x1b" not in done.stderr
    assert "\\x1b]0;gone\\x07" in done.stderr
    assert "Traceback" not in done.stderr
