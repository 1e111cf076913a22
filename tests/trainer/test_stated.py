"""`trainer benchmark --model`: what a bundle states can be run again and comes out the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from test_benchmark import FROZEN
from tiny_runs import make_data

from export.bundle import export_run
from scanner.bundle import EMBEDDED, read_bundle
from scanner.errors import UsageError
from trainer.benchmark import benchmark
from trainer.cli import command
from trainer.data import load_samples
from trainer.fit import fit
from trainer.stated import stated_by

pytest.importorskip("timm")

SOURCES = {("real", "known"): 8, ("real", "a/b"): 8, ("real", "c"): 12, ("fake", "a_b"): 8,
           ("fake", "d"): 12}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in whose metrics a benchmark of its recipe stands; its data is beside it."""
    folder = tmp_path_factory.mktemp("stated")
    data = make_data(folder / "data", SOURCES, split_of=("train", "train", "train", "test"))
    samples = load_samples(data)
    merged = {"both": ["known", "a/b"]}
    torch.manual_seed(0)  # the encoder's weights are random here
    benchmark(
        FROZEN, samples, folder / "b.json", merged=merged, cache=folder / "c", limit=5, device="cpu"
    )
    from trainer.benchmark import _splits

    fit(FROZEN, _splits(samples, FROZEN), folder / "run", device="cpu")
    measured = {"left_out": folder / "b.json"}
    return export_run(folder / "run", folder / "bundle", name="b", measured=measured).bundle.path


def test_the_same_command_on_the_same_data_gives_the_stated_figures(bundle: Path, tmp_path: Path):
    stated = stated_by(read_bundle(bundle))
    assert stated.merged == {"both": ["a/b", "known"]}
    assert stated.limit == 5
    torch.manual_seed(0)
    result = CliRunner().invoke(
        command,
        ["benchmark", "--model", str(bundle), "--data", str(bundle.parent / "data"),
         "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "again.json"), "--device", "cpu"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["summary"] == stated.summary
    assert {row["family"] for row in again["left_out"]} == {"both", "c", "a_b", "d"}
    for point in ("half", "youden"):
        figure = f"{stated.summary['clean'][point]['balanced_accuracy'] * 100:.1f}"
        assert f"| clean | {point} | {figure}, {figure} |" in result.output


def test_what_the_bundle_says_cannot_be_said_otherwise(bundle: Path, tmp_path: Path):
    result = CliRunner().invoke(
        command,
        ["benchmark", "--model", str(bundle), "--data", "x", "--cache", "c", "--out", "o.json",
         "--limit", "3"],
    )  # fmt: skip
    assert result.exit_code != 0
    assert "--limit: with --model the bundle says it" in str(result.output) + str(result.exception)


def test_a_bundle_without_a_benchmark_is_refused_with_the_remedy(tmp_path: Path):
    from dataclasses import replace

    bare = replace(read_bundle(EMBEDDED["fast"]), metrics={})
    with pytest.raises(UsageError, match="states no benchmark"):
        stated_by(bare)
