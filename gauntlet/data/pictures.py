"""Convert images to arrays of one shape: decode PNG and JPEG; alpha, channels, size.

Encoded images and arrays use the same code, so that the same pixels give the same data in every format.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.readers import reading
from gauntlet.data.stated import Stated
from gauntlet.errors import DataError
from gauntlet.limits import (
    MAX_JPEG_SCANS,
    MAX_NPZ_BYTES,
    MAX_SIDE,
    SUSPICIOUS_BYTES,
    SUSPICIOUS_RATIO,
)

Pixels = NDArray[Any]
Box = tuple[float, float, float, float]
FORMATS = ("PNG", "JPEG")
"""What Pillow may decode: every other decoder stays shut."""
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
METHOD = "bilinear"
GREY = np.array([19_595, 38_470, 7_471], np.float64) / 65_536
"""Shares of red, green and blue in grey (ITU-R BT.601, as Pillow rounds them)."""
_MODES = {"1": "L", "L": "L", "RGB": "RGB", "RGBA": "RGBA", "LA": "LA", "I;16": "I;16"}


@dataclass
class Form:
    """What every image of a data set has to become; the first one decides what is not stated."""

    stated: Stated
    weight: int
    """Bytes of the files that hold the images, against which what they unpack to is held."""
    first: tuple[tuple[int, ...], np.dtype[Any], str] | None = None
    unpacked: int = 0
    done: set[str] = field(default_factory=set)
    """What was done to some image, in words."""

    @property
    def _wanted(self) -> int | None:
        """The number of channels that is stated."""
        return {None: None, "grey": 1, "rgb": 3}[self.stated.channels]

    def decoded(self, encoded: Iterable[tuple[bytes, str]], n: int) -> Pixels:
        """`n` encoded images, each with its name, as one array (n, h, w, c), uint8 or uint16.

        Raises DataError: an image is unreadable, too large, a bomb, or unlike the first in size or kind.
        """
        out: Pixels | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, about what is odd but readable
            for place, (data, where) in enumerate(encoded):
                image = self.formed(self._decode(data, where), where)
                out = self._room(n, image) if out is None else out
                out[place] = image
        assert out is not None  # nosec B101: no part is empty
        return out

    def arrays(self, x: Pixels, where: str) -> Pixels:
        """The same for images (n, h, w) or (n, h, w, c) of any type; unchanged where nothing is to be done."""
        if not _are_images(x):
            return x  # which `arrays.images` refuses
        same = self.stated.size in (None, x.shape[1:3]) and self._wanted in (None, _channels(x))
        if same and _channels(x) in (1, 3):
            return x
        x = x.astype(np.float32) if x.dtype.kind == "b" else x
        full = x[..., np.newaxis] if x.ndim == 3 else x
        first = self.formed(full[0], f"{where}[0]")
        out = self._room(len(full), first)
        for place, image in enumerate(full):
            out[place] = self.formed(image, f"{where}[{place}]")
        return out

    def formed(self, image: Pixels, where: str) -> Pixels:
        """One image (h, w, 1 to 4) without alpha, in the channels and the size that are wanted."""
        if image.shape[2] in (2, 4):
            image = self._opaque(image, where)
        if self._wanted not in (None, image.shape[2]):
            image = self._channelled(image)
        if self.stated.size not in (None, image.shape[:2]):
            image = self._resized(image)
        self._compare(image, where)
        return image

    def _compare(self, image: Pixels, where: str) -> None:
        """Refuse an image that is unlike the first."""
        if self.first is None:
            self.first = image.shape, image.dtype, where
        shape, dtype, other = self.first
        if image.shape[2] != shape[2] or image.dtype != dtype:
            reason = f"is {_kind(image.shape, image.dtype)}, {other} is {_kind(shape, dtype)}"
            raise DataError(reason, where=where, fix="--channels grey or --channels rgb makes them alike")
        if image.shape != shape:
            reason = f"has {_size(image.shape)} pixels, {other} has {_size(shape)}"
            raise DataError(reason, where=where, fix="--image-size SIDE or HEIGHTxWIDTH resizes all")

    def _room(self, n: int, image: Pixels) -> Pixels:
        """An empty array for `n` such images."""
        if n * image.nbytes > MAX_NPZ_BYTES:
            what = f"{n:,} images of {_size(image.shape)} pixels take more than {MAX_NPZ_BYTES} bytes"
            raise DataError(what, where="data set", fix="--image-size makes them smaller, --limit fewer")
        return np.empty((n, *image.shape), image.dtype)

    # --- decoding -----------------------------------------------------------------------------------------------

    def _decode(self, data: bytes, where: str) -> Pixels:
        """The pixels of a PNG or JPEG, (h, w, 1 to 4); its size is checked before they are decoded."""
        from PIL import Image

        if not data.startswith(MAGIC):
            raise DataError("cannot be read as an image: neither PNG nor JPEG", where=where, fix="convert it")
        if data.count(b"\xff\xda") > MAX_JPEG_SCANS and data[:2] == b"\xff\xd8":
            raise DataError(f"is a JPEG of more than {MAX_JPEG_SCANS} scans: a decompression bomb?", where=where)
        with reading(where, "an image"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if max(width, height) > MAX_SIDE:
                reason = f"has {height} x {width} pixels, at most {MAX_SIDE} a side are read"
                raise DataError(reason, where=where, fix="make it smaller")
            self._count(width * height * len(image.getbands()), where)
            return _pixels(image, where)

    def _count(self, size: int, where: str) -> None:
        """Refuse what unpacks to a hundredfold of its file."""
        self.unpacked += size
        if self.unpacked > max(SUSPICIOUS_BYTES, SUSPICIOUS_RATIO * self.weight):
            what = f"{self.unpacked} bytes of pixels in {self.weight} bytes of files: a decompression bomb?"
            raise DataError(what, where=where, fix="save fewer images, or less compressed ones")

    # --- changes ------------------------------------------------------------------------------------------------

    def _opaque(self, image: Pixels, where: str) -> Pixels:
        """Without alpha: dropped where nothing is transparent, else laid over the background that is stated."""
        colour, alpha = image[..., :-1], image[..., -1:]
        white = self.stated.pixel_max or float(np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1)
        if alpha.max() > white:
            what = f"has alpha up to {alpha.max():g}, white is {white:g}"
            raise DataError(what, where=where, fix=f"--pixel-max {alpha.max():g}, or scale to [0, 1]")
        if (alpha == white).all():
            self.done.add("alpha dropped, all opaque")
            return colour
        if self.stated.background is None:
            fix = "--background white or --background black"
            raise DataError("has transparent pixels: what is behind them?", where=where, fix=fix)
        self.done.add(f"transparent pixels over {self.stated.background}")
        behind = white if self.stated.background == "white" else 0.0
        share = alpha / white
        return _like(colour * share + behind * (1 - share), image.dtype)

    def _channelled(self, image: Pixels) -> Pixels:
        self.done.add("made grey (BT.601)" if self._wanted == 1 else "grey repeated in three channels")
        if self._wanted == 3:
            return np.repeat(image, 3, axis=2)
        return _like((image @ GREY)[..., np.newaxis], image.dtype)

    def _resized(self, image: Pixels) -> Pixels:
        """By Pillow, which averages over what becomes one pixel."""
        size, kept = self.stated.size, self.stated.keep_aspect
        assert size is not None  # nosec B101: asked for where images are resized
        how = "by one factor, the middle kept" if kept else "stretched"
        self.done.add(f"resized to {_size(size)} ({METHOD}, {how})")
        box = _middle(image.shape, size) if kept else None
        if image.dtype == np.uint8:
            return _resize(image if image.shape[2] == 3 else image[..., 0], size, box).reshape(*size, -1)
        planes = [_resize(image[..., c].astype(np.float32), size, box) for c in range(image.shape[2])]
        return _like(np.stack(planes, axis=2), image.dtype)


def _pixels(image: Any, where: str) -> Pixels:
    """A Pillow image as an array; palettes and transparent colours are resolved."""
    grey = image.mode in ("1", "L", "I;16")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        return np.asarray(image)[..., (0, 3)] if grey else np.asarray(image)
    if image.mode not in _MODES:
        fix = "save it as grey or RGB, 8 bits a channel"
        raise DataError(f"is an image of mode {image.mode}", where=where, fix=fix)
    pixels: Pixels = np.asarray(image.convert(_MODES[image.mode]) if image.mode == "1" else image)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _resize(plane: Pixels, size: tuple[int, int], box: Box | None) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def _middle(shape: tuple[int, ...], size: tuple[int, int]) -> Box:
    """The largest part (left, top, right, bottom) around the middle with the proportions of `size`."""
    height, width = shape[:2]
    factor = min(height / size[0], width / size[1])
    tall, wide = size[0] * factor, size[1] * factor
    left, top = (width - wide) / 2, (height - tall) / 2
    return left, top, min(width, left + wide), min(height, top + tall)


def _like(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    return np.rint(values).astype(dtype) if dtype.kind in "iu" else values.astype(dtype)


def _are_images(x: Pixels) -> bool:
    """Whether an array holds images of 1 to 4 channels, and not squares of 2 or 4 pixels with their channels first."""
    first = x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[2] == x.shape[3]
    numbers = x.ndim in (3, 4) and x.dtype.kind in "fiub" and 0 not in x.shape
    return numbers and _channels(x) in ((1, 3) if first else (1, 2, 3, 4))


def _channels(x: Pixels) -> int:
    return int(x.shape[3]) if x.ndim == 4 else 1


def _kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    bits = "" if dtype == np.uint8 else f", {dtype}"
    return f"{'grey' if shape[2] == 1 else 'coloured'}{bits}"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
