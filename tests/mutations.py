"""Damaged, contradictory and hostile files, each drawn by a seed from files that are whole."""

from __future__ import annotations

import io
import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread, uid

from engine.phantoms.write import make_phantoms
from tests.workstation import write_film

LARGEST_ORIGINAL = 2 * 2**20
FOREIGN_FILES = Path(__file__).parents[2] / "shared" / "testdata"
ODD_NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
# Attributes whose values decide what is allocated, decoded or computed.
TAGS = (
    (0x0028, 0x0002), (0x0028, 0x0004), (0x0028, 0x0006), (0x0028, 0x0008), (0x0028, 0x0010), (0x0028, 0x0011),
    (0x0028, 0x0034), (0x0028, 0x0030), (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102), (0x0028, 0x0103),
    (0x0028, 0x0120), (0x0028, 0x1050), (0x0028, 0x1051), (0x0028, 0x1052), (0x0028, 0x1053), (0x0028, 0x1056),
    (0x0028, 0x3000), (0x0028, 0x3002), (0x0028, 0x3006), (0x0028, 0x3010), (0x0002, 0x0010), (0x0008, 0x0005),
    (0x0008, 0x0016), (0x0008, 0x0018), (0x0010, 0x0010), (0x0010, 0x0020), (0x0010, 0x0030), (0x0010, 0x0040),
    (0x0018, 0x1164), (0x0018, 0x1600), (0x0018, 0x1602), (0x2050, 0x0020), (0x7FE0, 0x0010),
)  # fmt: skip
SYNTAXES = (
    str(uid.ImplicitVRLittleEndian),
    str(uid.ExplicitVRLittleEndian),
    str(uid.ExplicitVRBigEndian),
    str(uid.DeflatedExplicitVRLittleEndian),
    str(uid.RLELossless),
    str(uid.JPEGBaseline8Bit),
    str(uid.JPEGLossless),
    str(uid.JPEGLSLossless),
    str(uid.JPEG2000Lossless),
    "1.2.840.10008.1.2.4.110",  # JPEG XL
    "1.2.840.10008.1.2.4.201",  # HTJ2K
    "1.2.840.10008.1.2.4.102",  # MPEG-4, which is not decoded
)
VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OW PN SH SL SQ SS ST TM UC UI UL UN UR US UT ZZ".split()


@dataclass(frozen=True)
class Original:
    name: str
    data: bytes
    is_ours: bool  # a film that is accepted as it is
    uids: tuple[bytes, ...] = ()  # made anew in every mutation, or all but one would be refused as reused


