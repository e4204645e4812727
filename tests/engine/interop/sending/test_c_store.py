"""To a DICOM node: what it acknowledges is sent, what it refuses needs somebody, everything else is tried again."""

import socket

import pytest
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from engine.interop.sending import DeliveryRefused, NotDelivered, Unreachable, c_store
from tests.engine.interop.sending.counterparts import certificate_for, dicom_document, pacs, two_documents
from tests.pediscreen_up import free_port


def test_every_object_arrives_and_who_took_it_is_said():
    documents = two_documents()
    with pacs() as there:
        receipt = c_store.send(there.destination(), documents)
    assert there.uids == [one.uid for one in documents]
    assert there.calling == ["PEDISCREEN"] * 2
    assert receipt.startswith("PACS (PYNETDICOM")


def test_sent_twice_it_is_there_once():
    documents = two_documents()
    with pacs() as there:
        c_store.send(there.destination(), documents)
        there.statuses = [0x0111, 0x0111]  # as a PACS that says "duplicate" does
        c_store.send(there.destination(), documents)
    assert there.uids == [one.uid for one in documents]


def test_kept_with_a_warning_is_sent_and_says_so():
    with pacs() as there:
        there.statuses = [0xB000, 0xB006]
        receipt = c_store.send(there.destination(), two_documents())
    assert len(there.received) == 2
    assert "remark status 0xB000, data elements coerced" in receipt and "0xB006, elements discarded" in receipt


def test_a_pacs_that_cannot_now_is_tried_again():
    with pacs() as there:
        for status in (0xA700, 0xA7FF, 0x0110, 0x0124, 0x0213):
            there.statuses = [0x0000, status]  # the second of two
            with pytest.raises(NotDelivered, match=f"0x{status:04X}") as caught:
                c_store.send(there.destination(), two_documents())
            assert not isinstance(caught.value, Unreachable), "something has left"


def test_a_pacs_that_will_not_have_it_needs_somebody():
    with pacs() as there:
        for status in (0xA900, 0xC000, 0xC123, 0x0122, 0x0117, 0x0120):
            there.statuses = [status]
            with pytest.raises(DeliveryRefused, match=f"0x{status:04X}"):
                c_store.send(there.destination(), two_documents())
        assert not there.received


def test_rejected_for_either_ae_title_says_which():
    with pacs() as there:
        with pytest.raises(Unreachable, match="its AE title is not OTHER"):
            c_store.send(there.destination(called_ae_title="OTHER"), two_documents())
        with pytest.raises(Unreachable, match="does not know our AE title STRANGER"):
            c_store.send(there.destination(calling_ae_title="STRANGER"), two_documents())


def test_a_pacs_without_structured_reports_needs_somebody_and_names_the_way_out():
    said = "Comprehensive SR Storage.*_DOCUMENTS"
    with pacs(takes=(SecondaryCaptureImageStorage,)) as there, pytest.raises(DeliveryRefused, match=said):
        c_store.send(there.destination(), two_documents())
    with pacs(takes=()) as there, pytest.raises(DeliveryRefused, match=said):
        c_store.send(there.destination(), [dicom_document(ComprehensiveSRStorage)])


def test_nothing_at_the_port():
    with pacs() as there:
        destination = there.destination(port=free_port())
    with pytest.raises(Unreachable, match="connection refused"):
        c_store.send(destination, two_documents())


def test_a_name_that_nobody_knows():
    with pacs() as there, pytest.raises(Unreachable, match="DNS"):
        c_store.send(there.destination(host="pacs.invalid"), two_documents())


def test_a_pacs_that_hangs_is_left_in_time(monkeypatch):
    monkeypatch.setattr(c_store, "ANSWER_S", 0.4)
    with pacs() as there:
        there.answers.clear()
        with pytest.raises(NotDelivered, match="gave no answer in time") as caught:
            c_store.send(there.destination(), two_documents())
        assert not isinstance(caught.value, Unreachable), "it may have kept it"


def test_a_port_that_takes_the_connection_and_says_nothing(monkeypatch):
    monkeypatch.setattr(c_store, "ANSWER_S", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent, pacs() as there:
        destination = there.destination(port=silent.getsockname()[1])
        with pytest.raises(Unreachable, match="gave no answer in time"):
            c_store.send(destination, two_documents())


def test_over_tls_the_certificate_is_checked(tmp_path):
    own = certificate_for(tmp_path, "127.0.0.1")
    with pacs(tls=own.context()) as there:
        tls = there.destination(uses_tls=True, ca_file=own.certificate)
        c_store.send(tls, two_documents())
        assert len(there.received) == 2
        with pytest.raises(Unreachable, match="certificate is not accepted: self-signed"):
            c_store.send(there.destination(uses_tls=True), two_documents())
        with pytest.raises(Unreachable, match="certificate is not accepted"):  # of another host
            c_store.send(there.destination(uses_tls=True, host="localhost", ca_file=own.certificate), two_documents())
        with pytest.raises(Unreachable):
            c_store.send(there.destination(), two_documents())  # in the clear
    assert len(there.received) == 2


def test_an_expired_certificate_is_not_accepted(tmp_path):
    old = certificate_for(tmp_path, "127.0.0.1", days=-1)
    with pacs(tls=old.context()) as there, pytest.raises(Unreachable, match="expired"):
        c_store.send(there.destination(uses_tls=True, ca_file=old.certificate), two_documents())


def test_files_that_are_no_certificates_are_said(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pacs() as there, pytest.raises(Unreachable, match="certificate files of the settings cannot be used"):
        c_store.send(there.destination(uses_tls=True, ca_file=tmp_path / "ca.pem"), two_documents())
