"""Text from files and decoders, made safe to show on one line of a terminal."""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), line and paragraph separators, the marks that reorder
# displayed text, and lone surrogates (how Python carries bytes that are not UTF-8).
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_unsafe(match: re.Match[str]) -> str:
    r"""One unsafe character as `\xHH` (a control character or an undecodable byte) or `\uHHHH`."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def printable(text: str) -> str:
    """`text` with every unsafe character escaped: what a terminal can neither run nor reorder."""
    return UNSAFE.sub(escape_unsafe, text)


def percent(share: float) -> str:
    """`share`, 0 to 1, in percent; 0 and 100 % only for what is exactly that."""
    hundredths = round(share * 10_000)
    if 0.0 < share < 1.0:
        hundredths = min(9_999, max(1, hundredths))
    return f"{hundredths / 100:.2f}%"


def counted(count: int, one: str, several: str = "") -> str:
    """A number and its noun: 1 file, 2,000 files."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def one_line(error: BaseException, limit: int = 160) -> str:
    """An exception's message for people: no line breaks, object addresses or Python reprs."""
    text = " ".join(str(error).split())
    text = re.sub(r"<[^<>]*\b(object|name=|at 0x)[^<>]*>|\b0x[0-9a-fA-F]{6,}\b", "…", text)
    text = printable(text) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
