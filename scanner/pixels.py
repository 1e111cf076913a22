"""Any mode that Pillow decodes to, as RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from scanner.refused import RefusedError


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, by constants of the format and never of the picture's own values."""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _from_wide(image).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is None only for in-place conversion
        return converted
    if image.mode in ("La", "RGBa"):  # colours already multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # a conversion copies


def _from_wide(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits to 8."""
    highest, inverted = 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # 16-bit unsigned samples have a known white; signed, 32-bit and float ones do not.
        if image.mode in ("I", "F"):
            bits = image.tag_v2.get(258, ("?",))[0]
            raise RefusedError(
                "unsupported",
                f"{bits}-bit samples without a defined white; export it as 8 or 16 bit",
            )
        highest = 2 ** int(image.tag_v2.get(258, (16,))[0]) - 1
        inverted = image.tag_v2.get(262) == 0  # "white is zero", which Pillow ignores here
    elif image.mode == "F":
        raise RefusedError("unsupported", "floating-point samples; export it as 8 or 16 bit")
    wide = np.asarray(image).astype(np.uint32)
    grey = ((wide * 255 + highest // 2) // highest).clip(0, 255).astype(np.uint8)
    clear = image.info.get("transparency")  # of a PNG: one grey, in its own 16 bits
    if isinstance(clear, int):
        grey[wide == clear] = 255
    return Image.fromarray(255 - grey if inverted else grey)
