"""What stands at the other end of a delivery: a PACS, a web server that says what a test wants, certificates."""

from __future__ import annotations

import io
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from engine.interop.destinations import Destination, Kind
from engine.interop.documents import Document
from engine.interop.signed_study import DocumentKind

AE_TITLE = "PACS"


def dicom_document(sop_class_uid: str = ComprehensiveSRStorage, name: str = "Doe^Jane") -> Document:
    """The smallest object that can be stored; what reports hold is tested with the documents themselves."""
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = sop_class_uid, generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID = generate_uid(), generate_uid()
    one.PatientName, one.PatientID, one.Modality = name, "ID1", "SR"
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = sop_class_uid, one.SOPInstanceUID
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    one.save_as(stream, enforce_file_format=True)
    return Document(
        kind=DocumentKind.STRUCTURED_REPORT,
        uid=str(one.SOPInstanceUID),
        media_type="application/dicom",
        sop_class_uid=str(sop_class_uid),
        file_name=f"{one.SOPInstanceUID}.dcm",
        content=stream.getvalue(),
    )


def two_documents() -> list[Document]:
    return [dicom_document(), dicom_document(SecondaryCaptureImageStorage)]


# ---------------------------------------------------------------- a PACS


@dataclass
class Pacs:
    port: int
    received: list[Dataset] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # of the next objects; then success
    calling: list[str] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)  # not set: it hangs

    @property
    def uids(self) -> list[str]:
        return [str(one.SOPInstanceUID) for one in self.received]

    def destination(self, **changes: object) -> Destination:
        said = {"name": "pacs", "kind": Kind.DICOM, "host": "127.0.0.1", "port": self.port, "called_ae_title": AE_TITLE}
        return Destination(**said | changes)  # type: ignore[arg-type]


@contextmanager
def pacs(
    *,
    knows: str = "PEDISCREEN",
    takes: tuple[str, ...] = (ComprehensiveSRStorage, SecondaryCaptureImageStorage),
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[Pacs]:
    """pynetdicom's SCP. It keeps what it is sent, one of each UID, and answers as the test wants."""
    here = Pacs(port)
    here.answers.set()

    def on_store(event: evt.Event) -> int:
        here.answers.wait(30)
        here.calling.append(event.assoc.requestor.ae_title)
        status = here.statuses.pop(0) if here.statuses else 0x0000
        if (status == 0x0000 or status >> 12 == 0xB) and event.dataset.SOPInstanceUID not in here.uids:
            here.received.append(event.dataset)
        return status

    entity = AE(ae_title=AE_TITLE)
    entity.require_called_aet, entity.require_calling_aet = True, [knows]
    for sop_class_uid in takes:
        entity.add_supported_context(sop_class_uid)
    entity.add_supported_context(Verification)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)], ssl_context=tls
    )
    here.port = server.socket.getsockname()[1]
    try:
        yield here
    finally:
        here.answers.set()
        server.shutdown()


# ---------------------------------------------------------------- a web server


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebServer:
    port: int = 0
    uses_tls: bool = False
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], tuple[int, str, bytes]] = lambda asked: (200, "application/json", b"{}")
    answers: threading.Event = field(default_factory=threading.Event)  # not set: it hangs

    def says(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        self.answer = lambda asked: (status, content_type, body)

    def destination(self, kind: Kind, **changes: object) -> Destination:
        scheme = "https" if self.uses_tls else "http"
        said = {"name": "web", "kind": kind, "host": "localhost", "port": self.port, "uses_tls": self.uses_tls}
        return Destination(**said | {"url": f"{scheme}://localhost:{self.port}/there"} | changes)  # type: ignore[arg-type]


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    here = WebServer(uses_tls=tls is not None)
    here.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.asked.append(Asked(self.path, dict(self.headers), body))
            here.answers.wait(30)
            status, content_type, answer = here.answer(here.asked[-1])
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("Location", answer.decode())
                answer = b""
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up, as tests make them."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    here.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()


# ---------------------------------------------------------------- certificates


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Of a server with it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def certificate_for(folder: Path, host: str, *, days: int = 1) -> Certificate:
    """Signed by itself, for one host; with negative `days` it has run out."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, False, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = Certificate(folder / f"{host}-{days}.pem", folder / f"{host}-{days}.key")
    paths.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
