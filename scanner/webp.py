"""The size of a WebP picture by its header, where its decoder does not come so far."""

from __future__ import annotations


def declared_size(head: bytes) -> tuple[int, int] | None:
    """Width and height from the first 30 bytes or more; None if they do not tell.

    Layout: RFC 9649, sections 2.5 to 2.7 (VP8 frames: RFC 6386, section 9.1).
    """
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            width = int.from_bytes(head[24:27], "little") + 1
            return width, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L" if head[20] == 0x2F:
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            width = int.from_bytes(head[26:28], "little") & 0x3FFF
            return width, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None
