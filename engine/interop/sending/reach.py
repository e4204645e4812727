"""Whether a destination can be reached, without sending it anything: for `pediscreen doctor`."""

from __future__ import annotations

import os

from engine.interop.destinations import Destination, Kind
from engine.interop.sending import Unreachable, c_store

CONNECT_S = 5.0


def reach(destination: Destination) -> None:
    """A DICOM node is asked to answer (C-ECHO); of a server it is tried whether it takes a connection, with TLS where
    that is configured; a folder has to be there. Raises Unreachable."""
    if destination.kind is Kind.DICOM:
        c_store.echo(destination)
    elif destination.kind is Kind.FOLDER:
        assert destination.folder is not None
        if not destination.folder.is_dir() or not os.access(destination.folder, os.W_OK):
            raise Unreachable("the folder is not there, or cannot be written")
    else:
        try:
            c_store.connect(destination, CONNECT_S)
        except OSError as error:
            raise Unreachable(c_store.why_not_connected(error)) from error
