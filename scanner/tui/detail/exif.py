"""The few EXIF fields that tell where a picture comes from. Anyone can write them: no evidence."""

from __future__ import annotations

import os
from typing import BinaryIO

from PIL import ExifTags, Image

from scanner.archives import MemberError, open_member
from scanner.opening import open_regular
from scanner.types import ImageRef

# Those of Pillow's formats that can hold EXIF; nothing else is tried.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF")
_MOST_CHARACTERS = 200
_Base = ExifTags.Base


def read_exif(ref: ImageRef) -> tuple[tuple[str, str], ...]:
    """(label, value) of what there is, in the order to show; texts are as the file has them."""
    try:
        with _opened(ref) as stream, Image.open(stream, formats=_FORMATS) as image:
            exif = image.getexif()
            inner = exif.get_ifd(ExifTags.IFD.Exif)
            located = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
    except MemberError:
        return ()
    # Part of the codec: a broken EXIF block, or a format without one, leaves the picture as it is.
    except Exception:  # noqa: BLE001
        return ()
    camera = " ".join(text for tag in (_Base.Make, _Base.Model) if (text := _text(exif.get(tag))))
    taken = " ".join(
        text
        for tag in (_Base.DateTimeOriginal, _Base.OffsetTimeOriginal)
        if (text := _text(inner.get(tag)))
    )
    found = [
        ("taken", taken),
        ("camera", camera),
        ("lens", _text(inner.get(_Base.LensModel))),
        ("software", _text(exif.get(_Base.Software))),
        ("artist", _text(exif.get(_Base.Artist))),
        ("place", "has GPS data" if located else ""),
    ]
    return tuple((label, text) for label, text in found if text)


def _opened(ref: ImageRef) -> BinaryIO:
    if ref.member is not None:
        return open_member(ref).stream
    fd, _ = open_regular(ref.path)
    return os.fdopen(fd, "rb")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "" if value is None else str(value).strip("\0 ")[:_MOST_CHARACTERS]
