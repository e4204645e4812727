"""A real Orthanc of a test's own: free ports, a temporary folder, ended by its process id.

    with orthanc(modalities=[Modality("PEDISCREEN", port=scp_port)]) as server:
        server.get("/system")

It listens on every address (1.10 has no setting against that) with a random password, and only AE titles that it was
told about may talk to it. Missing Orthanc skips the test on a laptop and fails it where CI is set."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.pediscreen_up import free_port

DICOM_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AE_TITLE = "ORTHANC"
STARTS_WITHIN_S = 20


@dataclass(frozen=True)
class Modality:
    """A system that Orthanc knows: it may send to Orthanc under this title, and Orthanc may send to its port."""

    ae_title: str
    port: int = 104
    host: str = "127.0.0.1"


@dataclass
class Orthanc:
    folder: Path
    http_port: int
    dicom_port: int
    user: str
    password: str = field(repr=False)
    settings: dict[str, Any]
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicom_web_url(self) -> str:
        return f"{self.url}/dicom-web"

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            auth=(self.user, self.password),
            headers={"Accept-Encoding": "identity"},
            timeout=30,
            trust_env=False,
        )

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        with self.client() as client:
            answer = client.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, content: bytes | None = None, json: Any = None) -> Any:
        """Returns the JSON of the answer; raises where it is no success."""
        with self.client() as client:
            answer = client.post(path, content=content, json=json)
        answer.raise_for_status()
        return answer.json()

    def upload(self, path: Path) -> str:
        """A DICOM file by REST; returns Orthanc's id of the instance."""
        return self.post("/instances", content=path.read_bytes())["ID"]

    def instance_file(self, instance: str) -> bytes:
        with self.client() as client:
            answer = client.get(f"/instances/{instance}/file")
        answer.raise_for_status()
        return answer.content

    def start(self) -> None:
        """With the data it had, after a `stop` or `kill`."""
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self.settings))
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [_program(), str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                self.get("/system")
                return
            except httpx.HTTPError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "orthanc.log").read_text(errors="replace")[-2000:]
                    pytest.fail(f"Orthanc did not start:\n{said}")
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def orthanc(
    modalities: Sequence[Modality] = (), *, checks_called_ae: bool = True, **settings: Any
) -> Iterator[Orthanc]:
    """Started, and empty. `settings` are keys of its configuration that replace or complete these."""
    _require_program()
    folder = Path(tempfile.mkdtemp(prefix="orthanc-"))
    user, password = "pediscreen", secrets.token_hex(16)
    http_port, dicom_port = free_port(), free_port()
    allowed = {"AllowEcho": True, "AllowStore": True, "AllowFind": True, "AllowMove": True, "AllowGet": True}
    configuration = {
        "Name": "TEST",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(DICOM_WEB)],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {user: password},
        "HttpCompressionEnabled": False,
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": checks_called_ae,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": False,
        "UnknownSopClassAccepted": False,
        "OverwriteInstances": False,
        "SyncStorageArea": False,  # nothing here outlives the test
        "StableAge": 1,
        "DicomModalities": {
            modality.ae_title.lower(): {
                "AET": modality.ae_title,
                "Host": modality.host,
                "Port": modality.port,
                **allowed,
            }
            for modality in modalities
        },
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
    server = Orthanc(folder, http_port, dicom_port, user, password, configuration | settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> str:
    return shutil.which("Orthanc") or "/usr/sbin/Orthanc"


def _require_program() -> None:
    if Path(_program()).exists() and DICOM_WEB.exists():
        return
    missing = "Orthanc with its DICOMweb plugin is not installed (apt-get install orthanc orthanc-dicomweb)"
    pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
