"""What travels: `ImageRef -> Pixels | Failed -> Verdict | Failed -> row`.

Each is a frozen dataclass. A failure is a value in the stream and a row in the
report, never an exception that ends a scan and never `None`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# The closed list of reasons; docs/report.md says what each means.
Reason = Literal[
    "permission",  # the operating system refused to open or list it
    "vanished",  # it was listed but gone when it was to be read
    "not_an_image",  # named like a picture, but its content is of no known picture format
    "empty",  # zero bytes
    "truncated",  # the file ends before the picture does
    "too_large",  # more bytes or pixels than the limit
    "too_small",  # a side of less than the smallest the model was made for
    "unsupported",  # a picture, in a form this program does not decode
    "unreadable",  # damaged: the decoder gave up
    "changed",  # it was written to while it was being read
    "timeout",  # its decoding took longer than the limit
    "crashed",  # its decoding ended the process that did it
]

# What is noted of a file whether or not it has a score; docs/report.md says what each means.
Note = Literal[
    "truncated",  # scored on the part of the picture that could be decoded
    "extension_mismatch",  # the name says another format than the content
    "embedded_preview",  # camera raw, judged by the JPEG that the camera put inside
    "small",  # out of the model's domain, as the next two: hardly any pixels
    "elongated",  # of which a model sees less than a quarter
    "near_uniform",  # blank, a gradient, a page of text, a window
]

VerdictName = Literal["fake", "real", "unsure"]

# Left, top, right, bottom in pixels of `Pixels.rgb`, with fractions.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file that last changed at `mtime_ns` (nanoseconds since 1970, UTC)."""

    offset: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture to be scanned: a file, or a `member` of the archive that the file is.

    `path` keeps its bytes (surrogateescape), as given or found; `member` is a name as the
    archive's directory has it. `at` is where the member's bytes can be had at once, in the
    archive or in a file beside it: no part of what the ref names, and None where not known.
    """

    path: Path
    member: str | None = None
    at: Extent | Path | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """For people: the path, and after "!/" the archive's member."""
        return str(self.path) if self.member is None else f"{self.path}!/{self.member}"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file apart from its score; unknown ones are None.

    `width` and `height` are in pixels as stored, before EXIF orientation; `bytes` is the
    file's size and `mtime_ns` its time of change (nanoseconds since 1970, UTC) when it was read;
    `sha256` is over the file's bytes, in hexadecimal; `format` is by content ("JPEG", "PNG",
    ...). Of an archive's member, `bytes` and `sha256` are the member's, `mtime_ns` the archive's.
    """

    width: int | None = None
    height: int | None = None
    format: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    mtime_ns: int | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Pixels:
    """A decoded picture: `rgb` is uint8 [H, W, 3], upright, possibly at reduced scale.

    `box` is the part of `rgb` that is the picture: at reduced scale the outermost row or column
    may stand for a fraction of a pixel. None: all of it.
    """

    ref: ImageRef
    rgb: npt.NDArray[np.uint8]
    facts: FileFacts
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A file without a score, and why. `detail` is one line for people."""

    ref: ImageRef
    reason: Reason
    detail: str
    facts: FileFacts = FileFacts()


@dataclass(frozen=True, slots=True)
class Scored:
    """A file and its calibrated `p_fake` in [0, 1], before any threshold: worth remembering."""

    ref: ImageRef
    p_fake: float
    facts: FileFacts


@dataclass(frozen=True, slots=True)
class Verdict:
    """A scored file.

    `p_fake` is the calibrated probability in [0, 1] that the picture is AI-generated;
    `confidence` the probability of the verdict that was given (p_fake or 1 - p_fake), or for
    `unsure` of the likelier one. `real_below` and `fake_from` are where it was cut: the threshold
    itself, or the ends of the model's band of `unsure` where that reaches further.
    """

    ref: ImageRef
    verdict: VerdictName
    p_fake: float
    confidence: float
    threshold: float
    real_below: float
    fake_from: float
    operating_point: str
    facts: FileFacts
