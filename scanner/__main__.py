"""`imgscan` and `python -m scanner`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_NOT_RUN, _INTERRUPTED = 3, 130


def main() -> int:
    """Run the command line; the exit status is documented in docs/report.md."""
    # Scripts ask for the version at every start, and importing click takes ten times as long
    # as Python itself.
    if sys.argv[1:] == ["--version"]:
        return _version()
    try:
        from scanner.cli import run

        status = run()
    except KeyboardInterrupt:  # while still importing, or a second one while printing
        status = _INTERRUPTED
    if status in (_NOT_RUN, _INTERRUPTED):
        # All that is to be saved has been. Python would wait for the threads that still read
        # or decode a file, which may take as long as the disk likes.
        _leave(status)
    return status


def _version() -> int:
    from scanner import __version__

    try:
        print(f"imgscan {__version__}", flush=True)
    except BrokenPipeError:
        _leave(0)
    except OSError as error:
        with suppress(OSError):
            print(f"imgscan: the version cannot be printed: {error.strerror}", file=sys.stderr)
        _leave(_NOT_RUN)
    return 0


def _leave(status: int) -> None:
    """End at once, without Python's own way out, which prints again what could not be printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
