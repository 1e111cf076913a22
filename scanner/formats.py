"""What counts as a picture, by extension and by the first bytes of the content."""

from __future__ import annotations

from typing import BinaryIO

# As many bytes as `sniff()` looks at: room for all brands that an AVIF or HEIF file may list.
HEAD_BYTES = 512
# Too short a signature to tell a picture from other files; looked for under .jxl only.
JXL_CODESTREAM = b"\xff\x0a"

# Camera raw files are mostly TIFF inside, and their first image is a small preview: decoding
# that and calling it the photograph would be a wrong answer with a confident face.
RAW_EXTENSIONS = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)

# In lower case, with the dot. A file so named gets a row whatever it holds.
KNOWN_EXTENSIONS = RAW_EXTENSIONS | frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
        *(".png", ".apng", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".ico"),
        *(".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl"),
        *(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
        ".psd",
    }
)

# Recognised, but not decoded: each with what to do about it.
REMEDIES = {
    "HEIF": "HEIF/HEIC is not decoded; convert it to JPEG or PNG",
    "JXL": "JPEG XL is not decoded; convert it to JPEG or PNG",
    "PSD": "Photoshop documents are not decoded; export it as PNG or TIFF",
    "RAW": "camera raw files are not decoded; export it as JPEG, PNG or TIFF",
}

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def sniff(head: bytes) -> str | None:
    """The format that `head`, a file's first `HEAD_BYTES` bytes, announces; None if none.

    The names are Pillow's, and the keys of `REMEDIES`. Formats whose signature is too short to
    tell them from other files (PPM, ICO, bare JPEG XL) are only met by their extension.
    """
    for magic, name in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"II*\0\x10\0\0\0CR", "RAW"),  # Canon's CR2
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"8BPS", "PSD"),
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
            return "RAW"
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
        case "AVIF" | "JPEG2000":
            return _box_runs_over(stream, size)
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
