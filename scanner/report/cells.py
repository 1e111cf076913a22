r"""Texts as CSV cells that no spreadsheet runs, and back. docs/report.md states the rule.

=1+1        '=1+1         what a spreadsheet would run gets an apostrophe before it
'quoted     ''quoted      and so does what begins with an apostrophe
a<LF>b\c    '\a\x0ab\\c   what cannot be shown is escaped, after an apostrophe and backslash
"""

from __future__ import annotations

import re

from scanner.text import UNSAFE, escape_unsafe

# With their full-width forms, which some spreadsheets take for the same.
_LEADING = ("=", "+", "-", "@", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(\\))")


def encode_cell(text: str) -> str:
    """`text` as a cell; `decode_cell()` gives it back exactly."""
    if UNSAFE.search(text):
        return "'\\" + UNSAFE.sub(escape_unsafe, text.replace("\\", "\\\\"))
    return "'" + text if text.startswith(_LEADING) else text


def decode_cell(cell: str) -> str:
    """What `encode_cell()` was given. A path's bytes are `os.fsencode()` of the result."""
    if cell.startswith("'\\"):
        return _ESCAPE.sub(_unescape, cell[2:])
    return cell.removeprefix("'")


def _unescape(match: re.Match[str]) -> str:
    byte, code, _ = match.groups()
    if byte is not None:
        value = int(byte, 16)
        # A byte that is not UTF-8, in the form in which Python carries it.
        return chr(value if value < 0x80 else 0xDC00 + value)
    return "\\" if code is None else chr(int(code, 16))
