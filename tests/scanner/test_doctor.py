"""What `imgscan doctor` says, and when it exits with 1."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
from pathlib import Path

import pytest
from cuda_fakes import CUDA, cuda_seems_there
from fakes import save_grey
from test_cli import COMMAND, environment, imgscan

from scanner.bundle import Bundle
from scanner.checks import machine, model, software
from scanner.doctor import lines
from scanner.errors import ImgscanError
from scanner.journal import Journal


def doctor(*args: str, home: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "doctor", *args],
        env=environment() | {"XDG_DATA_HOME": str(home), "HOME": str(home)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_installation_that_works_exits_with_zero_on_one_screen(tmp_path: Path) -> None:
    done = doctor("--device", "cpu", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) <= 40
    assert max(map(len, shown)) <= 100
    assert done.stderr == ""
    assert not any("Error" in line for line in shown)  # what libraries print by themselves
    for section in ("Hardware", "Providers", "Decoders", "Model", "Journal", "Limits"):
        assert section in shown
    assert list(tmp_path.rglob("journal*")) == []  # looking makes nothing


def test_what_is_shown_is_also_there_for_programs(tmp_path: Path) -> None:
    done = doctor("--json", "--model", "fast", home=tmp_path)
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (0, True)
    found = {(f["section"], f["name"]): f for f in told["findings"]}
    cpu = found["Providers", "CPU"]["facts"]
    assert cpu["runs"] is True
    assert cpu["seconds"] > 0
    cores = len(os.sched_getaffinity(0))
    assert found["Hardware", "CPU"]["facts"]["usable_cores"] == cores
    assert found["Model", "Bundle"]["facts"]["verified"] is True
    assert found["Journal", "Place"]["facts"]["exists"] is False
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert found["Limits", "Open files"]["facts"]["limit"] == soft


def test_a_model_that_is_asked_for_and_damaged_exits_with_one(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_bundle.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert doctor("--model", str(copy), "--device", "cpu", home=tmp_path).returncode == 0
    with (copy / "encoder.onnx").open("ab") as encoder:
        encoder.write(b"x")
    done = doctor("--model", str(copy), home=tmp_path)
    assert done.returncode == 1
    assert " ! Bundle" in done.stdout
    assert "Remedy: give another --model" in done.stdout


def test_cuda_that_is_asked_for_and_does_not_run_is_broken_with_its_remedy(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        model, "available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(model, "nvidia_driver_present", lambda: True)
    monkeypatch.setattr(model, "missing_cuda_libraries", lambda: ["libcublas.so.13"])
    cpu, cuda = model.providers(tiny_bundle, "cuda")
    assert (cpu.name, cpu.state) == ("CPU", "ok")
    assert (cuda.name, cuda.state) == ("CUDA", "broken")
    assert "libcublas.so.13" in cuda.text
    assert cuda.remedy is not None
    assert "pip install 'imgscan[cuda]'" in cuda.remedy
    assert model.providers(tiny_bundle, "auto")[1].state == "missing"  # the CPU does it


def test_whether_scans_on_cuda_run_in_half_precision_is_said(
    remaking_bundle: Bundle,
    half_bundle: Bundle,
    wrong_half_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda_seems_there(monkeypatch)
    monkeypatch.setattr(model, "available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(model, "nvidia_driver_present", lambda: True)
    monkeypatch.setattr(model, "missing_cuda_libraries", lambda: [])
    bundles = (remaking_bundle, half_bundle, wrong_half_bundle)
    said = []
    for bundle in bundles:
        cpu, cuda = model.providers(bundle, "cuda")
        assert (cuda.name, cuda.state) == ("CUDA", "ok")
        assert "half_precision" not in cpu.facts
        assert "half_precision" in cuda.facts
        said.append((cuda.facts["half_precision"], cuda.text.partition("; ")[2]))
    assert said[:2] == [(False, "in float32"), (True, "in half precision")]
    assert said[2][0] is False
    assert said[2][1].startswith("in float32, half precision was refused: P(fake) differs by")

    found = [model.model(bundle.path)[0] for bundle in bundles]
    assert [f.facts["half_precision"] for f in found] == [False, True, True]
    assert [f.text.partition("; ")[2] for f in found] == [
        "float32",
        "float32 and half precision",
        "float32 and half precision",
    ]


def test_a_provider_that_fails_on_a_batch_does_not_run(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> float:
        raise ImgscanError("out of memory")

    monkeypatch.setattr(model, "available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(model, "try_provider", fail)
    (cpu,) = model.providers(tiny_bundle, "auto")
    assert (cpu.state, cpu.text, cpu.facts["runs"]) == ("broken", "no: out of memory", False)


def test_libraries_that_the_loader_does_not_find_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libonnxruntime_providers_cuda.so"
    library.write_bytes(b"\x7fELF\0libcudanonesuch.so.99\0libc.so.6\0libnvnonesuch.so.1\0")
    monkeypatch.setattr(model, "_provider_library", lambda: library)
    missing = set(model.missing_cuda_libraries())
    assert (
        {"libcudanonesuch.so.99", "libnvnonesuch.so.1"}
        <= missing
        <= {
            "libcudanonesuch.so.99",
            "libnvnonesuch.so.1",
            "libcudnn.so.9",
        }
    )


def test_every_remedy_stands_below_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: 2**29)
    shown = list(lines([machine._memory_limit()]))
    assert shown[2].startswith(" - Memory     512 MiB")
    assert shown[3].strip().startswith("Remedy: raise it to 2 GiB")


def test_the_smallest_limit_on_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = {
        "/proc/self/cgroup": "4:memory,x:/a/b\n0::/c\n",
        str(tmp_path / "memory/a/memory.limit_in_bytes"): "3000000000\n",
        str(tmp_path / "memory/a/b/memory.limit_in_bytes"): "9223372036854771712\n",
        str(tmp_path / "c/memory.max"): "max\n",
        str(tmp_path / "memory.max"): "4000000000\n",
    }
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_lines", lambda path: groups.get(str(path), "").splitlines())
    assert machine.memory_limit() == 3_000_000_000


def test_the_journal_is_looked_at_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data/journal.sqlite"
    monkeypatch.setattr(software, "default_journal_path", lambda: path)
    assert software.journal().facts == {"path": str(path), "exists": False, "writable": True}
    assert not path.parent.exists()
    path.parent.mkdir()
    with Journal(path):
        pass
    found = software.journal()
    assert (found.state, found.facts["schema"]) == ("ok", software.schema.VERSION)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "of a newer imgscan" in software.journal().text
    path.write_bytes(b"not a database, but long enough to be looked at" * 99)
    assert software.journal().state == "missing"


def test_what_is_optional_and_absent_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(software.importlib, "import_module", absent)
    _, heif, raw = software.decoders()
    assert (heif.state, raw.state) == ("missing", "missing")
    assert raw.remedy == "pip install 'imgscan[raw]'"


def test_a_folder_named_doctor_is_scanned_by_its_path(
    tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_grey(tmp_path / "doctor/a.png", 250)
    monkeypatch.chdir(tmp_path)
    assert "Scanned" in imgscan("./doctor", model=tiny_bundle).stdout
    assert "Scanned" in imgscan("--top", "1", "doctor", model=tiny_bundle).stdout
    assert (
        "Hardware"
        in doctor("--device", "cpu", "--model", "fast", home=tmp_path, cwd=tmp_path).stdout
    )
    assert doctor("--bogus", home=tmp_path).returncode == 3
