"""To a DICOM node, by C-STORE. Success means that every object was acknowledged."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification
from pynetdicom.status import GENERAL_STATUS, code_to_category

from engine.interop.destinations import Destination
from engine.interop.documents import Document
from engine.interop.sending import DUPLICATE, DeliveryRefused, NotDelivered, Unreachable, is_passing
from engine.interop.sending.tls import tls_context

CONNECT_S, ANSWER_S, SILENT_S = 10, 30, 60  # TCP; each answer of the other side; nothing at all from it
# PS3.8 table 9-21: (source, reason) of a rejected association
REJECTED = {
    (1, 2): "it does not know the application context",
    (1, 3): "it does not know our AE title {calling}: add it there, with this machine's address",
    (1, 7): "its AE title is not {called}: correct it in the settings",
    (2, 2): "it does not speak this protocol version",
    (3, 1): "it has too many connections at present",
    (3, 2): "it has reached its limit of connections",
}


def send(destination: Destination, documents: Sequence[Document]) -> str:
    """Raises NotDelivered, DeliveryRefused."""
    objects = [dcmread(io.BytesIO(document.content)) for document in documents]
    with _association(destination, [one.SOPClassUID for one in objects]) as association:
        remarks = [remark for one in objects if (remark := _store(association, one))]
        said = association.acceptor.implementation_version_name or "it does not say by which software"
    return f"{destination.called_ae_title} ({said}){'; ' + '; '.join(remarks) if remarks else ''}"


def echo(destination: Destination) -> None:
    """Raises NotDelivered, DeliveryRefused."""
    with _association(destination, [Verification]) as association:
        if "Status" not in association.send_c_echo():
            raise Unreachable("it took the connection and then gave no answer in time, or broke it off")


@contextmanager
def _association(destination: Destination, sop_class_uids: Sequence[UID]) -> Iterator[Association]:
    entity = AE(ae_title=destination.calling_ae_title)
    entity.connection_timeout, entity.acse_timeout = CONNECT_S, ANSWER_S
    entity.dimse_timeout, entity.network_timeout = ANSWER_S, SILENT_S
    for sop_class_uid in dict.fromkeys(sop_class_uids):
        entity.add_requested_context(sop_class_uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    tls = (tls_context(destination), destination.host) if destination.uses_tls else None
    try:
        association = entity.associate(
            destination.host, destination.port, ae_title=destination.called_ae_title, tls_args=tls, max_pdu=0
        )
    except OSError as error:  # its name leads nowhere; every other failure is in the association
        raise Unreachable(why_not_connected(error)) from error
    if not association.is_established:
        if association.rejected_contexts and not association.is_rejected:
            raise DeliveryRefused(_not_taken(UID(sop_class_uids[0])))
        raise Unreachable(_why_no_association(destination, association))
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _store(association: Association, one: Dataset) -> str | None:
    """A remark where it was kept with a warning."""
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    if one.SOPClassUID not in accepted:
        raise DeliveryRefused(_not_taken(one.SOPClassUID))
    answer = association.send_c_store(one)
    if "Status" not in answer:
        raise NotDelivered("it took the connection and then gave no answer in time, or broke it off")
    status = int(answer.Status)
    category = code_to_category(status)
    if category == "Success" or status == DUPLICATE:
        return None
    meaning = f"status 0x{status:04X}, {_meaning(status)}"
    if category == "Warning":
        return f"kept with the remark {meaning}"
    if is_passing(status):
        raise NotDelivered(f"it cannot keep the report now ({meaning})")
    raise DeliveryRefused(f"it refuses the report ({meaning})")


def _not_taken(sop_class_uid: UID) -> str:
    return (
        f"it does not accept objects of the kind {sop_class_uid.name} ({sop_class_uid}): allow them there, or name in "
        "_DOCUMENTS what it takes"
    )


def _meaning(status: int) -> str:
    """PS3.4 table B.2-1; (0000,0902) Error Comment is free text, and may name the child."""
    ranges = {0xA7: "out of resources", 0xA9: "data set does not match SOP class", 0xB0: "data elements coerced"}
    if status in (0xB006, 0xB007):
        return "elements discarded" if status == 0xB006 else "data set does not match SOP class"
    if 0xC000 <= status <= 0xCFFF:
        return "cannot understand"
    return ranges.get(status >> 8) or GENERAL_STATUS.get(status, ("", "failure"))[1].lower()


def _why_no_association(destination: Destination, association: Association) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        why = REJECTED.get((answer.result_source, answer.diagnostic), "it does not say why")
        why = why.format(called=destination.called_ae_title, calling=destination.calling_ae_title)
        return f"it rejects the connection: {why}"
    return _why_no_connection(destination)


def _why_no_connection(destination: Destination) -> str:
    """pynetdicom logs why a connection failed and tells its caller only that it did: ask once more, by hand."""
    try:
        connect(destination, CONNECT_S)
    except OSError as error:
        return why_not_connected(error)
    return "it took the connection and then gave no answer in time, or broke it off"


def connect(destination: Destination, timeout_s: float) -> None:
    """A connection, with TLS where that is configured, that is closed at once. Raises OSError."""
    with socket.create_connection((destination.host, destination.port), timeout=timeout_s) as connection:
        if destination.uses_tls:
            tls_context(destination).wrap_socket(connection, server_hostname=destination.host).close()


def why_not_connected(error: OSError) -> str:
    """In words for the hospital's IT."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS connection comes about ({error.reason or 'it breaks off'})"
        case socket.gaierror():
            return "its name is not known to the network (DNS)"
        case TimeoutError():
            return "it gives no answer"
        case ConnectionRefusedError():
            return "nothing answers at this address and port (connection refused)"
    return f"no connection ({error.strerror or type(error).__name__})"
