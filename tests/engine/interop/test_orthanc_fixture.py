"""The Orthanc that other tests use: it takes a film from a modality that it knows, and from no other."""

import subprocess

from engine.phantoms.write import make_phantoms
from tests.engine.interop.orthanc import AE_TITLE, Modality, orthanc


def test_a_known_modality_may_send_and_the_files_are_as_they_were_sent(tmp_path):
    (film,) = make_phantoms(tmp_path, "hand", 1, 7)
    with orthanc([Modality("XRAY")]) as server:
        command = ["storescu", "-aec", AE_TITLE, "127.0.0.1", str(server.dicom_port), str(film.path)]
        assert subprocess.run([*command, "-aet", "STRANGER"], capture_output=True).returncode != 0
        assert subprocess.run([*command, "-aet", "XRAY"], capture_output=True).returncode == 0
        (instance,) = server.get("/instances")
        assert len(server.instance_file(instance)) > 100_000
        first = server.upload(film.path)
        server.stop()
        server.start()
        assert server.get("/instances") == [first] == [instance]
