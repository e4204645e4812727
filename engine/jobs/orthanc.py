"""The loop that follows an Orthanc's changes and fetches the images of every study that is complete there."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db.exchange_tables import Channel, FetchState
from db.session import session_scope
from engine.imaging.admission import ADMITTED_SOP_CLASSES, FUNDUS_SOP_CLASSES, RADIOGRAPH_SOP_CLASSES
from engine.imaging.film import REPORT_MANUFACTURER
from engine.interop.orthanc import Change, OrthancClient, OrthancUnavailable
from engine.jobs.loop import ACTOR, Door, Loop, Pulse, log_failure
from engine.services import orthanc_inbox
from engine.services.accounts import service_actor
from engine.services.incoming import IncomingFile
from engine.services.ingest import ingest_incoming
from engine.services.orthanc_inbox import Cursor
from engine.services.receiving import plain
from engine.settings import Settings

LOOK_EVERY_S = 2.0
PAGE = 100  # changes
BATCH = 20  # instances between two looks at the changes
COMPLETE_AFTER = timedelta(minutes=5)  # an instance whose study was never said to be complete
SENT_BY_REST = "orthanc"  # has no AE title


class Follower:
    def __init__(self, here: Settings, client: OrthancClient) -> None:
        self.database_url = here.database_url
        self.client = client
        self.door = Door(Channel.ORTHANC, here.database_url)
        self.source_id = 0  # of the Orthanc that was looked at last

    def look(self, stopping: threading.Event) -> bool:
        """Once through the new changes and a batch of instances; whether there is more to fetch. Raises
        OrthancUnavailable, OSError and SQLAlchemyError: it is all tried again."""
        with session_scope(self.database_url) as session:
            cursor = self._follow(session, orthanc_inbox.cursor(session, ACTOR, self.client.url), stopping)
            self.source_id = cursor.source_id
            instances = orthanc_inbox.to_fetch(session, ACTOR, cursor.source_id, waited=COMPLETE_AFTER, limit=BATCH)
            for instance in instances:
                if stopping.is_set():
                    return False
                self._fetch(cursor.source_id, instance)
        return len(instances) == BATCH

    def trouble(self) -> str | None:
        """After a look."""
        with session_scope(self.database_url) as session:
            failing = orthanc_inbox.number_failing(session, ACTOR, self.source_id)
        return f"{failing} instances cannot be fetched from Orthanc: see its log and ours." if failing else None

    def _follow(self, session: Session, cursor: Cursor, stopping: threading.Event) -> Cursor:
        """Note all new changes. Each page begins with the change that was the last one, which has to be the same
        still: Orthanc's numbers begin anew with a new database, and its list of changes may be emptied."""
        while not stopping.is_set():
            page = self.client.changes(max(0, cursor.seq - 1), PAGE)
            changes = page.changes
            if cursor.change is not None:
                if not changes or changes[0].identity != cursor.change:
                    cursor = Cursor(cursor.source_id, 0, None)
                    continue
                changes = changes[1:]
            if changes:
                cursor = self._note(session, changes)
            if page.is_last_page or not changes:
                break
        return cursor

    def _note(self, session: Session, changes: list[Change]) -> Cursor:
        announced = {change.resource: change.identity for change in changes if change.kind == "NewInstance"}
        stable: set[str] = set()
        for study in dict.fromkeys(change.resource for change in changes if change.kind == "StableStudy"):
            stable |= set(self.client.study_instances(study))
        last = changes[-1]
        return orthanc_inbox.note(
            session, ACTOR, self.client.url, announced, stable, seq=last.seq, change=last.identity
        )

    def _fetch(self, source_id: int, instance: str) -> None:
        with session_scope(self.database_url) as session:
            try:
                state = self._take_in(session, instance)
            except (OSError, SQLAlchemyError, OrthancUnavailable):  # concerns all of them
                raise
            except Exception as error:  # the outermost line of one instance
                log_failure("an instance of Orthanc's cannot be taken in", error)
                orthanc_inbox.put_off(session, ACTOR, source_id, instance)
            else:
                orthanc_inbox.close(session, ACTOR, source_id, instance, state)

    def _take_in(self, session: Session, instance: str) -> FetchState:
        facts = self.client.facts(instance)
        if facts is None:
            return FetchState.GONE
        sender = plain(facts.remote_ae_title or SENT_BY_REST, 64)
        address = plain(facts.remote_address or "", 64)
        may_be_report = facts.sop_class_uid not in RADIOGRAPH_SOP_CLASSES | FUNDUS_SOP_CLASSES
        if may_be_report and self.client.manufacturer(instance) == REPORT_MANUFACTURER:
            return FetchState.OTHER  # left from here (engine.jobs.sending), and is where it belongs
        if facts.sop_class_uid is not None and facts.sop_class_uid not in ADMITTED_SOP_CLASSES:
            reason = f"Left in Orthanc: no radiograph or fundus photograph, but SOP class {facts.sop_class_uid}."
            self.door.refused(sender, address, "sop_class", reason)
            return FetchState.OTHER
        actor = dataclasses.replace(service_actor(sender), origin=f"{address} by Orthanc".strip())
        with IncomingFile() as file, self.client.file(instance) as blocks:
            for block in blocks:
                file.write(block)
            result = ingest_incoming(session, actor, file, f"orthanc-{instance}.dcm", compress_later=True)
        self.door.came(sender, address, result.outcome)
        return FetchState.DONE


def run(here: Settings, pulse: Pulse) -> None:
    client = OrthancClient(here.orthanc)
    try:
        follower = Follower(here, client)
        while not pulse.stopping.is_set():
            has_more = follower.look(pulse.stopping)
            follower.door.write_down()
            trouble = follower.trouble()
            if trouble is not None:
                pulse.in_trouble(trouble)
            else:
                pulse.succeeded()
            if not has_more:
                pulse.stopping.wait(LOOK_EVERY_S)
    finally:
        client.close()


LOOP = Loop("orthanc", lambda here: here.orthanc is not None, run)
