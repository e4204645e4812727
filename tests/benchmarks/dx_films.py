"""Digital radiographs of about 5 MB, each another one: phantoms of hands, enlarged to what a detector of today gives.

Drawing a phantom takes longer than receiving one, so a few are drawn and every film is one of them, shifted, with noise
and a child, study and UIDs of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from engine.phantoms.write import make_phantoms

ROWS, COLS = 2000, 1268  # 2 bytes each: 5.07 MB
DRAWN = 6


def make_films(folder: Path, count: int, seed: int = 1) -> list[Path]:
    """The same arguments give the same files; those that are there stay."""
    paths = [folder / f"{number:05d}.dcm" for number in range(count)]
    if all(path.exists() for path in paths):
        return paths
    rng = np.random.default_rng(seed)
    drawn = [dcmread(file.path) for file in make_phantoms(folder / "drawn", "hand", DRAWN, seed)]
    larger = [enlarged(data.pixel_array) for data in drawn]
    noise = rng.normal(0, 12, (ROWS, COLS))
    for number, path in enumerate(paths):
        data, pixels = drawn[number % DRAWN], larger[number % DRAWN]
        shifted = np.roll(noise, int(rng.integers(1, noise.size)))
        data.PixelData = np.clip(pixels + shifted, 0, 2**data.BitsStored - 1).astype("<u2").tobytes()
        data.Rows, data.Columns = ROWS, COLS
        data.PatientID, data.AccessionNumber = f"RECEIVE-{seed}-{number}", f"R{number:09d}"
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            setattr(data, keyword, generate_uid(entropy_srcs=["receive", str(seed), str(number), keyword]))
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(path, enforce_file_format=True)
    return paths


def enlarged(pixels: np.ndarray) -> np.ndarray:
    rows = np.linspace(0, pixels.shape[0] - 1, ROWS).astype(int)
    cols = np.linspace(0, pixels.shape[1] - 1, COLS).astype(int)
    return pixels[rows[:, None], cols].astype(np.float64)
