"""How long `pediscreen audit verify` takes.   python -m tests.benchmarks.audit_verify [ROWS]

Fills a fresh SQLite file with ROWS audit rows (100,000), each of which fixes a read, and prints one JSON line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

AT_ONCE = 2000


def main(rows: int, folder: Path) -> None:
    os.environ["PEDISCREEN_DATA_DIR"] = str(folder)
    from db import migrate
    from db.row_hash import fixed
    from db.session import session_scope, writing
    from engine.services import audit, audit_check
    from engine.services.accounts import demo_admin, service_actor
    from engine.settings import settings
    from tests.benchmarks import reviewed_studies

    url = settings().database_url
    migrate.upgrade(url)
    reviewed_studies.generate(url, rows // 2)
    from db.models import Prediction

    with session_scope(url) as session:
        reads = session.query(Prediction).limit(rows).all()
        for first in range(0, len(reads), AT_ONCE):
            with writing(session):
                for read in reads[first : first + AT_ONCE]:
                    audit.record(session, service_actor("worker"), "read.recorded", f"image:{read.image_fk}",
                                 {"prediction": read.id, "hashes": [fixed(read)]})  # fmt: skip
        session.expunge_all()
        start = time.perf_counter()
        found = audit_check.verify(session, demo_admin())
        seconds = time.perf_counter() - start
    said = {"audit_rows": found.rows, "other_rows": found.rows_checked, "seconds": round(seconds, 1)}
    print(json.dumps(said | {"problems": len(found.problems)}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, Path(temporary))
