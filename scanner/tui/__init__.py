"""The triage screen: `imgscan --tui`. Only the command line's `--tui` imports it."""

from __future__ import annotations

import os

# Esc alone is told from the beginning of another key's sequence by what follows it within this
# many milliseconds. Textual waits 100 unless this says otherwise, and looks when it is imported;
# sequences come in one piece, also over ssh. See scanner/tui/escape.py.
os.environ.setdefault("ESCDELAY", "20")
