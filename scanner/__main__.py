"""`imgscan` and `python -m scanner`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the exit status is documented in docs/report.md."""
    # Scripts ask for the version at every start, and importing click takes ten times as long
    # as Python itself.
    if sys.argv[1:] == ["--version"]:
        from scanner import __version__

        print(f"imgscan {__version__}")
        return 0
    try:
        from scanner.cli import run

        return run()
    except KeyboardInterrupt:  # while still importing
        return 130


if __name__ == "__main__":
    sys.exit(main())
