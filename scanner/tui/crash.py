"""What no one foresaw: into a file, with the way back in, and never onto the screen."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

from scanner import __version__


class CrashLog:
    """The file for defects; made when there is one. `path` is told to the person."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.path: Path | None = None

    def write(self, error: BaseException) -> str:
        """Add the traceback of `error`; the file's name, or why there is none."""
        text = "".join(traceback.format_exception(error))
        when = datetime.now().astimezone()
        head = (
            f"{when.isoformat(timespec='seconds')} imgscan {__version__}, "
            f"Python {platform.python_version()}, {platform.platform()}\n"
        )
        for folder in self._folders():
            path = self.path or folder / f"tui-{when:%Y%m%d-%H%M%S}-{os.getpid()}.log"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(head + text + "\n")
            except OSError:
                continue
            self.path = path
            return str(path)
        return "no file: none could be written"

    def _folders(self) -> list[Path]:
        import platformdirs

        if self._folder is not None:
            return [self._folder]
        logs = Path(platformdirs.user_log_dir("imgscan", appauthor=False))
        return [logs, Path(tempfile.gettempdir())]
