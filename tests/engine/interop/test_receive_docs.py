"""The Orthanc configuration of docs/receive.md, started and sent to."""

import json
import re
import subprocess

import pytest

from engine.settings import PROJECT_DIR
from tests.engine.interop.conftest import dcmtk
from tests.engine.interop.orthanc import orthanc

FROM_THE_TEST = {"HttpPort", "DicomPort", "StorageDirectory", "IndexDirectory", "RegisteredUsers"}


@pytest.fixture(scope="module")
def documented():
    (block,) = re.findall(r"```json\n(.+?)```", (PROJECT_DIR / "docs" / "receive.md").read_text(), re.DOTALL)
    return json.loads(block)


def test_the_documented_orthanc_takes_films_from_whom_it_knows_and_from_nobody_else(documented, films):
    settings = {key: value for key, value in documented.items() if key not in FROM_THE_TEST}
    assert {"DicomAlwaysAllowStore", "DicomAlwaysAllowEcho", "HttpCompressionEnabled"} <= settings.keys()
    with orthanc(**settings) as server:
        for calling, called, is_taken in (
            ("XRAY", "ORTHANC", True),
            ("STRANGER", "ORTHANC", False),
            ("XRAY", "SOMEBODY", False),
        ):
            command = [dcmtk("storescu"), "-aet", calling, "-aec", called, "127.0.0.1", str(server.dicom_port)]
            assert (subprocess.run([*command, films[0]], capture_output=True).returncode == 0) is is_taken
        echo = [dcmtk("echoscu"), "-aet", "STRANGER", "-aec", "ORTHANC", "127.0.0.1", str(server.dicom_port)]
        assert subprocess.run(echo, capture_output=True).returncode != 0
        assert len(server.get("/instances")) == 1
