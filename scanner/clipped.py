"""A stream that never hands out, nor makes room for, more than the file has."""

from __future__ import annotations

import io
from typing import BinaryIO


class Clipped(io.RawIOBase):
    """The first `size` bytes of a seekable stream, which stays open.

    A damaged file may declare a block of gigabytes. Python makes room for all that a `read()`
    asks for before it looks at the disk; here a read is first cut to what there is. Without a
    `fileno()`: a decoder given the descriptor would read past `size`, or an archive from its
    start in place of the member.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """As the stream's own."""
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As any stream's; the end is at `size`."""
        if whence == io.SEEK_END:
            offset, whence = self._size + offset, io.SEEK_SET
        return self._stream.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, and none past the end; all there are if it is None or below 0."""
        left = max(0, self._size - self._stream.tell())
        return self._stream.read(left if size is None or size < 0 else min(size, left))

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """For `readline()` and its like."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
