"""To DICOMweb and FHIR servers: what each answer means for the report."""

import io
import json
from email.parser import BytesParser

import httpx2
import pytest
from pydicom import dcmread

from engine.interop.destinations import Kind, configured
from engine.interop.documents import Document
from engine.interop.sending import DeliveryRefused, NotDelivered, Unreachable, fhir_server, http, stow
from engine.interop.signed_study import DocumentKind
from tests.engine.interop.orthanc import orthanc
from tests.engine.interop.sending.counterparts import certificate_for, dicom_document, two_documents, web_server
from tests.pediscreen_up import free_port

BUNDLE = Document(
    kind=DocumentKind.FHIR_BUNDLE,
    uid="urn:uuid:1",
    media_type="application/fhir+json",
    sop_class_uid=None,
    file_name="report.json",
    content=json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [{}, {}]}).encode(),
)
DONE = {
    "resourceType": "Bundle",
    "type": "transaction-response",
    "entry": [
        {"response": {"status": "200 OK", "location": "Patient/7/_history/3"}},
        {"response": {"status": "201 Created", "location": "DiagnosticReport/9/_history/1"}},
    ],
}
DOCUMENTS = two_documents()
WAYS = {
    Kind.DICOMWEB: lambda destination: stow.send(destination, DOCUMENTS),
    Kind.FHIR: lambda destination: fhir_server.send(destination, BUNDLE, {"Doe", "Jane", "ID-77"}),
}


