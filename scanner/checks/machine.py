"""Hardware, and what the system lets this process have of it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scanner.checks.finding import Finding

_CPUINFO, _MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
# What onnxruntime has kernels for, by the kernel's names for them.
_FLAGS = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}
_LOW_FILES, _LOW_BYTES, _LOW_SPACE = 256, 2 * 2**30, 2**30


def hardware() -> list[Finding]:
    """Processor, memory and GPU."""
    return [_processor(), _memory(), _gpu()]


def limits() -> list[Finding]:
    """Open files, memory, and room for temporary files."""
    return [_open_files(), _memory_limit(), _temporary()]


def _processor() -> Finding:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    info = _fields(_CPUINFO)
    model = info.get("model name") or _brand() or platform.processor() or platform.machine()
    listed = info.get("flags", "").split()
    flags = [name for flag, name in _FLAGS.items() if flag in listed]
    shown = " ".join(flags) if listed else "instruction sets unknown"
    text = f"{model}; {usable} of {total} cores; {shown or 'none of AVX2, AVX512, VNNI'}"
    facts = {"model": model, "cores": total, "usable_cores": usable, "instruction_sets": flags}
    if not listed:
        facts["instruction_sets"] = None
    return Finding("Hardware", "CPU", "ok", text, facts=facts)


def _brand() -> str:
    if sys.platform != "darwin":
        return ""
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or ""


def _memory() -> Finding:
    info = _fields(_MEMINFO)
    total, free = (_kib(info.get(name)) for name in ("MemTotal", "MemAvailable"))
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = "unknown" if total is None else size(total)
    text += "" if free is None else f", {size(free)} available"
    return Finding("Hardware", "Memory", "ok", text, facts={"bytes": total, "available": free})


def _gpu() -> Finding:
    query = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    listed = _output("nvidia-smi", *query)
    if not listed:
        return Finding("Hardware", "GPU", "missing", "no NVIDIA driver", facts={"gpus": []})
    gpus = listed.splitlines()
    return Finding("Hardware", "GPU", "ok", "; ".join(gpus), facts={"gpus": gpus})


def _open_files() -> Finding:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Finding("Limits", "Open files", "ok", "no limit", facts={"limit": None})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    unlimited = limit == resource.RLIM_INFINITY
    facts: dict[str, object] = {"limit": None if unlimited else limit}
    text = "no limit" if unlimited else f"{limit:,}"
    if not unlimited and limit < _LOW_FILES:
        return Finding("Limits", "Open files", "missing", text, "run `ulimit -n 1024` first", facts)
    return Finding("Limits", "Open files", "ok", text, facts=facts)


def memory_limit() -> int | None:
    """Bytes that this process may have, by its control groups (v1, v2) and `ulimit -v`; or None."""
    found = []
    for line in _lines(Path("/proc/self/cgroup")):
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            base, name = _CGROUPS, "memory.max"
        elif "memory" in kinds.split(","):
            base, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        here = base / path.lstrip("/")
        # The limits of all groups around it hold too. In a container its own is the root.
        for folder in (here, *here.parents):
            if not folder.is_relative_to(base):
                break
            found += [int(text) for text in _lines(folder / name) if text.isdigit()]
    try:
        import resource

        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [address_space] if address_space != resource.RLIM_INFINITY else []
    except (ImportError, AttributeError):
        pass  # a system without such limits
    # Version 1 writes a huge number for "none".
    return min((limit for limit in found if limit < 1 << 60), default=None)


def _memory_limit() -> Finding:
    limit = memory_limit()
    facts: dict[str, object] = {"bytes": limit}
    if limit is None:
        return Finding("Limits", "Memory", "ok", "no limit", facts=facts)
    if limit < _LOW_BYTES:
        remedy = "raise it to 2 GiB, or scan with --workers 1 --batch-size 4"
        return Finding("Limits", "Memory", "missing", size(limit), remedy, facts)
    return Finding("Limits", "Memory", "ok", size(limit), facts=facts)


def _temporary() -> Finding:
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile() as file:
            file.write(b"\0")
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "set TMPDIR to a folder that can be written"
        text = f"none that can be written: {error.strerror or error}"
        return Finding("Limits", "Temporary", "missing", text, remedy, {"folder": None})
    text, facts = f"{folder}, {size(free)} free", {"folder": folder, "free": free}
    if free < _LOW_SPACE:
        remedy = "set TMPDIR to a folder with more room; --archives and large files need it"
        return Finding("Limits", "Temporary", "missing", text, remedy, facts)
    return Finding("Limits", "Temporary", "ok", text, facts=facts)


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _kib(text: str | None) -> int | None:
    return None if text is None else int(text.split()[0]) * 1024


def _fields(path: Path) -> dict[str, str]:
    """`name: value` of each line, the first of each name."""
    found: dict[str, str] = {}
    for line in _lines(path):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # another system, or a control group of another version
        return []


def _output(*command: str) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=20, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
