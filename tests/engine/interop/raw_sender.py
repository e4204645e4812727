"""A system that sends whatever bytes it is given, under whatever UIDs: what no honest library lets one do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, Association
from pynetdicom.dimse_primitives import C_STORE

DX = "1.2.840.10008.5.1.4.1.1.1.1"


@contextmanager
def association(
    port: int,
    *,
    calling: str = "CR1",
    called: str = "PEDISCREEN",
    sop_class: str = DX,
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
) -> Iterator[Association]:
    """Asked for; `is_established` says whether it came about."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.network_timeout = 20
    entity.dimse_timeout = 60
    entity.add_requested_context(sop_class, list(syntaxes))
    opened = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def store(opened: Association, sop_instance_uid: str, data_set: bytes, *, sop_class: str = DX) -> int | None:
    """The status of the answer; None where there was none."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    opened._reactor_checkpoint.clear()
    while not opened._is_paused:
        pass
    opened.dimse.send_msg(request, opened.accepted_contexts[0].context_id)
    _, answer = opened.dimse.get_msg(block=True)
    opened._reactor_checkpoint.set()
    return None if answer is None else answer.Status