def originals(scratch: Path, *, with_foreign_files: bool) -> list[Original]:
    """Phantoms and small films as DICOM, PNG and JPEG; and the foreign files, where they are on this machine."""
    paths = [
        write_film(scratch / "small.dcm"),
        write_film(scratch / "other.dcm", PhotometricInterpretation="MONOCHROME1"),
    ]
    for task in ("hand", "fundus", "wrist"):
        for file_format in ("dicom", "png"):
            paths += [one.path for one in make_phantoms(scratch, task, 1, 5, format=file_format)]  # type: ignore[arg-type]
    grey = (np.add.outer(np.arange(300), np.arange(260)) % 256).astype(np.uint8)
    for mode in ("L", "RGB", "CMYK", "P", "RGBA"):
        for suffix in ("png", "jpg"):
            if (mode, suffix) not in (("CMYK", "png"), ("P", "jpg"), ("RGBA", "jpg")):
                paths.append(scratch / f"{mode}.{suffix}")
                Image.fromarray(grey).convert("RGB").convert(mode).save(paths[-1])
    Image.fromarray(grey).save(scratch / "progressive.jpg", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    paths.append(scratch / "progressive.jpg")
    if with_foreign_files and FOREIGN_FILES.is_dir():
        paths += sorted(
            path for path in FOREIGN_FILES.rglob("*") if path.is_file() and path.suffix not in (".csv", ".md")
        )
    small = [path for path in paths if path.stat().st_size <= LARGEST_ORIGINAL or scratch in path.parents]
    return [Original(path.name, path.read_bytes(), scratch in path.parents, _uids(path)) for path in small]


def _uids(path: Path) -> tuple[bytes, ...]:
    if path.suffix in (".png", ".jpg"):
        return ()
    try:
        data = dcmread(path, force=True, stop_before_pixels=True)
        return tuple(str(data[keyword].value).encode() for keyword in ("SOPInstanceUID", "StudyInstanceUID"))
    except Exception:  # a foreign file that is broken as it is
        return ()


def mutated(files: list[Original], seed: int) -> tuple[str, bytes]:
    """What was done to which file, and the result. The same files and seed give the same bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.06:
        bomb = rng.choice(BOMBS)
        return bomb.__name__.strip("_"), bomb(rng)
    ours = [file for file in files if file.is_ours]
    original = rng.choice(ours if rng.random() < 0.5 else files)
    data = original.data
    for old in original.uids:
        if len(old) > 12:
            data = data.replace(old, old[:-10] + f"{seed % 10**9 + 10**9:010}".encode())
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        mutation = rng.choice(MUTATIONS)
        data = mutation(data, rng, files) or b"\0"
        done.append(mutation.__name__.strip("_"))
    return f"{original.name}: {', '.join(done)}", data


def _place(data: bytes, rng: random.Random) -> int:
    """Mostly near the beginning, where headers are."""
    limit = len(data) if rng.random() < 0.4 else min(len(data), 3000)
    return rng.randrange(max(1, limit))


def _flip_bits(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 3, 10, 100))):
        out[_place(data, rng) % len(out)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _overwrite(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 8, 64, 1000))
    fill = rng.choice((b"\0" * size, b"\xff" * size, rng.randbytes(size)))
    return data[:at] + fill[: len(data) - at] + data[at + size :]


def _odd_number(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    at, form = _place(data, rng), rng.choice(("<H", ">H", "<I", ">I"))
    number = struct.pack(form, rng.choice(ODD_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    return data[:at] + number + data[at + len(number) :]


def _cut_out(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 7, 100, 5000)) :]


def _truncate(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    return data[: _place(data, rng)]


def _repeat(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    at, size = _place(data, rng), rng.choice((2, 16, 300))
    return data[:at] + data[at : at + size] * rng.choice((2, 20, 400)) + data[at + size :]


def _insert(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 8, 200))) + data[at:]


def _splice(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    other = rng.choice(files).data
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _change_attribute(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """A value, a length or a representation of a DICOM attribute; another transfer syntax."""
    group, element = rng.choice(TAGS)
    at = data.find(struct.pack("<HH", group, element))
    if at < 0:
        return _flip_bits(data, rng, files)
    out = bytearray(data)
    what = rng.randrange(4)
    if what == 0:
        out[at + 4 : at + 6] = rng.choice(VRS)
    elif what == 1:
        out[at + 6 : at + 8] = struct.pack("<H", rng.choice(ODD_NUMBERS) & 0xFFFF)
    elif what == 2:
        out[at + 8 : at + 12] = struct.pack("<I", rng.choice(ODD_NUMBERS))
    elif (group, element) == (0x0002, 0x0010):
        length = int.from_bytes(out[at + 6 : at + 8], "little")
        out[at + 8 : at + 8 + length] = rng.choice(SYNTAXES).encode().ljust(length, b"\0")[:length]
    else:
        value = rng.choice((b"-1", b"nan", b"1e400", b"99999999", b"\\\\\\\\", b"\x1b$B", b"%s%n", b"\0\0", b"../"))
        out[at + 8 : at + 8 + len(value)] = value
    return bytes(out)


def _change_jpeg_or_png(data: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """The size in a JPEG frame header or a PNG header, the latter with a checksum that fits."""
    out = bytearray(data)
    if data[:4] == b"\x89PNG":
        field = rng.choice((16, 20))
        out[field : field + 4] = struct.pack(">I", rng.choice(ODD_NUMBERS))
        if rng.random() < 0.3:
            out[24:29] = bytes(
                (rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 5)), 0, 0, rng.choice((0, 1)))
            )
        out[29:33] = struct.pack(">I", zlib.crc32(bytes(out[12:29])))
        return bytes(out)
    frames = [at for at in range(len(data) - 10) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)]
    if not frames:
        return _flip_bits(data, rng, files)
    at = rng.choice(frames[:4])
    out[at + 5 : at + 9] = struct.pack(">HH", *(rng.choice(ODD_NUMBERS) & 0xFFFF for _ in range(2)))
    return bytes(out)


MUTATIONS = (
    _flip_bits, _overwrite, _odd_number, _cut_out, _truncate, _repeat, _insert, _splice, _change_attribute,
    _change_attribute, _change_attribute, _change_jpeg_or_png,
)  # fmt: skip


# ------------------------------------------------------------------ files made to exhaust


def _meta(syntax: str) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value


def _us(group: int, element: int, value: int) -> bytes:
    return struct.pack("<HH2sHH", group, element, b"US", 2, value)


def _image_header(rows: int, cols: int, bits: int) -> bytes:
    photometric = struct.pack("<HH2sH", 0x28, 4, b"CS", 12) + b"MONOCHROME2 "
    return (
        _us(0x28, 2, 1) + photometric + _us(0x28, 0x10, rows) + _us(0x28, 0x11, cols) + _us(0x28, 0x100, bits)
        + _us(0x28, 0x101, bits) + _us(0x28, 0x102, bits - 1) + _us(0x28, 0x103, 0)
    )  # fmt: skip


def _bomb_deflate(rng: random.Random) -> bytes:
    """A data set that unfolds to gigabytes of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    block, out = bytes(16 * 2**20), packer.compress(_image_header(8000, 8000, 16))
    out += packer.compress(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 0x7FFFFFFE))
    for _ in range(rng.choice((20, 130))):
        out += packer.compress(block)
    return _meta(str(uid.DeflatedExplicitVRLittleEndian)) + out + packer.flush()


