"""Where results go, from the environment: what is meant is understood, and what is wrong stops that one alone."""

from pathlib import Path

import pytest

from engine.interop.destinations import Kind, SecretMissing, configured

PREFIX = "PEDISCREEN_SEND_TO_"


def one(value, **endings):
    said = {f"{PREFIX}PACS": value} | {f"{PREFIX}PACS_{ending}": text for ending, text in endings.items()}
    (destination,) = configured(said)
    return destination


def test_several_at_once_each_by_its_kind():
    here = configured(
        {
            "PATH": "/bin",
            f"{PREFIX}PACS": "dicom://ORTHANC@pacs.hospital:4242",
            f"{PREFIX}PACS_CALLING": "REVIEW",
            f"{PREFIX}PACS2": "dicoms://PACS%20TWO@[::1]:2762",
            f"{PREFIX}WEB": "dicomweb+https://pacs.hospital/dicom-web/",
            f"{PREFIX}EHR": "fhir+https://ehr.hospital:8443/fhir",
            f"{PREFIX}DROP": "folder:///srv/results%20of%20x-rays",
            f"{PREFIX}NONE": " ",
        }
    )
    drop, ehr, pacs, pacs2, web = here
    assert [one.name for one in here] == ["drop", "ehr", "pacs", "pacs2", "web"]
    assert not any(one.problem for one in here)
    assert (drop.kind, drop.folder) == (Kind.FOLDER, Path("/srv/results of x-rays"))
    assert (ehr.kind, ehr.url, ehr.port, ehr.uses_tls) == (Kind.FHIR, "https://ehr.hospital:8443/fhir", 8443, True)
    assert (pacs.called_ae_title, pacs.calling_ae_title, pacs.host, pacs.port, pacs.uses_tls) == (
        "ORTHANC",
        "REVIEW",
        "pacs.hospital",
        4242,
        False,
    )
    assert (pacs2.called_ae_title, pacs2.host, pacs2.uses_tls) == ("PACS TWO", "::1", True)
    assert (web.kind, web.url) == (Kind.DICOMWEB, "https://pacs.hospital/dicom-web")
    assert pacs.documents == {"sr", "sc"} and pacs.takes_dicom and not ehr.takes_dicom


@pytest.mark.parametrize(
    ("value", "endings", "says"),
    [
        ("pacs.hospital:104", {}, "begins with none of"),
        ("ftp://pacs.hospital", {}, "begins with none of"),
        ("https://pacs.hospital/dicom-web", {}, "begins with none of"),
        ("dicom://pacs.hospital:104", {}, "dicom://AETITLE@host:port"),
        ("dicom://PACS@pacs.hospital", {}, "dicom://AETITLE@host:port"),
        ("dicom://PACS:secret@pacs.hospital:104", {}, "dicom://AETITLE@host:port"),
        ("dicom://PACS@pacs.hospital:99999", {}, "no address"),
        ("dicom://SEVENTEENLETTERSX@pacs.hospital:104", {}, "1 to 16"),
        ("dicom://PACS@pacs.hospital:104", {"CALLING": "A\\B"}, "_CALLING"),
        ("dicom://PACS@pacs.hospital:104", {"DOCUMENTS": "sr,pdf"}, "_DOCUMENTS"),
        ("dicom://PACS@pacs.hospital:104", {"CALLED": "X"}, "PEDISCREEN_SEND_TO_PACS_CALLED is no setting"),
        ("dicoms://PACS@pacs.hospital:104", {"CA_FILE": "/no/such/file"}, "no file /no/such/file"),
        ("fhir+http://ehr.hospital/fhir", {}, "in the clear"),
        ("dicomweb+http://10.0.0.1/dicom-web", {}, "in the clear"),
        ("fhir+https://user:secret@ehr.hospital/fhir", {}, "variables of their own"),
        ("fhir+https://ehr.hospital/fhir?token=secret", {}, "variables of their own"),
        ("fhir+file:///etc/passwd", {}, "begins with none of"),
        ("folder://server/share", {}, "whole path"),
        ("folder:///srv/../etc", {}, "whole path"),
        ("folder:results", {}, "whole path"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(value, endings, says):
    destination = one(value, **endings)
    assert says in destination.problem and "secret" not in repr(destination)


def test_one_that_is_wrong_leaves_the_others():
    said = {f"{PREFIX}A": "nonsense", f"{PREFIX}B": "folder:///srv/b", f"{PREFIX}lower": "folder:///srv/c"}
    problems = {destination.name: destination.problem for destination in configured(said)}
    assert problems["b"] is None and problems["a"] and "capital letters" in problems["lower"]
    (long,) = configured({f"{PREFIX}{'A' * 40}": "folder:///srv/b"})
    assert long.problem and len(long.name) == 24, "what the database holds of a name"


def test_http_is_for_this_machine_or_said_on_purpose():
    assert one("dicomweb+http://127.0.0.1:8042/dicom-web").problem is None
    assert one("fhir+http://ehr.hospital/fhir", ALLOW_HTTP="yes").problem is None


def test_secrets_are_in_no_text_and_come_from_files(tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    direct = one("fhir+https://ehr.hospital/fhir", TOKEN="s3cret", USER="me", PASSWORD="pa55")
    filed = one("fhir+https://ehr.hospital/fhir", PASSWORD_FILE=str(tmp_path / "secret"), USER="me")
    assert (direct.token, direct.password, filed.password) == ("s3cret", "pa55", "s3cret")
    assert not any(word in repr(direct) + repr(filed) for word in ("s3cret", "pa55"))
    (tmp_path / "secret").unlink()
    with pytest.raises(SecretMissing, match="cannot be read"):
        assert filed.password
