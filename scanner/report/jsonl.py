"""Rows as JSON Lines: one object a line, for scripts."""

from __future__ import annotations

import base64
import json
import os
import re

from scanner.report.rows import COLUMNS, Row, Value

_SURROGATE = re.compile("[\ud800-\udfff]")


def line(row: Row) -> str:
    """The object of one file, in ASCII, with its line break.

    A path or member that is not text has U+FFFD for each byte that is not, and its bytes are in
    `path_base64` or `member_base64`: half a surrogate pair may be written in JSON, but many
    readers refuse it or lose it.
    """
    known: dict[str, Value] = {}
    for name, value in zip(COLUMNS, row, strict=True):
        text = value if isinstance(value, str) else None
        known[name] = value if text is None else _SURROGATE.sub("\ufffd", text)
        if name in ("path", "member"):
            known[f"{name}_base64"] = None if text is None else _bytes_of(text)
    return json.dumps(known, allow_nan=False) + "\n"


def _bytes_of(text: str) -> str | None:
    """Its bytes as base64, if it is not text; half a pair of UTF-16 counts as WTF-8 has it."""
    if not _SURROGATE.search(text):
        return None
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogatepass")
    return base64.b64encode(raw).decode("ascii")