@pytest.fixture
def there():
    with web_server() as server:
        yield server


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "user, password or token is not accepted"),
        (403, "may not store results there"),
        (404, "no such service at this address"),
        (429, "cannot take the report now"),
        (500, "has an error"),
        (503, "has an error"),
        (301, "redirect, which is not followed"),
        (307, "redirect, which is not followed"),
    ],
)
def test_answers_after_which_it_is_tried_again(there, kind, status, says):
    there.says(status, b"http://127.0.0.1:1/elsewhere")
    with pytest.raises(NotDelivered, match=says) as caught:
        WAYS[kind](there.destination(kind))
    assert f"HTTP {status}" in str(caught.value) and len(there.asked) == 1


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_answers_after_which_somebody_has_to_look(there, kind, status):
    there.says(status, b"<html>Jane Doe</html>", "text/html")
    with pytest.raises(DeliveryRefused, match=f"HTTP {status}") as caught:
        WAYS[kind](there.destination(kind))
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("kind", WAYS)
def test_a_server_that_hangs_is_left_in_time(there, kind, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", httpx2.Timeout(0.3))
    there.answers.clear()
    with pytest.raises(NotDelivered, match="no answer in time") as caught:
        WAYS[kind](there.destination(kind))
    assert not isinstance(caught.value, Unreachable), "it may have kept it"


def test_an_answer_that_trickles_or_never_ends_is_left(there, monkeypatch):
    there.says(200, b" " * 200_000)
    monkeypatch.setattr(http, "LARGEST_ANSWER_BYTES", 100_000)
    with pytest.raises(NotDelivered, match="larger"):
        WAYS[Kind.FHIR](there.destination(Kind.FHIR))
    monkeypatch.setattr(http, "GIVE_UP_AFTER_S", -1.0)
    there.says(200, b" " * 200)
    with pytest.raises(NotDelivered, match="in time"):
        WAYS[Kind.FHIR](there.destination(Kind.FHIR))


@pytest.mark.parametrize("kind", WAYS)
def test_nothing_there(there, kind):
    destination = there.destination(kind, url=f"http://localhost:{free_port()}")
    with pytest.raises(Unreachable, match="connection refused"):
        WAYS[kind](destination)


def test_a_name_that_nobody_knows(there):
    with pytest.raises(Unreachable, match="DNS"):
        WAYS[Kind.FHIR](there.destination(Kind.FHIR, url="http://ehr.invalid/fhir"))


def test_certificates_are_checked(tmp_path):
    own = certificate_for(tmp_path, "localhost")
    with web_server(own.context()) as there:
        there.says(200, json.dumps(DONE).encode())
        WAYS[Kind.FHIR](there.destination(Kind.FHIR, ca_file=own.certificate))
        with pytest.raises(Unreachable, match="certificate is not accepted: self.signed"):
            WAYS[Kind.FHIR](there.destination(Kind.FHIR))
        other = there.destination(Kind.FHIR, ca_file=own.certificate, url=f"https://127.0.0.1:{there.port}")
        with pytest.raises(Unreachable, match="certificate is not accepted"):
            WAYS[Kind.FHIR](other)
        assert len(there.asked) == 1


def test_secrets_go_along_and_a_new_one_counts_at_once(there, tmp_path):
    (tmp_path / "token").write_text("first\n")
    said = {
        "PEDISCREEN_SEND_TO_EHR": f"fhir+http://localhost:{there.port}/fhir/",
        "PEDISCREEN_SEND_TO_EHR_TOKEN_FILE": str(tmp_path / "token"),
        "PEDISCREEN_SEND_TO_WEB": f"dicomweb+http://localhost:{there.port}/dicom-web",
        "PEDISCREEN_SEND_TO_WEB_USER": "pediscreen",
        "PEDISCREEN_SEND_TO_WEB_PASSWORD": "pa:ss",
    }
    ehr, web = configured(said)
    there.says(200, json.dumps(DONE).encode())
    WAYS[Kind.FHIR](ehr)
    (tmp_path / "token").write_text("second")
    WAYS[Kind.FHIR](ehr)
    there.says(200, kept(DOCUMENTS))
    WAYS[Kind.DICOMWEB](web)
    assert [one.headers["Authorization"] for one in there.asked] == [
        "Bearer first",
        "Bearer second",
        "Basic cGVkaXNjcmVlbjpwYTpzcw==",
    ]
    assert [one.path for one in there.asked] == ["/fhir", "/fhir", "/dicom-web/studies"]
    (tmp_path / "token").unlink()
    with pytest.raises(Unreachable, match="secret cannot be read"):
        WAYS[Kind.FHIR](ehr)


# ---------------------------------------------------------------- STOW-RS


def test_orthanc_keeps_each_object_once():
    documents = two_documents()
    with orthanc() as server:
        said = {
            "PEDISCREEN_SEND_TO_WEB": f"dicomweb+{server.dicom_web_url}",
            "PEDISCREEN_SEND_TO_WEB_USER": server.user,
            "PEDISCREEN_SEND_TO_WEB_PASSWORD": server.password,
        }
        (web,) = configured(said)
        assert "HTTP 200" in stow.send(web, documents)
        stow.send(web, documents)
        kept = [dcmread(io.BytesIO(server.instance_file(one))) for one in server.get("/instances")]
        assert sorted(one.SOPInstanceUID for one in kept) == sorted(one.uid for one in documents)
        (wrong,) = configured(said | {"PEDISCREEN_SEND_TO_WEB_PASSWORD": "wrong"})
        with pytest.raises(NotDelivered, match="password"):
            stow.send(wrong, documents)


def test_what_is_posted_is_what_was_made(there):
    documents = two_documents()
    there.says(200, kept(documents))
    stow.send(there.destination(Kind.DICOMWEB), documents)
    (asked,) = there.asked
    head = f"Content-Type: {asked.headers['Content-Type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + asked.body).get_payload()
    assert [part.get_payload(decode=True) for part in parts] == [one.content for one in documents]
    assert 'type="application/dicom"' in asked.headers["Content-Type"]


def kept(documents):
    items = [{"00081155": {"vr": "UI", "Value": [one.uid]}} for one in documents]
    return json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()


def failed_sop(uid, reason):
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.mark.parametrize("status", [200, 202, 409])
def test_the_failure_reasons_decide(there, status):
    document = dicom_document()
    there.says(status, failed_sop(document.uid, 0xA700))
    with pytest.raises(NotDelivered, match="0xA700"):
        stow.send(there.destination(Kind.DICOMWEB), [document])
    there.says(status, failed_sop(document.uid, 0xC000))
    with pytest.raises(DeliveryRefused, match="0xC000"):
        stow.send(there.destination(Kind.DICOMWEB), [document])


def test_a_server_that_has_it_already_has_it(there):
    document = dicom_document()
    there.says(202, failed_sop(document.uid, 0x0111))
    assert "HTTP 202" in stow.send(there.destination(Kind.DICOMWEB), [document])


def test_an_acknowledgement_of_half_is_none(there):
    documents = two_documents()
    there.says(200, kept(documents[:1]))
    with pytest.raises(NotDelivered, match="1 of 2"):
        stow.send(there.destination(Kind.DICOMWEB), documents)


@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>", b"{}", b"[]"])
def test_an_answer_that_acknowledges_nothing_is_no_acknowledgement(there, body):
    there.says(200, body)
    with pytest.raises(NotDelivered, match="0 of 2"):
        WAYS[Kind.DICOMWEB](there.destination(Kind.DICOMWEB))


# ---------------------------------------------------------------- FHIR


def test_the_receipt_names_the_report(there):
    there.says(200, json.dumps(DONE).encode())
    assert WAYS[Kind.FHIR](there.destination(Kind.FHIR)) == "localhost (DiagnosticReport/9/_history/1)"
    assert there.asked[0].headers["Content-Type"] == "application/fhir+json"


def test_a_part_that_was_not_taken_needs_somebody(there):
    halved = {**DONE, "entry": [DONE["entry"][0], {"response": {"status": "412 Precondition Failed"}}]}
    there.says(200, json.dumps(halved).encode())
    with pytest.raises(DeliveryRefused, match="1 of 2"):
        WAYS[Kind.FHIR](there.destination(Kind.FHIR))


def test_two_who_write_the_same_record_at_once_take_turns(there):
    there.says(409)
    with pytest.raises(NotDelivered, match="somebody else"):
        WAYS[Kind.FHIR](there.destination(Kind.FHIR))


def test_an_answer_that_is_no_fhir(there):
    there.says(200, b"<html>Welcome</html>", "text/html")
    with pytest.raises(NotDelivered, match="something else"):
        WAYS[Kind.FHIR](there.destination(Kind.FHIR))


def test_what_the_server_objects_to_is_said_without_the_child(there):
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [
            {"severity": "warning", "code": "invariant", "diagnostics": "narrative missing"},
            {"severity": "error", "code": "value", "diagnostics": "Patient JANE\nDoe (id-77): birthDate is wrong"},
            {"severity": "error", "code": "business-rule", "details": {"text": "no such encounter " + "x" * 900}},
        ],
    }
    there.says(422, json.dumps(outcome).encode(), "application/fhir+json")
    with pytest.raises(DeliveryRefused) as caught:
        WAYS[Kind.FHIR](there.destination(Kind.FHIR))
    said = str(caught.value)
    assert said.startswith("it refuses the report (HTTP 422): Patient … … (…): birthDate is wrong; no such encounter")
    assert len(said) < 400 and "narrative" not in said and "\n" not in said
