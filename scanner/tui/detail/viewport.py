"""Cells and pixels: how large a picture is shown, and which part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Device pixels for each pixel of the picture; 0 fits all of it into the box.
ZOOMS = (0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4)


@dataclass(frozen=True, slots=True)
class View:
    """`zoom` is one of ZOOMS, `centre` (x, y) in 0..1 of the picture."""

    zoom: float = 0
    centre: tuple[float, float] = (0.5, 0.5)

    @property
    def ratio(self) -> str:
        """1:1 for the picture's own pixels, 4:1 for nearer, 1:4 for farther."""
        return f"{self.zoom:g}:1" if self.zoom >= 1 else f"1:{1 / self.zoom:g}"

    def zoomed(self, by: int, size: tuple[int, int], room: tuple[int, int]) -> View:
        """`by` steps nearer (above 0) or farther, as far as there are steps.

        Steps that would show all of a picture of `size` in `room`, both in pixels, are left out.
        """
        full = min(room[0] / size[0], room[1] / size[1])
        steps = [zoom for zoom in ZOOMS if zoom in (0, self.zoom) or zoom >= 1 or zoom > full]
        zoom = steps[min(max(0, steps.index(self.zoom) + by), len(steps) - 1)]
        return View(zoom, self.centre if zoom else (0.5, 0.5))

    def panned(self, x: float, y: float, window: tuple[float, float]) -> View:
        """Moved by parts of the window, which is (width, height) in 0..1 of the picture."""
        moved = []
        for at, by, wide in zip(self.centre, (x, y), window, strict=True):
            half = min(wide, 1.0) / 2
            moved.append(min(max(half, at + by * wide), 1 - half))
        return replace(self, centre=(moved[0], moved[1]))


def fitted(size: tuple[int, int], box: tuple[int, int], cell: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows, 1 or more, of a picture of `size` pixels that fills a box of cells.

    `cell` is a cell's width and height in pixels, or anything of that ratio.
    """
    (width, height), (columns, rows) = size, box
    scale = min(columns * cell[0] / width, rows * cell[1] / height)
    return (
        min(columns, max(1, round(width * scale / cell[0]))),
        min(rows, max(1, round(height * scale / cell[1]))),
    )
