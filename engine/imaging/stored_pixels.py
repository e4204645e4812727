"""The pixel data of a data set as stored values: decoded, masked to Bits Stored, with their sign. First frame only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_color_lut

from engine.errors import FileRefused
from engine.imaging import codestream
from engine.imaging.limits import check_size
from engine.imaging.tag_reader import UNREADABLE, TagReader

NATIVE = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
}
COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.53": "JPEG spectral selection",
    "1.2.840.10008.1.2.4.55": "JPEG full progression",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.110": "JPEG XL lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K lossless RPCL",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
GREY = {"MONOCHROME1", "MONOCHROME2"}
COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"}


@dataclass(frozen=True)
class StoredPixels:
    """`values`: (rows, cols) of signed or unsigned integers for grey, (rows, cols, 3) uint8 RGB for colour."""

    values: np.ndarray
    photometric: str
    bits: int  # stored
    is_signed: bool
    frames: int
    transfer_syntax_uid: str


def stored_pixels(dataset: Dataset, warnings: list[str]) -> StoredPixels:
    """Decode the first frame. Size and depth are checked before the pixels are touched. Raises FileRefused."""
    tags = TagReader(dataset)
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise FileRefused("unsupported_pixels", "The pixels are floating-point numbers; a radiograph's are not.")
        modality = tags.text("Modality")
        raise FileRefused("no_pixels", "The file holds no image" + (f" (modality {modality})." if modality else "."))
    rows, cols = tags.integer("Rows"), tags.integer("Columns")
    if rows is None or cols is None:
        raise FileRefused("malformed", "(0028,0010) Rows or (0028,0011) Columns is missing.")
    check_size(rows, cols, "(0028,0010) Rows, (0028,0011) Columns")
    frames = tags.integer("NumberOfFrames") or 1
    samples = tags.integer("SamplesPerPixel")
    if samples is None:
        warnings.append("(0028,0002) Samples per Pixel is missing: 1 is used.")
        samples = 1
    representation = tags.integer("PixelRepresentation")
    if representation not in (0, 1):
        warnings.append(f"(0028,0103) Pixel Representation must be 0 or 1, found {representation}: unsigned is used.")
    photometric = (tags.text("PhotometricInterpretation") or "").upper()
    allocated = tags.integer("BitsAllocated") or 0
    _check_kind(photometric, samples, allocated)
    bits, high_bit = stored_bits(tags, allocated, warnings)
    syntax = _transfer_syntax(dataset)
    is_signed = representation == 1

    if syntax in NATIVE or syntax == uid.RLELossless:
        values = _decode_uncompressed(
            dataset, syntax, rows, cols, samples, allocated, bits, is_signed, photometric, frames
        )
        if photometric.startswith("YBR"):
            values = ybr_to_rgb(values)
        elif allocated > 1:
            values = mask(values, bits, high_bit, is_signed and samples == 1)
    elif syntax in COMPRESSED:
        frame = _compressed_frame(dataset, frames)
        values = codestream.decode(frame, rows, cols, samples, is_ybr=photometric.startswith("YBR"))
        values = _limit_to_bits(values, bits, is_signed)
    else:
        raise FileRefused("unsupported_syntax", _unsupported_syntax(syntax))

    if photometric == "PALETTE COLOR":
        values = _apply_palette(values, dataset)
    elif samples == 3 and values.dtype != np.uint8:
        values = (values.astype(np.uint32) >> max(bits - 8, 0)).astype(np.uint8)
    if frames > 1:
        warnings.append(f"The file holds {frames} frames: only the first is shown.")
    return StoredPixels(values, photometric, bits, is_signed, frames, str(syntax))


def _check_kind(photometric: str, samples: int, allocated: int) -> None:
    if photometric not in GREY | COLOUR:
        raise FileRefused(
            "unsupported_pixels",
            f"(0028,0004) Photometric Interpretation must be one of {', '.join(sorted(GREY | COLOUR))}, "
            f"found {photometric or 'nothing'}.",
        )
    expected = 1 if photometric in GREY or photometric == "PALETTE COLOR" else 3
    if samples != expected:
        raise FileRefused(
            "malformed", f"(0028,0002) Samples per Pixel must be {expected} for {photometric}, found {samples}."
        )
    if allocated not in (1, 8, 16):
        raise FileRefused(
            "unsupported_pixels", f"(0028,0100) Bits Allocated must be 8 or 16 for a radiograph, found {allocated}."
        )


def stored_bits(tags: TagReader, allocated: int, warnings: list[str]) -> tuple[int, int]:
    bits = tags.integer("BitsStored")
    if bits is None or not 1 <= bits <= allocated:
        warnings.append(f"(0028,0101) Bits Stored must be 1 to {allocated}, found {bits}: {allocated} is used.")
        bits = allocated
    high_bit = tags.integer("HighBit")
    if high_bit is None or not bits - 1 <= high_bit < allocated:
        warnings.append(f"(0028,0102) High Bit must be {bits - 1} for {bits} bits stored, found {high_bit}.")
        high_bit = bits - 1
    elif high_bit != bits - 1:
        warnings.append(f"(0028,0102) High Bit is {high_bit} for {bits} bits stored: the bits are moved down.")
    return bits, high_bit


def _transfer_syntax(dataset: Dataset) -> str:
    """As the file says; without a file meta header, as pydicom found the data set to be encoded."""
    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if syntax:
        return str(syntax)
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little in (True, None) else uid.ExplicitVRBigEndian


def _unsupported_syntax(syntax: str) -> str:
    name = uid.UID(syntax).name
    return (
        f"(0002,0010) Transfer Syntax {syntax}"
        + (f" ({name})" if name != syntax else "")
        + " is not one that can be decoded here; send the image uncompressed or as JPEG 2000."
    )


def _decode_uncompressed(
    dataset: Dataset,
    syntax: str,
    rows: int,
    cols: int,
    samples: int,
    allocated: int,
    bits: int,
    is_signed: bool,
    photometric: str,
    frames: int,
) -> np.ndarray:
    if syntax in NATIVE:
        per_pixel = 2 if photometric == "YBR_FULL_422" else samples
        needed = (rows * cols * per_pixel * allocated + 7) // 8
        data = dataset.get_item("PixelData").value or b""
        if len(data) < needed:
            raise FileRefused(
                "truncated",
                f"(7FE0,0010) Pixel Data has {len(data)} bytes; {rows} x {cols} pixels need {needed}. "
                "The file was cut off: send it again.",
            )
    # pydicom insists on tags that have a defined meaning when they are absent
    defaults = {"PixelRepresentation": int(is_signed), "SamplesPerPixel": samples, "NumberOfFrames": frames}
    if samples > 1 and TagReader(dataset).integer("PlanarConfiguration") not in (0, 1):
        defaults["PlanarConfiguration"] = 0
    for keyword, value in (defaults | {"BitsStored": bits}).items():
        setattr(dataset, keyword, value)
    try:
        decoder = get_decoder(uid.UID(syntax))
        values, _ = decoder.as_array(dataset, index=0, raw=True, validate=True, correct_unused_bits=False)
    except (*UNREADABLE, RuntimeError) as error:
        raise FileRefused(
            "malformed", "(7FE0,0010) Pixel Data cannot be decoded: it does not fit what the header declares."
        ) from error
    return values


def _compressed_frame(dataset: Dataset, frames: int) -> bytes:
    data = dataset.get_item("PixelData").value or b""
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    try:
        return get_frame(data, 0, number_of_frames=frames, extended_offsets=offsets)
    except (*UNREADABLE, StopIteration) as error:
        raise FileRefused(
            "malformed", "(7FE0,0010) Pixel Data is not a proper sequence of compressed fragments."
        ) from error


def mask(values: np.ndarray, bits: int, high_bit: int, is_signed: bool) -> np.ndarray:
    """Only the stored bits, with their sign: what overlays or a vendor keep in the others goes."""
    unsigned = values.astype(values.dtype.newbyteorder("="), copy=False)
    unsigned = unsigned.view(f"u{unsigned.dtype.itemsize}")
    if high_bit != bits - 1:
        unsigned = unsigned >> (high_bit - bits + 1)
    if bits < 8 * unsigned.dtype.itemsize:
        unsigned = unsigned & np.array(2**bits - 1, unsigned.dtype)
    if not is_signed:
        return unsigned
    spare = 8 * unsigned.dtype.itemsize - bits
    return np.left_shift(unsigned, spare).view(f"i{unsigned.dtype.itemsize}") >> spare  # extends the sign


def _limit_to_bits(values: np.ndarray, bits: int, is_signed: bool) -> np.ndarray:
    """Lossy codecs overshoot: limit to what Bits Stored can say.

    Where the codestream's sign is not the file's (JPEG and JPEG-LS know none), the bits are read anew."""
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    if is_signed and values.dtype.kind == "u" or not is_signed and values.min() < 0:
        return mask(values, bits, bits - 1, is_signed)
    return np.clip(values, lowest, highest)


def ybr_to_rgb(ybr: np.ndarray) -> np.ndarray:
    """YBR_FULL to RGB, uint8 (PS3.3 C.7.6.3.1.2)."""
    y, blue, red = (ybr[..., channel].astype(np.float32) for channel in range(3))
    blue, red = blue - 128, red - 128
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=-1)
    return np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8)


def _apply_palette(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    try:
        rgb = apply_color_lut(values, dataset)
    except (*UNREADABLE, RuntimeError) as error:
        raise FileRefused(
            "malformed", "The colour palette (0028,1101) ... (0028,1203) is missing or damaged."
        ) from error
    if rgb.dtype == np.uint8:
        return rgb
    return (rgb >> 8).astype(np.uint8)
