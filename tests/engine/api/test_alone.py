"""`pediscreen api`: the API in processes of its own, without the pages."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.orm import Session

from db.types import utc_now
from engine import cli
from engine.settings import PROJECT_DIR
from tests.api_process import api_process, new_token
from tests.pediscreen_up import free_port
from tests.workstation import AddCase

QUEUE = "/radiology/queue"


def test_several_processes_answer_as_one_and_end_together(session: Session, add_case: AddCase, tmp_path: Path) -> None:
    """One token, one allowance, one answer to a key, whichever process is asked."""
    add_case()
    writer, reader = ({"Authorization": f"Bearer {new_token(name)}"} for name in ("writer", "reader"))
    body = {"verdict": "corrected", "answer": {"task": "bone_age", "bone_age_months": 100}}

    def ask(method: str, path: str, **more: object) -> httpx.Response:
        with httpx.Client() as client:  # a connection of its own: another process may get it
            return client.request(method, address + path, **more)

    def decide(_: int) -> httpx.Response:
        return ask("POST", "/radiology/studies/1/review", json=body, headers={**writer, "Idempotency-Key": "k"})

    with (
        api_process(tmp_path, "--workers", "2", PEDISCREEN_API_REQUESTS_PER_MINUTE="60") as address,
        ThreadPoolExecutor(8) as pool,
    ):
        children = psutil.Process().children(recursive=True)
        processes = [one for one in children if "PEDISCREEN_API_REQUESTS_PER_MINUTE" in one.environ()]
        reviews = list(pool.map(decide, range(8)))
        begun = time.monotonic()
        asked = list(pool.map(lambda _: ask("GET", QUEUE, headers=reader).status_code, range(30)))
        seconds = time.monotonic() - begun
        nobody = ask("GET", QUEUE).status_code
    assert {answer.status_code for answer in reviews} <= {201, 409}
    assert {answer.json()["review_id"] for answer in reviews if answer.status_code == 201} == {1}
    assert set(asked) == {200, 429} and asked.count(200) <= 10 + seconds + 1  # 10 at once, and one a second
    assert nobody == 401
    log = (tmp_path / "api.log").read_text()
    assert len({line.split()[2] for line in log.splitlines() if " engine.api " in line and "GET" in line}) == 2
    assert len(processes) >= 3
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_with_a_certificate_it_speaks_tls_alone(session: Session, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    port = free_port()
    command = [sys.executable, "-m", "engine.cli", "api", "--port", str(port)]
    command += ["--certificate", str(certificate), "--key", str(key)]
    process = subprocess.Popen(command, cwd=PROJECT_DIR, env=os.environ, stderr=subprocess.DEVNULL)
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusted) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    health = client.get(f"https://localhost:{port}/api/health")
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline and process.poll() is None
                    time.sleep(0.1)
        assert health.json()["status"] == "ok"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://localhost:{port}/api/health")
    finally:
        process.terminate()
        process.wait(15)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "in the clear"),
        (["--certificate", __file__], "belong together"),
    ],
)
def test_what_would_send_tokens_in_the_clear_is_refused(
    session: Session, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert cli.main(["api", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_without_a_schema_it_says_what_to_run(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["api"]) == 1
    assert "pediscreen db upgrade" in capsys.readouterr().err


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"
