"""One compressed frame to an array: JPEG, JPEG-LS, JPEG 2000, HTJ2K and JPEG XL.

The codec is chosen by what the codestream says it is, not by the transfer syntax, and its size is read from its
header before anything is decoded. Pillow decodes 8-bit JPEG; imagecodecs (libjpeg-turbo 3, CharLS, OpenJPEG, libjxl)
the rest, among it what pydicom's permissive plug-ins refuse: 12-bit and lossless JPEG, and JPEG XL."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import imagecodecs
import numpy as np
from PIL import Image

from engine.errors import FileRefused
from engine.imaging.limits import check_size

Image.MAX_IMAGE_PIXELS = None  # check_size refuses, with a reason, before Pillow would

LOSSLESS_JPEG = {0xC3, 0xC7}
JPEG_LS = 0xF7
OTHER_JPEG = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
UNSUPPORTED_JPEG = {0xC5, 0xC6, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # hierarchical or arithmetic coding


@dataclass(frozen=True)
class CodestreamHeader:
    kind: Literal["jpeg", "jpeg_lossless", "jpeg_ls", "jpeg_2000", "jpeg_xl"]
    rows: int
    cols: int
    samples: int
    bits: int
    is_signed: bool = False
    adobe_transform: int | None = None  # JPEG APP14: 0 none, 1 YCbCr


def decode(frame: bytes, rows: int, cols: int, samples: int, is_ybr: bool) -> np.ndarray:
    """Decode one frame to (rows, cols) or (rows, cols, 3); colour comes out as RGB.

    `is_ybr` is what Photometric Interpretation says of a JPEG's components; an Adobe marker inside overrules it.
    Raises FileRefused where the frame is unsupported or disagrees with the size declared around it."""
    is_jpeg_xl = frame[:2] == b"\xff\x0a" or frame[4:8] == b"JXL "
    # Nothing here reads a JPEG XL header: the memory cap stands in for the check.
    header = CodestreamHeader("jpeg_xl", rows, cols, samples, 0) if is_jpeg_xl else read_header(frame)
    check_size(header.rows, header.cols, "The header of the compressed frame")
    if (header.rows, header.cols, header.samples) != (rows, cols, samples):
        raise FileRefused(
            "malformed",
            f"(0028,0010) Rows, (0028,0011) Columns and (0028,0002) Samples per Pixel say {rows} x {cols} x {samples}, "
            f"the compressed frame {header.rows} x {header.cols} x {header.samples}.",
        )
    try:
        if header.kind == "jpeg_xl":
            pixels = imagecodecs.jpegxl_decode(frame)
        elif header.kind == "jpeg_2000":
            pixels = imagecodecs.jpeg2k_decode(frame)
        elif header.kind == "jpeg_ls":
            pixels = imagecodecs.jpegls_decode(frame)
        elif header.kind == "jpeg_lossless" and samples == 3:
            pixels = imagecodecs.jpegsof3_decode(frame)  # libjpeg would convert colours on a guess
        elif header.kind == "jpeg_lossless" or header.bits > 8:
            pixels = imagecodecs.jpeg8_decode(frame)
        else:
            pixels = _decode_8bit_jpeg(frame, header, is_ybr)
    except (RuntimeError, OSError, ValueError, SyntaxError) as error:
        raise FileRefused(
            "malformed", f"The compressed frame ({header.kind.replace('_', ' ')}) is damaged or cut off."
        ) from error
    return _shaped(pixels, rows, cols, samples, header.kind.replace("_", " "))


def _decode_8bit_jpeg(frame: bytes, header: CodestreamHeader, is_ybr: bool) -> np.ndarray:
    image = Image.open(BytesIO(frame), formats=("JPEG",))
    if header.samples == 3 and header.adobe_transform is None:
        image.draft("YCbCr", image.size)  # the components as they are
        image.load()
        return np.asarray(image.convert("RGB") if is_ybr else image)
    return np.asarray(image)


def _shaped(pixels: np.ndarray, rows: int, cols: int, samples: int, what: str) -> np.ndarray:
    expected = (rows, cols) if samples == 1 else (rows, cols, samples)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.shape != expected:
        raise FileRefused("malformed", f"The {what} frame decodes to {pixels.shape}, the file declares {expected}.")
    return pixels


def read_header(frame: bytes) -> CodestreamHeader:
    """Size and depth from the frame's own header. Raises FileRefused where it has none that we know."""
    if frame[:4] == b"\xff\x4f\xff\x51":
        return _read_siz(frame, 0)
    if frame[4:8] == b"jP  ":  # a JP2 file in the frame, though DICOM wants the bare codestream
        start = frame.find(b"\xff\x4f\xff\x51")
        if start > 0:
            return _read_siz(frame, start)
    if frame[:2] == b"\xff\xd8":
        return _read_sof(frame)
    raise FileRefused("malformed", "The compressed frame does not start as JPEG, JPEG-LS, JPEG 2000 or JPEG XL does.")


def _read_siz(frame: bytes, start: int) -> CodestreamHeader:
    """The SIZ segment of a JPEG 2000 codestream (ISO 15444-1 A.5.1)."""
    segment = frame[start : start + 45]
    if len(segment) < 43:
        raise FileRefused("truncated", "The JPEG 2000 frame ends within its header.")
    x1, y1, x0, y0 = (int.from_bytes(segment[offset : offset + 4], "big") for offset in (8, 12, 16, 20))
    depth = segment[42]
    return CodestreamHeader(
        kind="jpeg_2000",
        rows=y1 - y0,
        cols=x1 - x0,
        samples=int.from_bytes(segment[40:42], "big"),
        bits=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
    )


def _read_sof(frame: bytes) -> CodestreamHeader:
    """The frame header of a JPEG or JPEG-LS codestream (ITU-T T.81 B.2.2)."""
    position, adobe_transform = 2, None
    while position + 10 <= len(frame):
        if frame[position] != 0xFF:
            break
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        body = frame[position + 4 : position + 2 + length]
        if marker in UNSUPPORTED_JPEG:
            raise FileRefused(
                "unsupported_syntax", f"The frame is JPEG of a kind (SOF{marker - 0xC0}) that no decoder here reads."
            )
        if marker in OTHER_JPEG | LOSSLESS_JPEG | {JPEG_LS}:
            kind = "jpeg_ls" if marker == JPEG_LS else "jpeg_lossless" if marker in LOSSLESS_JPEG else "jpeg"
            rows, cols = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return CodestreamHeader(kind, rows, cols, body[5], body[0], adobe_transform=adobe_transform)
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe_transform = body[11]
        position += 2 + max(length, 2)
    raise FileRefused("truncated", "The JPEG frame ends within its header.")
