"""Do identifiers planted in DICOM files come out of the de-identification?

    python -m tests.benchmarks.planted_identifiers --count 200

Plants a made-up child's name, numbers, dates and addresses in headers, nested sequences, private attributes, odd value
representations, overlays, comments, codestreams, preambles and file names, in eight character sets; writes every file
as the export does; and searches the bytes of what was written for each of them, in every character set, without asking
the export's own scan, whose verdict is counted beside. Prints JSON."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from pydicom import dcmread

from engine.errors import Refused
from engine.imaging.load import load_film
from engine.interop import rescan
from engine.interop.deidentify import DeidentificationKey, deidentified, write
from tests.planted import CHARACTER_SETS, plant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the planted files break the standard, on purpose
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    counts: Counter[str] = Counter()
    seconds = []
    key = DeidentificationKey(b"a key for this benchmark alone")
    with tempfile.TemporaryDirectory(prefix="pediscreen-planted-") as scratch:
        for seed in range(arguments.count):
            film = plant(Path(scratch) / "in", seed)
            counts["identifiers planted"] += len(film.secrets)
            counts["of them found in the originals"] += len(found_in(film.path, film.secrets))
            started = time.perf_counter()
            try:
                new = deidentified(film.path, key, f"P-{seed:06}")
            except Refused as refusal:
                counts[f"held back: {refusal.code}"] += 1
                continue
            out = Path(scratch) / "out" / f"{new.SOPInstanceUID}.dcm"
            write(new, out)
            scan = rescan.leaks_in_dicom(out, rescan.identifiers_of(film.path), out.name)
            seconds.append(time.perf_counter() - started)
            counts["files written"] += 1
            counts["identifiers found in what was written"] += len(found_in(out, film.secrets))
            counts["files that the export's scan refuses"] += bool(scan)
            counts["originals that the export's scan refuses"] += bool(
                rescan.leaks_in_dicom(film.path, rescan.identifiers_of(film.path), film.path.name)
            )
            same = np.array_equal(load_film(out).pixels, load_film(film.path).pixels)
            if film.stored is not None:
                same = same and np.array_equal(dcmread(out).pixel_array, film.stored)
            counts["files with other pixels than their original"] += not same
    result = dict(counts) | {"seconds a file, median": round(float(np.median(seconds)), 3)}
    print(json.dumps(result, indent=1))


def found_in(path: Path, secrets: tuple[str, ...]) -> set[str]:
    """In the bytes of the file or in its name."""
    haystack = path.read_bytes().lower() + b"\n" + path.name.lower().encode()
    found = set()
    for secret in secrets:
        for encoding in CHARACTER_SETS:
            try:
                if secret.encode(encoding).lower() in haystack:
                    found.add(secret)
            except UnicodeEncodeError:
                continue
    return found


if __name__ == "__main__":
    main()