def _bomb_declared_length(rng: random.Random) -> bytes:
    """A header that declares 3 GB and more and holds nothing."""
    tag = rng.choice(((0x0010, 0x0010), (0x0009, 0x1001), (0x0028, 0x3006), (0x7FE0, 0x0010)))
    size = rng.choice((3 * 2**30, 0xFFFFFFFE, 0x7FFFFFFF))
    header = _image_header(2000, 2000, 16) if tag[0] == 0x7FE0 else b""
    return (
        _meta("1.2.840.10008.1.2.1") + header + struct.pack("<HH2sHI", *tag, rng.choice((b"OB", b"UN", b"SQ")), 0, size)
    )


def _bomb_rows_and_columns(rng: random.Random) -> bytes:
    rows, cols = rng.choice(((65535, 65535), (46341, 46341), (8000, 8000), (1, 65535)))
    syntax = rng.choice(SYNTAXES)
    return (
        _meta(syntax) + _image_header(rows, cols, 16) + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 64) + bytes(64)
    )


def _bomb_nesting(rng: random.Random) -> bytes:
    opening = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return _meta("1.2.840.10008.1.2.1") + opening * rng.choice((50, 3000, 60_000))


def _bomb_many_elements(rng: random.Random) -> bytes:
    element = b"".join(struct.pack("<HH2sH", 0x0009, number, b"LO", 0) for number in range(0x1000, 0x5000))
    return _meta("1.2.840.10008.1.2.1") + element * 10 + _image_header(10, 10, 8)


def _bomb_rle(rng: random.Random) -> bytes:
    """Runs of 128 equal bytes, 60 times what 64 megapixels need."""
    run = b"\x81\0" * rng.choice((100_000, 2_000_000))
    frame = struct.pack("<16I", 2, 64, 64, *[0] * 13) + run
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    pixels = (
        struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + fragments + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    return _meta(str(uid.RLELossless)) + _image_header(8000, 8000, 16) + pixels


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb_png(rng: random.Random) -> bytes:
    """64 megapixels of RGBA, or a text or profile that unfolds to 400 MB."""
    side = rng.choice((8000, 60_000))
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, rng.choice((8, 16)), 6, 0, 0, 0))
    packer = zlib.compressobj(1)
    zeros = b"".join([*(packer.compress(bytes(2**20)) for _ in range(400)), packer.flush()])
    kind, prefix = rng.choice(((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"IDAT", b"")))
    return head + _chunk(kind, prefix + zeros) + _chunk(b"IDAT", zeros) + _chunk(b"IEND", b"")


def _bomb_jpeg(rng: random.Random) -> bytes:
    """65,500 x 65,500 pixels, or 7,900 x 8,000 with ten thousand scans."""
    out = io.BytesIO()
    Image.new("L", (64, 64), 128).save(out, "JPEG", progressive=True)
    data = bytearray(out.getvalue())
    at = data.find(b"\xff\xc2")
    size = rng.choice(((65500, 65500), (7900, 8000)))
    data[at + 5 : at + 9] = struct.pack(">HH", *size)
    scan = data.find(b"\xff\xda")
    return bytes(data[:-2]) + bytes(data[scan:-2]) * rng.choice((1, 10_000)) + b"\xff\xd9"


BOMBS = (
    _bomb_deflate, _bomb_declared_length, _bomb_rows_and_columns, _bomb_nesting, _bomb_many_elements, _bomb_rle,
    _bomb_png, _bomb_jpeg,
)  # fmt: skip
