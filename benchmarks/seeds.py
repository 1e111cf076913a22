"""Small valid files of every format, made from nothing: what `benchmarks.fuzz` damages."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.raw_files import raw_file, sensor_dng
from scanner.formats import RAW_FORMATS

_HEIF = Path(__file__).parents[1] / "tests" / "scanner" / "heif"


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def seeds() -> list[tuple[str, bytes]]:
    """(format, content) of about fifty files of some kilobytes, the same on every call."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
    smooth = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    wide = Image.fromarray(rng.integers(0, 65536, (48, 64), np.uint16))
    long = noise.resize((1000, 24))
    clear = noise.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((64, 48)))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Ours"
    found: list[tuple[str, bytes]] = [
        ("JPEG", _encoded(noise, "JPEG", exif=exif)),
        ("JPEG", _encoded(smooth, "JPEG", progressive=True, comment=b"x" * 99)),
        ("JPEG", _encoded(noise.convert("CMYK"), "JPEG", subsampling=0)),
        ("JPEG", _encoded(noise, "MPO", save_all=True, append_images=[smooth])),
        ("PNG", _encoded(noise, "PNG", exif=exif)),
        ("PNG", _encoded(noise.quantize(32), "PNG", transparency=3)),
        ("PNG", _encoded(wide, "PNG", transparency=9)),
        ("PNG", _encoded(clear, "PNG", save_all=True, append_images=[clear.rotate(90)])),
        ("GIF", _encoded(noise, "GIF", save_all=True, append_images=[smooth])),
        ("GIF", _encoded(noise.quantize(16), "GIF", transparency=2, interlace=0)),
        ("WEBP", _encoded(noise, "WEBP", exif=exif)),
        ("WEBP", _encoded(clear, "WEBP", lossless=True)),
        ("WEBP", _encoded(noise, "WEBP", save_all=True, append_images=[smooth])),
        ("TIFF", _encoded(noise, "TIFF", exif=exif)),
        ("TIFF", _encoded(wide, "TIFF", save_all=True, append_images=[wide])),
        *(
            ("TIFF", _encoded(noise, "TIFF", compression=name, tiffinfo={278: 16}))
            for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
        ("BMP", _encoded(noise, "BMP")),
        ("BMP", _encoded(noise.quantize(16), "BMP")),
        ("ICO", _encoded(clear, "ICO", sizes=[(16, 16), (32, 32)])),
        ("ICO", _encoded(clear, "ICO", sizes=[(32, 32)], bitmap_format="bmp")),
        ("PPM", _encoded(noise, "PPM")),
        ("AVIF", _encoded(noise, "AVIF", exif=exif, speed=10)),
        ("AVIF", _encoded(clear, "AVIF", speed=10)),
        ("JPEG2000", _encoded(noise, "JPEG2000")),
        ("JPEG2000", _encoded(clear, "JPEG2000", irreversible=True, num_resolutions=3)),
        ("JPEG2000", _encoded(smooth, "JPEG2000", no_jp2=True, tile_size=(32, 32))),
        *(("HEIF", path.read_bytes()) for path in sorted(_HEIF.glob("*.heic"))),
        # Long enough for those whose header does not tell the sensor's size.
        *(
            (kind, raw_file(kind, _encoded(long, "JPEG"), sensor=128))
            for kind in sorted(RAW_FORMATS)
        ),
        ("DNG", sensor_dng()),
        ("PSD", b"8BPS\0\1" + bytes(64)),
        ("JXL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64)),
    ]
    return found
