"""How many requests a token or a user may send: some at once, and then so many a minute.

Counted for all web and API processes of this machine together, in a small file of its own in the data folder; each
machine counts for itself. A caller is one number, the time at which their allowance is whole again (GCRA: Brandenburg,
https://brandur.org/rate-limiting)."""

from __future__ import annotations

import math
import socket
import sqlite3
import threading
import time
from functools import cache
from pathlib import Path

from engine.api.errors import TooManyRequests
from engine.settings import settings

AT_ONCE_S = 10  # as many requests as these seconds would bring may come in one go
KEPT_S = 3600
LONGEST_WAIT_FOR_FILE_S = 5


def take(who: str) -> None:
    """Count one request. Raises TooManyRequests."""
    per_minute = settings().api_requests_per_minute
    wait_s = _counter(settings().data_dir).wait_s(who, 60 / per_minute, time.time())
    if wait_s > 0:
        seconds = math.ceil(wait_s)
        raise TooManyRequests(f"More than {per_minute} requests a minute: go on in {seconds} s.", seconds)


@cache
def _counter(data_dir: Path) -> Counter:
    data_dir.mkdir(parents=True, exist_ok=True)
    return Counter(data_dir / f"api-requests-{socket.gethostname()[:50]}.sqlite")


class Counter:
    def __init__(self, path: Path) -> None:
        self._turn = threading.Lock()
        self._file = sqlite3.connect(
            path, timeout=LONGEST_WAIT_FOR_FILE_S, isolation_level=None, check_same_thread=False
        )
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = OFF")  # a count that a power cut loses is no loss
        self._file.execute("CREATE TABLE IF NOT EXISTS caller (who TEXT PRIMARY KEY, whole_at REAL) WITHOUT ROWID")
        self._file.execute("DELETE FROM caller WHERE whole_at < ?", (time.time() - KEPT_S,))

    def wait_s(self, who: str, interval_s: float, now: float) -> float:
        """0 where the request may be carried out, which is then counted; else how long until it may."""
        with self._turn:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                found = self._file.execute("SELECT whole_at FROM caller WHERE who = ?", (who,)).fetchone()
                whole_at = max(found[0] if found else now, now) + interval_s
                early_s = whole_at - now - max(AT_ONCE_S, interval_s)
                if early_s <= 0:
                    self._file.execute("REPLACE INTO caller VALUES (?, ?)", (who, whole_at))
            finally:
                self._file.execute("COMMIT")
        return max(0.0, early_s)
