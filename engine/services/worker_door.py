"""The way to this machine's worker, which holds the model in use: for reads and words that somebody waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ModelUnavailable
from engine.settings import settings

if TYPE_CHECKING:
    from engine.inference.remote import RemoteReader


def reader() -> RemoteReader:
    """What the worker reads with. Raises ModelUnavailable where no worker can be asked, or none answers."""
    from engine.inference.remote import RemoteReader  # brings the HTTP client, which few need

    here = settings()
    if here.reads_url is None:
        raise ModelUnavailable(
            "No worker can be asked. Start web and worker with pediscreen up, or both with the same "
            "PEDISCREEN_READS_PORT and PEDISCREEN_READS_TOKEN."
        )
    return RemoteReader(here.reads_url, here.reads_token)
