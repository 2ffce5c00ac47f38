"""Image files, folders of them, and arrays: the one reader of what others have made."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fewlabels import files, paths
from fewlabels.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Pillow knows more, and starts other programs on some of them: EPS goes to Ghostscript."""
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".avif"),
)
"""In any case."""
LITTER = ("thumbs.db", "desktop.ini", "__macosx")
"""What file browsers leave in folders, besides hidden files."""
MOST_PIXELS = 50_000_000
"""More pixels than any camera here is likely to have: a small file can unpack to gigabytes."""
FEWEST_PIXELS = 16
"""Shortest side of an image that may show something."""
GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
"""Entries of a TIFF file, and a value of the second."""


@dataclass(frozen=True)
class Picture:
    """One decoded image file."""

    image: Image.Image
    """Upright, RGB."""
    grey: bool
    turned: bool
    transparent: bool
    """Had transparent pixels: they show white now."""


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Hidden files, and those that file browsers leave (``Thumbs.db``), are passed over. The ending
    may be in any case.

    Raises:
        UserError: anything else lies there, which would go missing without a word.
    """
    found, other = [], []
    for path in sorted(visible(folder)):
        known = path.suffix.lower() in SUFFIXES and not path.is_dir()
        (found if known else other).append(path)
    if other:
        more = f" (and {len(other) - 1} more)" if other[1:] else ""
        raise UserError(
            f"{other[0]}{more} is no image file that can be read ({', '.join(SUFFIXES)}): move it "
            "elsewhere."
        )
    return found


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, without hidden files and what file browsers leave."""
    return [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in LITTER
    ]


def read(path: Path | str) -> Picture:
    """Decode one image file of any of ``FORMATS``.

    The orientation that a camera wrote into it is followed, transparency becomes white, and of an
    animation the first frame is taken. All become RGB with 8 bits: grey values, palettes and inks
    (CMYK, without its colour profile), and 12 and 16 bits, scaled by the depth that the file states
    and not by the values in it.

    Raises:
        UserError: not there, no image, damaged, too many pixels (more than ``MOST_PIXELS``, a
            decompression bomb or not), a side under ``FEWEST_PIXELS``, 32-bit numbers, or colours
            of an unknown kind.
    """
    path = paths.at_home(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise UserError(f"{path} {what}: name an image file.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; the limit here is below the one it warns at.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # And of damaged parts, which it then refuses or can do without.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(path, formats=FORMATS) as file:
                _check_size(path, *file.size)
                return _decoded(path, file)
    except UnidentifiedImageError:
        raise UserError(f"{path} is no image that can be read: give a JPEG, PNG or WebP.") from None
    except Image.DecompressionBombError:
        raise _too_large(path, "more than 178 million") from None
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged and cannot be read ({reason}).") from error


def array(name: str, value: Any) -> np.ndarray:
    """What was passed as ``name``, as an array; a UserError where NumPy makes none of it."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        raise UserError(
            f"{name} cannot be made one array: pass rows of the same length, and a tensor as "
            "tensor.detach().cpu()."
        ) from None


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What an .npz file holds. Raises UserError for any other file, and where objects are in it."""
    with files.refusals(path), path.open("rb") as stream:
        try:
            with np.load(stream) as content:
                return {name: np.asarray(content[name]) for name in content.files}
        except Exception as error:  # NumPy and zipfile raise a dozen kinds for a broken file.
            raise UserError(
                f"{path} is no .npz file of plain arrays, or a damaged one: numpy.savez makes one."
            ) from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(path, f"{width:,} x {height:,}")
    if min(width, height) < FEWEST_PIXELS:
        raise UserError(
            f"{path} has {width} x {height} pixels: at least {FEWEST_PIXELS} a side are needed to "
            "see anything."
        )


def _too_large(path: Path, pixels: str) -> UserError:
    return UserError(
        f"{path} has {pixels} pixels; allowed: {MOST_PIXELS:,} in all. Reduce it first."
    )


def _decoded(path: Path, file: Image.Image) -> Picture:
    turned = file.getexif().get(0x0112) in range(2, 9)
    # PPM's numbers above 8 bits arrive as 32, scaled to 16.
    deep = file.mode.startswith("I;16") or (file.mode == "I" and file.format == "PPM")
    grey = deep or file.mode in GREY
    if not grey and file.mode not in COLOUR:
        kind = "32-bit numbers" if file.mode in ("I", "F") else f"colours of the kind {file.mode}"
        raise UserError(f"{path} holds {kind}: save it as an image of 8 or 16 bits, grey or RGB.")
    entries = getattr(file, "tag_v2", {})
    image = ImageOps.exif_transpose(file)
    if deep:
        (bits,) = entries.get(BITS, (16,))
        values = np.asarray(image).astype(np.int64) >> (bits - 8)
        # Pillow turns 8 bits the right way round itself, and leaves 16.
        values = 255 - values if entries.get(PHOTOMETRIC) == WHITE_IS_ZERO else values
        image = Image.fromarray(values.astype(np.uint8))
    transparent = False
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        transparent = layers.getextrema()[3][0] < 255
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return Picture(image.convert("RGB"), grey, turned, transparent)
