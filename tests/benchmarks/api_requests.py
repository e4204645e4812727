"""At least 2,000 requests made from the API's own description, by schemathesis, to `pediscreen api` with two processes:

    python -m tests.benchmarks.api_requests [--requests 2000] [--seed 7] [--json]

Ends with 1 where an answer was a 5xx or differs from the description. Which checks are on:
tests/engine/api/generated_requests.py."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from db import migrate
from db.session import session_scope
from engine.settings import settings
from tests.engine.api.generated_requests import CHECKS_OFF, send

EXAMPLES = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=2000, help="at least so many")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    begun, answers, failed, runs = time.monotonic(), {}, False, 0
    while sum(answers.values()) < arguments.requests:
        sent = _one_run(arguments.seed + runs)
        runs += 1
        failed = failed or sent.failed
        for status, count in sent.answers.items():
            answers[status] = answers.get(status, 0) + count
        if sent.failed:
            print(sent.said, file=sys.stderr)
    answers = dict(sorted(answers.items()))
    server_errors = sum(count for status, count in answers.items() if status >= 500)
    result = {
        "requests": sum(answers.values()),
        "runs": runs,
        "answers": answers,
        "server_errors": server_errors,
        "violations": failed,
        "checks_off": CHECKS_OFF,
        "seconds": round(time.monotonic() - begun),
    }
    text = ", ".join(f"{count} x {status}" for status, count in answers.items())
    print(json.dumps(result) if arguments.json else f"{result['requests']} requests in {result['seconds']} s: {text}")
    return 1 if failed or server_errors else 0


def _one_run(seed: int):
    with tempfile.TemporaryDirectory(prefix="api-requests-") as name:
        folder = Path(name)
        os.environ["PEDISCREEN_DATA_DIR"] = str(folder / "data")
        settings.cache_clear()
        url = settings().database_url
        migrate.upgrade(url)
        with session_scope(url) as session:
            return send(session, folder, EXAMPLES, seed=seed, workers=2)


if __name__ == "__main__":
    sys.exit(main())
