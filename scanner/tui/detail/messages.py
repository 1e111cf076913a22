"""What threads post to the panel; its handlers alone touch widgets."""

from __future__ import annotations

from textual.message import Message

from scanner.tui.detail.maps import MapsMade
from scanner.tui.detail.worker import Crop, Loaded
from scanner.types import Failed, ImageRef


class Decoded(Message):
    """A preview came, or the reason why there is none."""

    def __init__(self, ref: ImageRef, result: Loaded | Failed) -> None:
        super().__init__()
        self.ref, self.result = ref, result


class Cropped(Message):
    """A part at full size came, or the reason why there is none."""

    def __init__(self, ref: ImageRef, result: Crop | Failed) -> None:
        super().__init__()
        self.ref, self.result = ref, result


class MapsReady(Message):
    """Maps came, some of them or all."""

    def __init__(self, ref: ImageRef, made: MapsMade) -> None:
        super().__init__()
        self.ref, self.made = ref, made
