"""The loop that receives DICOM objects by C-STORE and takes them in."""

from __future__ import annotations

import dataclasses
import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from db.exchange_tables import Channel
from db.session import session_scope
from engine.imaging.load import MAX_PROCESSES, warm_up
from engine.interop.storage_scp import OUT_OF_RESOURCES, PROCESSING_FAILURE, SUCCESS, Sent, StorageSCP
from engine.jobs.loop import Door, Loop, Pulse, log_failure
from engine.services.accounts import service_actor
from engine.services.incoming import IncomingFile
from engine.services.ingest import Announced, ingest_incoming
from engine.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


class Reception:
    """What becomes of an object: on the worklist, in quarantine, or to be sent again."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.door = Door(Channel.STORAGE_SCP, database_url)
        self._lock = threading.Lock()
        self.trouble: str | None = None  # why the latest object could not be kept
        self.has_served = False

    def refused(self, calling_ae_title: str, address: str, code: str, reason: str) -> None:
        self.door.refused(calling_ae_title or "(unknown)", address, code, reason)

    def store(self, sent: Sent) -> int:
        """0x0000 once the object is on the worklist or in quarantine, file and row; else the sender tries again."""
        try:
            outcome = self._take_in(sent)
        except (OSError, SQLAlchemyError) as error:
            log_failure("an object could not be kept", error)
            what = "the database" if isinstance(error, SQLAlchemyError) else "the disk"
            self._failed(sent, f"Objects cannot be kept ({what}: {type(error).__name__}). Senders try again.")
            return OUT_OF_RESOURCES
        except Exception as error:  # the outermost line of one object
            log_failure("an object could not be taken in", error)
            self._failed(sent, f"An object could not be taken in ({type(error).__name__}): see the exchange's log.")
            return PROCESSING_FAILURE
        self.door.came(sent.calling_ae_title, sent.address, outcome)
        with self._lock:
            self.trouble, self.has_served = None, True
        return SUCCESS

    def _take_in(self, sent: Sent) -> str:
        actor = dataclasses.replace(service_actor(sent.calling_ae_title), origin=sent.address)
        with IncomingFile() as file:
            file.write(sent.file_header)
            file.write(sent.data_set)
            file.close()
            with session_scope(self.database_url) as session:
                announced = Announced(sent.sop_class_uid, sent.sop_instance_uid)
                name = f"{sent.sop_instance_uid}.dcm"
                return ingest_incoming(session, actor, file, name, announced=announced, compress_later=True).outcome

    def _failed(self, sent: Sent, trouble: str) -> None:
        self.door.came(sent.calling_ae_title, sent.address, "failed")
        with self._lock:
            self.trouble = trouble

    def news(self) -> tuple[str | None, bool]:
        """The trouble there is, and whether an object was kept since this was last asked."""
        with self._lock:
            has_served, self.has_served = self.has_served, False
            return self.trouble, has_served


def run(here: Settings, pulse: Pulse) -> None:
    warm_up(MAX_PROCESSES)
    reception = Reception(here.database_url)
    scp = StorageSCP(here.storage_scp, reception)
    scp.start()
    log.info("receiving as %s on %s:%s", here.storage_scp.ae_title, here.storage_scp.host, scp.port)
    try:
        pulse.succeeded()
        while not pulse.stopping.wait(LOOK_EVERY_S):
            look(reception, pulse)
    finally:
        scp.stop()
        look(reception, pulse)


def look(reception: Reception, pulse: Pulse) -> None:
    """Write down what happened at the door. A database that is away is no reason to close it: senders are told to try
    again, and know that better from an answer than from a closed port."""
    trouble, has_served = reception.news()
    try:
        if trouble is not None:
            pulse.in_trouble(trouble)
        elif has_served:
            pulse.succeeded()
        else:
            pulse.alive()
        reception.door.write_down()
    except SQLAlchemyError as error:
        log_failure("what happened at the door cannot be written down", error)


LOOP = Loop("storage_scp", lambda here: here.storage_scp is not None, run)
