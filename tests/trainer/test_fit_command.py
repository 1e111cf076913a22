from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer.cli import command, main
from trainer.commands.fit import Bar
from trainer.config import FitConfig
from trainer.data import load_samples, split_samples
from trainer.dry_run import dry_run
from trainer.processes import Processes

TINY = FitConfig(**{**CONFIG, "epochs": 1, "head": (8,)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return make_data(folder, {("real", "a"): 20, ("fake", "b"): 14, ("fake", "c"): 7})


def _preset(folder: Path, config: FitConfig) -> Path:
    values = {k: v for k, v in config.to_dict().items() if k != "preset"}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    (folder / "tiny.toml").write_text(text)
    return folder / "tiny.toml"


def test_a_dry_run_tells_everything_and_writes_nothing(data: Path, tmp_path: Path):
    preset, out = _preset(tmp_path, TINY), tmp_path / "run"
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(
        command,
        ["fit", "--data", str(data), "--preset", str(preset), "--out", str(out), "--dry-run"],
    )
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.rglob("*")) == before
    for item in fields(FitConfig):
        assert f"{item.name} = " in result.stdout
    for text in ("8 x 3 x 32 x 32", "logit", "trained", "MiB", "an epoch", "nothing was written"):
        assert text in result.stdout
    assert any(line.split() == ["fake", "b", "11", "3", "0"] for line in result.stdout.splitlines())


def test_a_dry_run_measures_the_step_that_a_fit_takes(data: Path):
    splits = split_samples(load_samples(data), val_fraction=0.2, seed=0)
    config = replace(TINY, accumulate=2)
    found = dry_run(config, splits, device="cpu")
    assert found.shapes["pixels"] == (8, 3, 32, 32)
    assert found.shapes["reconstruction"] == (8, 3, 32, 32)
    assert found.shapes["logit"] == (8,)
    assert found.shapes["features"][0] == found.shapes["maps"][0] == 8
    assert len(splits.train) == 33
    assert (found.batches, found.steps) == (4, 2)  # the 33rd would be alone in its batch
    parts = [found.parameters[name] for name in ("encoder", "decoder", "classifier")]
    assert found.parameters["in total"] == tuple(map(sum, zip(*parts, strict=True)))
    assert found.memory_bytes > 2**20
    assert found.epoch_seconds == pytest.approx(
        found.batches * (found.load_seconds + found.learn_seconds)
    )
    assert not found.encode_seconds


def test_a_frozen_encoder_is_counted_but_not_as_trained(data: Path):
    pytest.importorskip("timm")
    splits = split_samples(load_samples(data), val_fraction=0.2, seed=0)
    config = replace(
        TINY, encoder="efficientnet-lite0", unfrozen=0, decoder="layered", cached_draws=1
    )
    found = dry_run(config, splits, device="cpu")
    assert found.parameters["encoder"][0] > 0
    assert found.parameters["encoder"][1] == 0
    assert found.encode_seconds > 0


def test_the_bar_tells_rate_and_time_left_on_a_terminal_only():
    terminal, pipe = io.StringIO(), io.StringIO()
    for stream in (terminal, pipe):
        bar = Bar(stream, enabled=stream is terminal)
        for done in (1, 2, 3, 1, 2, 3):
            bar.batch(done, 3)
        bar.close()
    assert "batch" in terminal.getvalue()
    assert "/3" in terminal.getvalue()
    assert pipe.getvalue() == ""


def test_of_several_processes_the_first_alone_says_what_is_wrong(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        request = ["fit", "--data", str(data), "--out", str(tmp_path / "run")]
        monkeypatch.setattr("sys.argv", ["trainer", *request, "--set", "no_such=1"])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 3
    assert capfd.readouterr().err.count("no setting is called 'no_such'") == 1


def test_a_batch_that_processes_cannot_share_is_refused(data: Path):
    splits = split_samples(load_samples(data), val_fraction=0.2, seed=0)
    with pytest.raises(UsageError, match="batch_size = 7: it is shared by 2 processes"):
        dry_run(replace(TINY, batch_size=7), splits, device="cpu", processes=Processes(0, 2))
