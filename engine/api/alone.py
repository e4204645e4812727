"""The API without the pages, at the same address below /api: `pediscreen api`, in as many processes as asked for."""

from __future__ import annotations

import logging
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from engine.api.app import api
from engine.errors import PediScreenError
from engine.inference.remote import LOOPBACK

app = Starlette(routes=[Mount("/api", api)])


def main(host: str, port: int, workers: int, certificate: Path | None, key: Path | None) -> None:
    """Until SIGTERM or Ctrl-C. Raises PediScreenError where tokens would go over the network in the clear."""
    if host not in LOOPBACK and (certificate is None or key is None):
        raise PediScreenError(
            f"--host {host} would let tokens and films go over the network in the clear. Give --certificate and --key, "
            "or stay on 127.0.0.1 behind a proxy that has them."
        )
    if (certificate is None) != (key is None):
        raise PediScreenError("--certificate and --key belong together: give both, or neither")
    uvicorn.run(
        "engine.api.alone:app",
        host=host,
        port=port,
        workers=workers,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        access_log=False,  # it would log queries, in which a user may have typed a patient's ID
        server_header=False,
        log_config=LOGGING,
    )


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["out"], "level": logging.WARNING},
    "loggers": {"engine": {"level": logging.INFO}, "uvicorn": {"level": logging.INFO}},
}
