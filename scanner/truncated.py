"""Which rows of a picture whose file ends early were really decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

# Of the rows, for the rest to be judged in place of the picture.
ENOUGH = 0.75
_BLOCK = 256  # rows compared at once


def decoded_rows(opened: Callable[[], Image.Image]) -> tuple[Image.Image, range] | None:
    """The picture as far as it goes, loaded, and its longest run of complete rows.

    `opened` gives the same picture anew, not loaded. It is decoded twice, over black and over
    white: what is the same in both was decoded, what differs is the background, whichever way
    the rows were to come (from the bottom, interlaced, band by band). Pillow's own switch for
    such files is a global, and would show the missing part as grey or black. None where the
    decoder hands out no row before it has read all.
    """
    over_black, over_white = _loaded(opened(), 0), _loaded(opened(), 255)
    if over_black is None or over_white is None:
        return None
    return over_black, _longest_run(_complete(over_black, over_white))


def _loaded(image: Image.Image, background: int) -> Image.Image | None:
    if not isinstance(image, ImageFile.ImageFile):
        return None
    prepare, prepared = image.load_prepare, False

    def load_prepare() -> None:
        nonlocal prepared
        prepare()
        prepared = True
        bands = image.im.bands
        ink = background if bands == 1 else (background,) * bands
        image.im.paste(ink, (0, 0, *image.im.size))

    image.load_prepare = load_prepare  # type: ignore[method-assign]
    try:
        image.load()
    # Part of the codec: that it fails is why this is asked, and how is known from the first time.
    except Exception:  # noqa: BLE001
        if not prepared:
            return None
    image.tile = []  # so that nothing is decoded again: what is there is the picture
    return image


def _complete(one: Image.Image, other: Image.Image) -> Iterator[bool]:
    """For each row, whether the two pictures have the same there."""
    width, height = one.size
    for top in range(0, height, _BLOCK):
        box = (0, top, width, min(top + _BLOCK, height))
        same: npt.NDArray[np.bool_] = np.asarray(one.crop(box)) == np.asarray(other.crop(box))
        for row in same.reshape(same.shape[0], -1):
            yield bool(row.all())


def _longest_run(rows: Iterator[bool]) -> range:
    best, start, at = range(0), 0, 0
    for at, complete in enumerate(rows):
        if not complete:
            start = at + 1
        elif at + 1 - start > len(best):
            best = range(start, at + 1)
    return best
