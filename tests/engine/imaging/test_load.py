"""The one entry: whatever comes in, a Film or a refusal with a reason comes out, and the next file is served."""

import os
import signal
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from engine.errors import FileRefused
from engine.imaging import load
from engine.imaging.load import DecodeProcess, load_film
from tests.engine.imaging.synthetic import radiograph, ramp, saved


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return saved(radiograph(ramp(), bits=12, WindowCenter=900, WindowWidth=1200), tmp_path / "good.dcm")


def refusal_of(path: Path, **limits) -> FileRefused:
    with pytest.raises(FileRefused) as refusal:
        load_film(path, **limits)
    return refusal.value


def test_a_film_arrives_whole(good: Path) -> None:
    film = load_film(good)
    assert np.array_equal(film.pixels, ramp())
    assert film.pixels.dtype == np.uint16
    assert (film.vois[0].center, film.vois[0].width) == (900, 1200)
    assert film.tags.patient_name == "Doe^Jane"


def test_the_content_decides_not_the_name(tmp_path: Path, good: Path) -> None:
    pretended = good.rename(tmp_path / "holiday.jpg")
    assert load_film(pretended).source_format == "dicom"
    Image.new("L", (20, 10)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "film.dcm")
    assert load_film(tmp_path / "film.dcm").source_format == "png"


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "empty", "0 bytes"),
        (b"%PDF-1.7 ...", "unknown_format", "PDF"),
        (b"PK\x03\x04....", "unknown_format", "ZIP"),
        (b"<html></html>", "unknown_format", "web page"),
        (b"hello", "unknown_format", "not a DICOM, PNG or JPEG"),
        (b"\0" * 5000, "unknown_format", "not a DICOM, PNG or JPEG"),
        (b"\0" * 128 + b"DICM", "no_pixels", "no image"),
        (b"\x89PNG\r\n\x1a\n", "malformed", "damaged"),
        (b"\xff\xd8\xff\xe0", "malformed", "damaged"),
    ],
)
def test_what_is_no_film_is_refused_with_a_reason(tmp_path: Path, content: bytes, code: str, says: str) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(content)
    refusal = refusal_of(path)
    assert refusal.code == code
    assert says in str(refusal)


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path).code == "not_a_file"
    assert refusal_of(tmp_path / "gone.dcm").code == "not_a_file"


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_file_cut_off_is_refused(good: Path, keep: float) -> None:
    data = good.read_bytes()
    good.write_bytes(data[: int(len(data) * keep)])
    assert refusal_of(good).code in ("truncated", "no_pixels", "malformed")


def test_a_file_cut_off_within_a_sequence_is_truncated_and_not_called_no_file(tmp_path: Path) -> None:
    within = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    path = tmp_path / "cut.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + meta + within * 3)
    assert refusal_of(path).code == "truncated"


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG"])
def test_a_picture_cut_off_is_refused(tmp_path: Path, picture_format: str) -> None:
    path = tmp_path / "picture"
    noise = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    Image.fromarray(noise).save(path, picture_format)
    path.write_bytes(path.read_bytes()[:-3000])
    assert refusal_of(path).code in ("truncated", "malformed")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings(tmp_path: Path, syntax: str) -> None:
    dataset = radiograph(ramp(), bits=12)
    dataset.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(load_film(saved(dataset, tmp_path / "film.dcm")).pixels, ramp())


def test_big_endian(tmp_path: Path) -> None:
    dataset = radiograph(ramp(), bits=12)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset["PixelData"].value = ramp().astype(">u2").tobytes()
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=False)
    path = saved(dataset, tmp_path / "film.dcm")
    assert np.array_equal(load_film(path).pixels, ramp())


def test_a_file_without_preamble_and_meta_header(tmp_path: Path) -> None:
    dataset = radiograph(ramp(), bits=12)
    del dataset.file_meta
    dataset.preamble = None
    path = tmp_path / "film"
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(load_film(path).pixels, ramp())


# Hostile files


def test_a_header_that_declares_3_gb_is_refused_under_the_memory_cap(tmp_path: Path, good: Path) -> None:
    head = b"\0" * 128 + b"DICM" + b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    path = tmp_path / "3gb.dcm"
    path.write_bytes(head + b"\x08\0\x10\x42OB\0\0" + (3 * 2**30).to_bytes(4, "little") + b"x" * 1000)
    assert refusal_of(path).code in ("too_much_memory", "truncated", "malformed", "no_pixels")
    assert load_film(good).pixels.shape == (256, 256)


