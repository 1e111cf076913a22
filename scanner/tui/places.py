"""Where lists and files may be put: what is wrong with a name is told before anything is begun."""

from __future__ import annotations

import os
from pathlib import Path

from scanner.errors import UsageError


def check_new_file(path: Path) -> None:
    """Whether a file can be written there. Raises UsageError with the remedy."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; add a file's name")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; make it, or give another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot be written in; give another folder")
    if len(os.fsencode(path.name)) > 200:  # that of the partial file is longer
        raise UsageError("the name is too long; give a shorter one")


def check_folder(path: Path) -> None:
    """Whether files can be put there, in a folder that may still have to be made.

    Raises UsageError with the remedy.
    """
    existing = path
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{existing}: is a file and no folder; give another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{existing}: cannot be written in; give another folder")
