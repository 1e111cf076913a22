"""The line on how far the scan and the person are."""

from __future__ import annotations

from scanner.tui.rows import bar
from scanner.tui.scanning import Progress


def scan_text(progress: Progress | None, width: int) -> str:
    """The scan in one line of about `width` cells; the most important comes first."""
    if progress is None:
        return ""
    files = f"{progress.scanned:,}" + (f"/{progress.total:,}" if progress.total else "")
    found = found_text(progress.suspects, progress.unsure, progress.failed)
    match progress.state:
        case "starting":
            return "Loading the model…"
        case "broken":
            return f"Broke off after {progress.scanned:,} · R goes on"
        case "cancelled":
            return f"Cancelled after {progress.scanned:,} · {found} · R goes on"
        case "finished":
            return f"Scanned {progress.scanned:,} in {duration(progress.seconds)} · {found}"
    parts = [f"{'Paused' if progress.state == 'paused' else 'Scanning'} {files}"]
    if progress.total:
        share = min(1.0, progress.scanned / progress.total)
        parts[0] += f" {bar(share)} {share:.0%}" if width >= 70 else f" {share:.0%}"
    parts += [f"{progress.rate:.0f}/s"]
    left = progress.seconds_left
    if left is not None and progress.state == "scanning":
        parts.append(f"{duration(left)} left")
    parts.append(found)
    if progress.known:
        parts.append(f"{progress.known:,} known before")
    return " · ".join(parts)


def found_text(suspects: int, unsure: int, failed: int) -> str:
    """How many files are what; `unsure` only where a model is that."""
    parts = [f"{suspects:,} suspect", f"{unsure:,} unsure" if unsure else "", f"{failed:,} failed"]
    return " · ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Hours only where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