def test_a_deflate_bomb_is_refused_under_the_memory_cap(tmp_path: Path, good: Path) -> None:
    dataset = radiograph(ramp(), bits=12)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = saved(dataset, tmp_path / "bomb.dcm")
    start = path.read_bytes().index(DeflatedExplicitVRLittleEndian.encode()) + len(DeflatedExplicitVRLittleEndian)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(b"\0" * 2**20)
    packer.flush(zlib.Z_FULL_FLUSH)
    megabyte = packer.compress(b"\0" * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(path.read_bytes()[: start + start % 2] + megabyte * 1000 + packer.flush())
    assert path.stat().st_size < 2 * 2**20
    assert refusal_of(path, memory_limit_mb=600).code == "too_much_memory"
    assert load_film(good).pixels.shape == (256, 256)


@pytest.mark.parametrize("side", [8001, 60000])
def test_a_picture_of_more_than_64_megapixels_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    assert refusal_of(path).code == "too_many_pixels"


def test_a_radiograph_of_more_than_64_megapixels_is_refused(tmp_path: Path) -> None:
    path = saved(radiograph(ramp(), Rows=20000, Columns=20000), tmp_path / "bomb.dcm")
    assert refusal_of(path).code == "too_many_pixels"


def test_a_compressed_frame_larger_than_declared_is_refused(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    Image.new("L", (600, 600)).save(tmp_path / "big.jpg")
    dataset = radiograph(ramp(100, 100).astype(np.uint8))
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([(tmp_path / "big.jpg").read_bytes()])
    refusal = refusal_of(saved(dataset, tmp_path / "film.dcm"))
    assert refusal.code == "malformed"
    assert "600 x 600" in str(refusal)


def test_a_file_over_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.dcm"
    with path.open("wb") as file:
        file.write(b"\0" * 128 + b"DICM")
        file.truncate(600 * 2**20)  # sparse
    assert refusal_of(path).code == "too_large"


# The decode process


@pytest.fixture
def waiting(tmp_path: Path):
    """A decode process that can be made to wait for ever, by a pipe that nobody writes to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = DecodeProcess(1500)
    yield process, pipe
    process.close()


def test_a_decoder_that_hangs_is_stopped(waiting) -> None:
    process, pipe = waiting
    with pytest.raises(FileRefused) as refusal:
        process.decode(pipe, "dicom", 0.3)
    assert refusal.value.code == "too_slow"
    assert process.spent


@pytest.mark.parametrize(("death", "code"), [(signal.SIGSEGV, "decoder_crashed"), (signal.SIGKILL, "too_much_memory")])
def test_a_decoder_that_dies_is_reported(waiting, death: int, code: str) -> None:
    process, pipe = waiting
    killer = threading.Timer(0.3, lambda: process._process.send_signal(death))
    killer.start()
    with pytest.raises(FileRefused) as refusal:
        process.decode(pipe, "dicom", 20)
    assert refusal.value.code == code
    killer.join()


def test_a_slow_file_is_refused_and_the_next_one_served(good: Path) -> None:
    assert refusal_of(good, time_limit_s=0).code == "too_slow"
    assert load_film(good).pixels.shape == (256, 256)


def test_a_decoder_that_died_between_two_files_is_replaced(good: Path) -> None:
    load_film(good)
    for process in load._pool._idle:
        process._process.kill()
        process._process.wait()
    assert load_film(good).pixels.shape == (256, 256)


def test_many_threads_get_their_own_films(tmp_path: Path) -> None:
    paths = [
        saved(radiograph(np.full((64, 64), number, np.uint16)), tmp_path / f"{number}.dcm") for number in range(40)
    ]
    with ThreadPoolExecutor(8) as pool:
        films = list(pool.map(load_film, paths))
    assert [int(film.pixels[0, 0]) for film in films] == list(range(40))


def test_the_decode_process_knows_neither_torch_nor_streamlit(good: Path) -> None:
    load_film(good)
    files = {Path(entry.path).name for entry in psutil.Process(load._pool._idle[-1]._process.pid).memory_maps()}
    assert not [name for name in files if "torch" in name or "streamlit" in name or "pyarrow" in name]
