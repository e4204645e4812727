"""A Storage SCP: takes DICOM objects by C-STORE from systems that it knows by their AE title (PS3.4 B, PS3.7 9.1.1).

Knows the protocol only: what becomes of an object, and who wants to hear of those that were turned away, is for the
`Desk` to say. Everything that arrives before a known AE title has introduced itself comes from strangers, so that time,
number and size are limited from the first byte on."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from socketserver import TCPServer
from typing import Any, Protocol

from pydicom import uid
from pynetdicom import AE, Association, evt
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from engine.errors import PediScreenError
from engine.imaging.admission import ADMITTED_SOP_CLASSES
from engine.imaging.stored_pixels import COMPRESSED, NATIVE
from engine.interop.destinations import AE_TITLE
from engine.settings import StorageSCPSettings

# Ours, so that the same object is the same file whichever version of a library received it (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = uid.UID("2.25.259302474862305146227437352211410129811")
IMPLEMENTATION_VERSION_NAME = "PEDISCREEN_1"

# The first that a sender proposes, too, is agreed on: uncompressed first, for a film is decoded at once.
TRANSFER_SYNTAXES = [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    *sorted(NATIVE - {uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian}),
    uid.RLELossless,
    *COMPRESSED,
]

# PS3.4 table B.2-1 and PS3.7 annex C
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122

MAX_PDU_BYTES = 2**20  # what senders are told
MAX_ACCEPTED_PDU_BYTES = 16 * 2**20  # some senders overstep what they were told
MAX_OBJECT_BYTES = 256 * 2**20  # held in memory until it is whole; 64 megapixels of 16 bit are 128 MB
MAX_CONNECTIONS = 100  # also such as have not introduced themselves
HANDSHAKE_S = 10.0  # for TLS
INTRODUCTION_S = 10.0  # until an association is asked for
FINISH_WITHIN_S = 6.0  # what is in hand when the end comes
IDLE_S = 60.0  # between two PDUs, and for one to arrive whole


@dataclass(frozen=True)
class Sender:
    """A system that may send: by its AE title and, where `network` is given, from these addresses only."""

    ae_title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None


@dataclass(frozen=True)
class Sent:
    """One object as it arrived. `file_header` and `data_set` together are a DICOM file (PS3.10)."""

    calling_ae_title: str
    address: str
    sop_class_uid: str
    sop_instance_uid: str
    file_header: bytes
    data_set: memoryview


class Desk(Protocol):
    def store(self, sent: Sent) -> int:
        """Answer with a status of PS3.4 table B.2-1: 0x0000 only when the object is kept. Called from many threads."""

    def refused(self, calling_ae_title: str, address: str, code: str, reason: str) -> None:
        """Somebody was turned away, or a part of what they wanted to send."""


def senders_from(text: str) -> list[Sender]:
    """The setting PEDISCREEN_DICOM_SENDERS. Raises PediScreenError where it is empty or cannot be understood."""
    senders = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        title, at, place = (piece.strip() for piece in part.partition("@"))
        try:
            network = ipaddress.ip_network(place, strict=False) if at else None
        except ValueError:
            raise PediScreenError(
                f"PEDISCREEN_DICOM_SENDERS: {part!r} must be an AE title, or one with an address or network after an @ "
                "such as CR1@10.0.0.5 or CR1@10.0.0.0/24. Names of machines are not looked up."
            ) from None
        _require_ae_title(title, "PEDISCREEN_DICOM_SENDERS")
        senders.append(Sender(title, network))
    if not senders:
        raise PediScreenError(
            "PEDISCREEN_DICOM_SENDERS names nobody who may send. List the AE titles of the modalities and archives, "
            "better with their addresses: CR1@10.0.0.5, PACS@10.1.0.7"
        )
    return senders


class StorageSCP:
    """Listens from `start` to `stop`. Raises PediScreenError where the settings do not allow it, or the port is
    taken."""

    def __init__(self, here: StorageSCPSettings, desk: Desk) -> None:
        _require_ae_title(here.ae_title, "PEDISCREEN_DICOM_AE_TITLE")
        self.here = here
        self.desk = desk
        self.senders = senders_from(here.senders)
        self.tls = _tls(here)
        self._server: Server | None = None
        self._stopping = False
        self._in_hand = 0  # objects
        self._lock = threading.Condition()
        self.ae = AE(ae_title=here.ae_title)
        self.ae.maximum_pdu_size = MAX_PDU_BYTES
        self.ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self.ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.ae.acse_timeout = INTRODUCTION_S
        self.ae.dimse_timeout = self.ae.network_timeout = IDLE_S
        self.ae.maximum_associations = 10 * MAX_CONNECTIONS  # `_why_not` counts those that were agreed on
        self.ae.add_supported_context(Verification)
        for sop_class in ADMITTED_SOP_CLASSES:
            self.ae.add_supported_context(sop_class, TRANSFER_SYNTAXES)

    def start(self) -> None:
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
        ]
        try:
            self._server = self.ae.make_server(
                (self.here.host, self.here.port),
                ssl_context=self.tls,
                evt_handlers=handlers,
                server_class=partial(Server, desk=self.desk),
            )
        except OSError as error:
            raise PediScreenError(
                f"Port {self.here.port} of {self.here.host} cannot be listened on ({error.strerror}): set "
                "PEDISCREEN_DICOM_PORT and PEDISCREEN_DICOM_HOST to a free port and an address of this machine."
            ) from error
        self._server.serve_in_background()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def stop(self) -> None:
        """No new associations; what is being stored is finished and answered first, the rest is aborted."""
        if self._server is None:
            return
        self._server.stop_listening()
        with self._lock:
            self._stopping = True
            self._lock.wait_for(lambda: self._in_hand == 0, FINISH_WITHIN_S)
        for association in self._server.active_associations:
            association.abort()

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        asked = association.requestor.primitive
        refusal = self._why_not(association, asked.calling_ae_title, asked.called_ae_title)
        if refusal is None:
            return
        answer, code, reason = refusal
        self.desk.refused(asked.calling_ae_title, _address(association), code, reason)
        association.acse.send_reject(*answer)
        association.kill()

    def _why_not(
        self, association: Association, calling: str, called: str
    ) -> tuple[tuple[int, int, int], str, str] | None:
        """Result, source and diagnostic of the rejection (PS3.8 9.3.4), our code and a sentence for IT."""
        address = ipaddress.ip_address(_address(association))
        known = [sender for sender in self.senders if sender.ae_title == calling]
        if not known:
            return (1, 1, 3), "calling_ae_title", "The calling AE title is not in PEDISCREEN_DICOM_SENDERS."
        if not any(sender.network is None or address in sender.network for sender in known):
            return (1, 1, 3), "address", "PEDISCREEN_DICOM_SENDERS has this AE title at another address."
        if called != self.here.ae_title:
            return (
                (1, 1, 7),
                "called_ae_title",
                f"It called {called!r}; this system is {self.here.ae_title} (PEDISCREEN_DICOM_AE_TITLE).",
            )
        others = [one for one in self._server.active_associations if one.is_established and one is not association]
        if len(others) >= self.here.max_associations:
            return (
                (2, 3, 2),
                "too_many_associations",
                f"{len(others)} associations are open, the most that PEDISCREEN_DICOM_MAX_ASSOCIATIONS allows. "
                "The sender may try again.",
            )
        return None

    def _on_accepted(self, event: evt.Event) -> None:
        """What was asked for and not agreed on is told: the sender's log rarely says why. Many senders ask for all they
        know, whatever they are going to send: `in_part` says that something was agreed on."""
        association = event.assoc
        agreed = {context.abstract_syntax for context in association.accepted_contexts}
        in_part = "_in_part" if agreed - {Verification} else ""
        refused: dict[str, set[str]] = {}
        for context in association.rejected_contexts:
            name = uid.UID(context.abstract_syntax).name
            if context.abstract_syntax in agreed:
                continue
            if context.result == 4:  # abstract syntax known, no transfer syntax (PS3.8 9.3.3.2)
                syntaxes = ", ".join(uid.UID(syntax).name for syntax in context.transfer_syntax or ())
                refused.setdefault("transfer_syntax", set()).add(f"{name} in {syntaxes}")
            else:
                refused.setdefault("sop_class", set()).add(name)
        for code, names in refused.items():
            what = "SOP classes" if code == "sop_class" else "transfer syntaxes"
            reason = f"{len(names)} {what} not accepted: {'; '.join(sorted(names))}"
            self.desk.refused(association.requestor.ae_title, _address(association), code + in_part, reason)

    def _on_store(self, event: evt.Event) -> int:
        with self._lock:
            if self._stopping:
                return OUT_OF_RESOURCES
            self._in_hand += 1
        try:
            return self._store(event)
        finally:
            with self._lock:
                self._in_hand -= 1
                self._lock.notify_all()

    def _store(self, event: evt.Event) -> int:
        request, context, association = event.request, event.context, event.assoc
        calling, address = association.requestor.ae_title, _address(association)
        if request.AffectedSOPClassUID != context.abstract_syntax:
            reason = f"Sent as {request.AffectedSOPClassUID} in a presentation context of {context.abstract_syntax}."
            self.desk.refused(calling, address, "other_sop_class", reason)
            return SOP_CLASS_NOT_SUPPORTED
        meta = create_file_meta(
            sop_class_uid=request.AffectedSOPClassUID,
            sop_instance_uid=request.AffectedSOPInstanceUID,
            transfer_syntax=context.transfer_syntax,
            implementation_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version=IMPLEMENTATION_VERSION_NAME,
        )
        with request.DataSet.getbuffer() as data_set:
            return self.desk.store(
                Sent(
                    calling,
                    address,
                    str(request.AffectedSOPClassUID),
                    str(request.AffectedSOPInstanceUID),
                    b"\0" * 128 + b"DICM" + encode_file_meta(meta),
                    data_set,
                )
            )


class Server(ThreadedAssociationServer):
    """pynetdicom's, with a time limit on every socket from its first byte on, TLS shaken hands on outside the loop that
    accepts connections, and sizes limited."""

    daemon_threads = True

    def __init__(self, *arguments: Any, desk: Desk, **keywords: Any) -> None:
        self.desk = desk
        super().__init__(*arguments, request_handler=Handler, **keywords)

    def serve_in_background(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.2,), name="storage SCP", daemon=True).start()

    def stop_listening(self) -> None:
        """`shutdown` is for servers that an AE keeps a list of."""
        TCPServer.shutdown(self)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        connection.settimeout(HANDSHAKE_S)
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: socket.socket, client_address: Any) -> bool:
        if len(self.active_associations) < MAX_CONNECTIONS:
            return True
        self.desk.refused("", client_address[0], "too_many_connections", f"{MAX_CONNECTIONS} connections are open.")
        return False

    def finish_request(self, request: socket.socket, client_address: Any) -> None:
        if self.ssl_context is not None:
            request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, request: socket.socket, client_address: Any) -> None:
        error = sys.exc_info()[1]
        code = "tls" if isinstance(error, ssl.SSLError | TimeoutError | ConnectionError) else "connection"
        reason = f"No secure connection came about: {getattr(error, 'reason', None) or type(error).__name__}"
        self.desk.refused("", client_address[0], code, reason)


class Handler(RequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.socket.recv = Inlet(association, self.server.desk).receive
        return association


class Inlet:
    """Takes bytes from one connection for pynetdicom, which would read PDUs of any length, 4 kB at a time, with no
    limit in time or size."""

    def __init__(self, association: Association, desk: Desk) -> None:
        self.association = association
        self.desk = desk
        self.connection: AssociationSocket = association.dul.socket
        self.object_bytes = 0  # since a message was last complete
        association.bind(evt.EVT_DIMSE_RECV, self._on_message)

    def _on_message(self, event: evt.Event) -> None:
        self.object_bytes = 0

    def receive(self, count: int) -> bytearray:
        """Exactly `count` bytes, or fewer where the connection ends. Raises OSError, which pynetdicom takes for the end
        of the connection: so it is ended."""
        try:
            self._limit(count)
            return self._receive(count)
        except OSError:
            with suppress(OSError):
                self.connection.socket.shutdown(socket.SHUT_RDWR)
            raise

    def _limit(self, count: int) -> None:
        self.object_bytes += count
        for limit, size, what in (
            (MAX_ACCEPTED_PDU_BYTES, count, "PDU"),
            (MAX_OBJECT_BYTES, self.object_bytes, "object"),
        ):
            if size > limit:
                reason = f"A sent {what} of {size} bytes or more is larger than the limit of {limit}: disconnected."
                calling = self.association.requestor.ae_title
                self.desk.refused(calling, _address(self.association), "too_large", reason)
                raise OSError(reason)

    def _receive(self, count: int) -> bytearray:
        patience_s = IDLE_S if self.association.is_established else INTRODUCTION_S
        self.connection.socket.settimeout(patience_s)
        data = bytearray(count)
        view, have, deadline = memoryview(data), 0, time.monotonic() + patience_s
        while have < count:
            got = self.connection.socket.recv_into(view[have:])
            if not got:
                return data[:have]
            have += got
            if time.monotonic() > deadline:
                raise TimeoutError(f"a PDU took longer than {patience_s:g} s")
        return data


def _address(association: Association) -> str:
    """IPv4 addresses as such, also on a socket that serves both kinds."""
    address = ipaddress.ip_address(association.requestor.address.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def _require_ae_title(title: str, setting: str) -> None:
    if not AE_TITLE.fullmatch(title) or title != title.strip():
        raise PediScreenError(
            f"{setting}: an AE title has 1 to 16 printable characters and no backslash, not {title!r}"
        )


def _tls(here: StorageSCPSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer where a certificate is configured; senders then have to show one of theirs."""
    files = {
        "PEDISCREEN_DICOM_CERTIFICATE": here.certificate,
        "PEDISCREEN_DICOM_KEY": here.key,
        "PEDISCREEN_DICOM_CLIENT_CA": here.client_ca,
    }
    missing = [name for name, path in files.items() if path is None]
    if len(missing) == len(files):
        return None
    if missing:
        raise PediScreenError(f"TLS needs certificate, key and the senders' CA: set {' and '.join(missing)}, too.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(here.certificate, here.key)
        context.load_verify_locations(here.client_ca)
    except OSError as error:  # ssl.SSLError is one
        raise PediScreenError(
            f"The certificates for DICOM over TLS cannot be used ({error.strerror or error}): check {', '.join(files)}"
        ) from error
    return context
