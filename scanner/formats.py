"""What counts as a picture, by extension and by the first bytes of the content."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import BinaryIO

from scanner.tiff import read_folders
from scanner.types import ImageRef, Note

# As many bytes as `sniff()` looks at: room for all brands that an AVIF or HEIF file may list.
HEAD_BYTES = 512
# Too short a signature to tell a picture from other files; looked for under .jxl only.
JXL_CODESTREAM = b"\xff\x0a"

# Which extensions (lower case, with the dot) each format goes by. HEIF is a container for any
# codec, so AVIF files may bear its names.
EXTENSIONS: dict[str, frozenset[str]] = {
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"}),
    "PNG": frozenset({".png", ".apng"}),
    "GIF": frozenset({".gif"}),
    "WEBP": frozenset({".webp"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "ICO": frozenset({".ico"}),
    "AVIF": frozenset({".avif", ".avifs", ".heif", ".hif"}),
    "HEIF": frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"}),
    "JPEG2000": frozenset({".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm"}),
    "JXL": frozenset({".jxl"}),
    "PSD": frozenset({".psd"}),
    # Camera raw. Mostly TIFF inside, with a small preview as the first image.
    "ARW": frozenset({".arw"}),
    "CR2": frozenset({".cr2"}),
    "CR3": frozenset({".cr3"}),
    "DNG": frozenset({".dng"}),
    "NEF": frozenset({".nef", ".nrw"}),
    "ORF": frozenset({".orf"}),
    "PEF": frozenset({".pef"}),
    "RAF": frozenset({".raf"}),
    "RW2": frozenset({".rw2"}),
    "SRW": frozenset({".srw"}),
}
RAW_FORMATS = frozenset({"ARW", "CR2", "CR3", "DNG", "NEF", "ORF", "PEF", "RAF", "RW2", "SRW"})
RAW_EXTENSIONS = frozenset().union(*(EXTENSIONS[name] for name in RAW_FORMATS))

# A file so named gets a row whatever it holds.
KNOWN_EXTENSIONS = frozenset().union(*EXTENSIONS.values())

# Recognised, but not decoded: each with what to do about it.
REMEDIES = {
    "JXL": "JPEG XL is not decoded; convert it to JPEG or PNG",
    "PSD": "Photoshop documents are not decoded; export it as PNG or TIFF",
}

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def extension_of(ref: ImageRef) -> str:
    """Of the file, or of the archive's member, in lower case with the dot; "" for none."""
    return PurePosixPath(ref.member or ref.path.name).suffix.lower()


def name_notes(ref: ImageRef, kind: str | None) -> tuple[Note, ...]:
    """What the name adds to content of the format `kind`: `extension_mismatch` or nothing.

    An extension of no picture format, or none, does not name another format.
    """
    extension = extension_of(ref)
    if kind not in EXTENSIONS or extension not in KNOWN_EXTENSIONS:
        return ()
    return () if extension in EXTENSIONS[kind] else ("extension_mismatch",)


def sniff(head: bytes) -> str | None:
    """The format that `head`, a file's first `HEAD_BYTES` bytes, announces; None if none.

    The names are the keys of `EXTENSIONS`. A raw file that is a TIFF by its signature is called
    that here (`scanner.raw` tells them apart). Formats whose signature is too short to
    tell them from other files (PPM, ICO, bare JPEG XL) are only met by their extension.
    """
    for magic, name in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"II*\0\x10\0\0\0CR", "CR2"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"8BPS", "PSD"),
        (b"IIRO", "ORF"),
        (b"IIRS", "ORF"),
        (b"MMOR", "ORF"),
        (b"IIU\0", "RW2"),
        (b"FUJIFILMCCD-RAW ", "RAF"),
    ):
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    # "BM" alone opens many a text; the reserved zeros and the header's length do not.
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[15:18] == b"\0\0\0":
        return "BMP"
    if head[4:8] == b"ftyp":
        # The major brand, then (after a version) those it is compatible with.
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]
        if _AVIF_BRANDS.intersection(brands):
            return "AVIF"
        if _HEIF_BRANDS.intersection(brands):
            return "HEIF"
        if brands[0] == b"crx ":
            return "CR3"
    return None


def ends_early(stream: BinaryIO, size: int) -> bool:
    """Whether a file of `size` bytes stops before the end that its own format announces.

    Asked only of files whose decoding failed: a complete picture may carry bytes after its
    end, or lack the end mark and decode all the same.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(max(0, size - 64))
    tail = stream.read(64)
    match sniff(head):
        case "JPEG":
            # Some writers pad; some cameras end with zeros.
            return not tail.rstrip(b"\0").endswith(b"\xff\xd9")
        case "PNG":
            return b"IEND\xaeB`\x82" not in tail
        case "GIF":
            return not tail.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return size < int.from_bytes(head[4:8], "little") + 8
        case "BMP":
            return size < int.from_bytes(head[2:6], "little")
        case "JPEG2000" if head[:2] == b"\xff\x4f":
            return not tail.endswith(b"\xff\xd9")
        case "AVIF" | "HEIF" | "CR3" | "JPEG2000":
            return _box_runs_over(stream, size)
        case "TIFF" | "CR2" | "ORF" | "RW2":
            return _strip_runs_over(stream, size)
        case _:
            return False


def _box_runs_over(stream: BinaryIO, size: int) -> bool:
    """Whether a top-level box of an ISO base media (or JP2) file reaches past the file's end."""
    at = 0
    # A real file has a handful; the bound keeps a hostile one from being walked byte by byte.
    for _ in range(64):
        if at >= size:
            return at > size
        stream.seek(at)
        header = stream.read(16)
        if len(header) < 8:
            return True
        length = int.from_bytes(header[:4], "big")
        if length == 0:  # "to the end of the file"
            return False
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:
            return False
        at += length
    return False


def _strip_runs_over(stream: BinaryIO, size: int) -> bool:
    """Whether the first image of a TIFF has a strip or tile past the file's end, or no tags."""
    folders = read_folders(stream)
    if not folders or not folders[0].entries:
        return True
    for offsets, lengths in ((273, 279), (324, 325)):
        ends = zip(
            folders[0].ints(offsets, 1 << 16), folders[0].ints(lengths, 1 << 16), strict=False
        )
        if any(start + length > size for start, length in ends):
            return True
    return False
