"""Showing a file in the desktop's own viewer and file manager."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scanner.errors import ImgscanError
from scanner.formats import KNOWN_EXTENSIONS
from scanner.tui.items import Item

# A viewer's starter that cannot start it says so by then; one that stays is the viewer itself.
_SECONDS = 3.0


def open_in_viewer(item: Item, path: Path) -> None:
    """Open the picture at `path` as a double click would. Raises ImgscanError with the remedy."""
    if item.ref.member is not None:
        raise ImgscanError("it lies inside an archive; O shows the archive in its folder")
    if path.suffix.lower() not in KNOWN_EXTENSIONS:
        # The desktop goes by the name: what is called .desktop, .exe or .html would be run.
        raise ImgscanError("it is not named like a picture, so it is not opened; O shows it")
    _must_exist(path)
    if sys.platform == "win32":
        os.startfile(path)
    elif sys.platform == "darwin":
        _start(["open", str(path)])
    else:
        _start([_xdg_open(), str(path)])


def reveal(path: Path) -> None:
    """Show the file in its folder, selected where the desktop can. Raises ImgscanError."""
    _must_exist(path)
    if sys.platform == "win32":
        subprocess.Popen(f'explorer /select,"{path}"')
    elif sys.platform == "darwin":
        _start(["open", "-R", str(path)])
    else:
        opener = _xdg_open()
        if shutil.which("dbus-send"):
            try:
                # What file managers of all the big desktops answer to.
                _start([
                    "dbus-send", "--session", "--print-reply", "--reply-timeout=2000",
                    "--dest=org.freedesktop.FileManager1", "/org/freedesktop/FileManager1",
                    "org.freedesktop.FileManager1.ShowItems",
                    f"array:string:{path.as_uri().replace(',', '%2C')}", "string:",
                ])  # fmt: skip
                return
            except ImgscanError:
                pass  # no file manager that answers: its folder is opened instead
        _start([opener, str(path.parent)])


def _must_exist(path: Path) -> None:
    if not os.path.lexists(path):
        raise ImgscanError(f"{path}: it is not there any more")


def _xdg_open() -> str:
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # xdg-open would start a text browser on this very terminal.
        raise ImgscanError("there is no desktop here (ssh?); c copies the path instead")
    found = shutil.which("xdg-open")
    if found is None:
        raise ImgscanError("xdg-open is not installed; install xdg-utils, or copy the path with c")
    return found


def _start(command: Sequence[str]) -> None:
    """Start it, away from this terminal, and listen for a moment whether it fails."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        status = process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        return
    except OSError as error:
        raise ImgscanError(f"{command[0]}: {error.strerror}; c copies the path instead") from None
    if status:
        raise ImgscanError(f"{command[0]} gave up (status {status}); c copies the path instead")
