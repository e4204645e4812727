"""Files a second that training.prepare_pedirad_dataset reads: hands as DICOM, wrists as PNG, colour fundus DICOM.

python -m tests.benchmarks.prepare_speed [--count 100] [--workers 2]        phantoms of each kind; about 1 minute"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.phantoms.write import make_phantoms

KINDS = (("hand", "dicom"), ("wrist", "png"), ("fundus", "dicom"))
COLUMNS = ("file", "task", "bone_age_months", "zone", "stage", "plus_disease", "fracture", "sex", "age_months")


def write_raw(raw: Path, count: int) -> int:
    """Phantoms and a label file; returns the bytes of the images."""
    with (raw / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for task, format in KINDS:
            for made in make_phantoms(raw / task, task, count, 11, format=format):
                facts = {"sex": made.sex, "age_months": round(made.age_months, 1)}
                rows.writerow({"file": made.path.relative_to(raw).as_posix(), **made.answer, **facts})
    return sum(path.stat().st_size for path in raw.rglob("*") if path.suffix in (".dcm", ".png"))


def main(count: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        raw, out = Path(place) / "raw", Path(place) / "pedirad-8k"
        raw.mkdir()
        size = write_raw(raw, count)
        command = [sys.executable, "-m", "training.prepare_pedirad_dataset", "--raw_dir", str(raw)]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            [*command, "--output_dir", str(out), "--workers", str(workers), "--stratified_split"], check=True
        )
        seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        written = sum(path.stat().st_size for path in (out / "images").iterdir())
    files = count * len(KINDS)
    print(f"{files} files, {size / 1e6:.0f} MB to {written / 1e6:.0f} MB, {workers} workers: {seconds:.1f} s")
    print(f"{files / seconds:.1f} files/s with starting up; {processor_s:.1f} s of processor time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    main(arguments.count, arguments.workers)
