"""What goes wrong with disks and databases, in words for whoever sees it, with what to do. None of it loses what was
stored: what was not finished is refused whole, and is done again."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError

FULL = (
    "The disk is full. Free some space on the disk of the data folder or the database, then do it again: what was not "
    "finished was not stored, and nothing stored was lost."
)
READ_ONLY = (
    "The data folder or the database can only be read: nothing can be stored, and no case is shown, as the look could "
    "not be recorded. Make its disk writable again (a disk with errors is often mounted read-only); then go on."
)
FAILED = (
    "The disk does not take what is written: it is full, or it has errors. Look at its free space and at the system's "
    "log, then do it again: what was not finished was not stored."
)
CANNOT_OPEN = (
    "The database file cannot be opened: its folder is missing or can only be read. Bring it back, then reload; "
    "`pediscreen doctor` says where it is looked for."
)
AWAY = "The database does not answer. What is stored there is safe; this page works again as soon as it is back."
OF_OS = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EROFS: READ_ONLY}
# https://www.sqlite.org/rescode.html, https://www.postgresql.org/docs/current/errcodes-appendix.html
OF_SQLITE = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_IOERR: FAILED,
    sqlite3.SQLITE_CANTOPEN: CANNOT_OPEN,
}
OF_POSTGRESQL = {"53100": FULL, "25006": READ_ONLY}


def in_words(error: BaseException) -> str | None:
    """Of an error that is the disk's, or a database server's that is away; None for any other."""
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is not None:
            return OF_SQLITE.get(code & 0xFF)
        state = getattr(error.orig, "sqlstate", None)
        is_away = isinstance(error, OperationalError) and (state is None or state.startswith(("08", "57P")))
        return AWAY if is_away else OF_POSTGRESQL.get(state or "")
    return OF_OS.get(error.errno or 0) if isinstance(error, OSError) else None
