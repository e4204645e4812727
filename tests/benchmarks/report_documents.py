"""How long the documents of a signed study take, and how large they are: python -m tests.benchmarks.report_documents"""

from __future__ import annotations

import statistics
import time

from engine.interop.documents import documents_of
from engine.interop.signed_study import DocumentKind
from tests.engine.interop import signed

STUDIES = {"bone age": signed.bone_age, "both eyes": signed.both_eyes, "fracture with a region": signed.fracture}
REPEATS = 20


def main() -> None:
    documents_of(signed.phantom())  # imports, fonts, the code table
    for name, make in STUDIES.items():
        for kind in DocumentKind:
            taken = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                (document,) = documents_of(make(), [kind])
                taken.append(1000 * (time.perf_counter() - started))
            size = len(document.content) / 1000
            print(f"{name:24} {kind:18} {statistics.median(taken):6.1f} ms median of {REPEATS}, {size:7.0f} kB")


if __name__ == "__main__":
    main()
