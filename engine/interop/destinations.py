"""Where signed results go, one environment variable a destination: PEDISCREEN_SEND_TO_<NAME>.

    PEDISCREEN_SEND_TO_PACS=dicom://ORTHANC@pacs.hospital:4242              C-STORE; the called AE title stands before @
    PEDISCREEN_SEND_TO_PACS=dicoms://PACS@pacs.hospital:2762                the same over TLS
    PEDISCREEN_SEND_TO_WEB=dicomweb+https://pacs.hospital/dicom-web         STOW-RS
    PEDISCREEN_SEND_TO_EHR=fhir+https://ehr.hospital/fhir                   a FHIR R4 server
    PEDISCREEN_SEND_TO_DROP=folder:///srv/results                           files

What a destination needs besides has the same name with an ending (ENDINGS). A value that ends in _FILE is the path of a
file with the secret. Nothing but what stands here is ever connected to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.errors import PediScreenError

PREFIX = "PEDISCREEN_SEND_TO_"
NAME = re.compile(r"[A-Z0-9]{1,24}")
ENDINGS = {
    "CALLING": "our AE title, PEDISCREEN unless said otherwise",
    "TOKEN": "sent as a bearer token",
    "TOKEN_FILE": "a file with it",
    "USER": "for basic authentication",
    "PASSWORD": "for basic authentication",
    "PASSWORD_FILE": "a file with it",
    "CA_FILE": "the authority that the other side's certificate is checked against; the system's otherwise",
    "CERTIFICATE": "our own certificate, where the other side asks for one",
    "KEY": "its key",
    "DOCUMENTS": "of sr and sc, what a DICOM destination gets; both otherwise",
    "COMMENTS": "yes: readers' comments go along; they may name the child",
    "ALLOW_HTTP": "yes: results may go to another machine in the clear",
}
OUR_AE_TITLE = "PEDISCREEN"
STRUCTURED_REPORT, SECONDARY_CAPTURE = "sr", "sc"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")  # PS3.5 6.2: no backslash, no control characters


class Kind(StrEnum):
    DICOM = "dicom"
    DICOMWEB = "dicomweb"
    FHIR = "fhir"
    FOLDER = "folder"


KIND_WORDS = {
    Kind.DICOM: "DICOM node",
    Kind.DICOMWEB: "DICOMweb server",
    Kind.FHIR: "FHIR server",
    Kind.FOLDER: "folder",
}


class SecretMissing(PediScreenError):
    """A file that should hold a secret cannot be read."""


@dataclass(frozen=True)
class Destination:
    """`problem`: why nothing can be sent here as it is configured; such a destination is shown, and never used."""

    name: str  # lower case; what rows in the database carry
    kind: Kind
    problem: str | None = None
    host: str = ""
    port: int = 0
    url: str = ""  # of DICOMweb and FHIR, without a slash at its end
    folder: Path | None = None
    called_ae_title: str = ""
    calling_ae_title: str = OUR_AE_TITLE
    uses_tls: bool = False
    documents: frozenset[str] = frozenset({STRUCTURED_REPORT, SECONDARY_CAPTURE})  # of a DICOM destination
    with_comments: bool = False
    user: str | None = None
    _password: str | None = field(default=None, repr=False)
    _password_file: Path | None = field(default=None, repr=False)
    _token: str | None = field(default=None, repr=False)
    _token_file: Path | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def takes_dicom(self) -> bool:
        """It gets DICOM objects alone, which there are only of studies that came as DICOM."""
        return self.kind in (Kind.DICOM, Kind.DICOMWEB)

    @property
    def where(self) -> str:
        """For people: where that is, without anything secret."""
        match self.kind:
            case Kind.DICOM:
                return f"{self.called_ae_title} at {self.host}, port {self.port}{', TLS' if self.uses_tls else ''}"
            case Kind.FOLDER:
                return str(self.folder)
        return self.url

    @property
    def password(self) -> str | None:
        """Read when it is needed, so that a new one in its file counts at once. Raises SecretMissing."""
        return self._password if self._password_file is None else _secret(self._password_file)

    @property
    def token(self) -> str | None:
        """As `password`."""
        return self._token if self._token_file is None else _secret(self._token_file)


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretMissing(f"the file {path} with the secret cannot be read ({type(error).__name__})") from error


class _Wrong(Exception):
    """Why a destination cannot be used as it is configured."""


def configured(environment: Mapping[str, str]) -> tuple[Destination, ...]:
    """Every destination, by name. What is wrong with one is its `problem` and does not keep the others from working."""
    found: dict[str, str] = {}
    for variable, value in environment.items():
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and "_" not in name and value.strip():
            found[name] = value.strip()
    return tuple(_destination(name, found[name], environment) for name in sorted(found))


def _destination(name: str, value: str, environment: Mapping[str, str]) -> Destination:
    def said(ending: str) -> str | None:
        return environment.get(f"{PREFIX}{name}_{ending}", "").strip() or None

    def path(ending: str) -> Path | None:
        text = said(ending)
        return None if text is None else Path(text)

    scheme = value.split(":", 1)[0]
    kind = {"dicom": Kind.DICOM, "dicoms": Kind.DICOM, "folder": Kind.FOLDER}.get(scheme) or (
        Kind.FHIR if scheme.startswith("fhir") else Kind.DICOMWEB
    )
    try:
        _refuse_unknown(name, environment)
        common = {
            "name": name.lower(),
            "kind": kind,
            "calling_ae_title": _ae_title(said("CALLING") or OUR_AE_TITLE, "_CALLING"),
            "documents": _documents(said("DOCUMENTS")),
            "with_comments": said("COMMENTS") == "yes",
            "user": said("USER"),
            "_password": said("PASSWORD"),
            "_password_file": path("PASSWORD_FILE"),
            "_token": said("TOKEN"),
            "_token_file": path("TOKEN_FILE"),
            "ca_file": _file(path("CA_FILE")),
            "certificate": _file(path("CERTIFICATE")),
            "key": _file(path("KEY")),
        }
        return Destination(**common, **_address(scheme, value, allow_http=said("ALLOW_HTTP") == "yes"))
    except _Wrong as wrong:
        return Destination(name=name.lower()[:24], kind=kind, problem=str(wrong))


def _refuse_unknown(name: str, environment: Mapping[str, str]) -> None:
    if not NAME.fullmatch(name):
        raise _Wrong("a destination's name is made of capital letters and digits, at most 24")
    start = f"{PREFIX}{name}_"
    unknown = sorted(variable for variable in environment if variable.startswith(start))
    unknown = [variable for variable in unknown if variable.removeprefix(start) not in ENDINGS]
    if unknown:
        raise _Wrong(f"{unknown[0]} is no setting of a destination")


def _address(scheme: str, value: str, *, allow_http: bool) -> dict[str, object]:
    """Raises _Wrong with what is wrong; the value itself is not repeated, as it could hold a password."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _Wrong(f"it is no address: {error}") from None
    if scheme == "folder":
        folder = Path(unquote(parts.path))
        if parts.netloc or not folder.is_absolute() or ".." in folder.parts:
            raise _Wrong("a folder is given with its whole path, as folder:///srv/results")
        return {"folder": folder}
    if scheme in ("dicom", "dicoms"):
        if not host or port is None or not parts.username or parts.password or parts.path.strip("/") or parts.query:
            raise _Wrong("a DICOM node is given as dicom://AETITLE@host:port")
        called = _ae_title(unquote(parts.username), "before @")
        return {"called_ae_title": called, "host": host, "port": port, "uses_tls": scheme == "dicoms"}
    if scheme not in ("dicomweb+https", "dicomweb+http", "fhir+https", "fhir+http"):
        raise _Wrong("it begins with none of dicom:, dicoms:, dicomweb+https:, fhir+https:, folder:")
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise _Wrong("the address holds a host and a path alone; user and password have variables of their own")
    if scheme.endswith("+http") and host not in LOOPBACK and not allow_http:
        raise _Wrong("http would send results in the clear: use https, or set _ALLOW_HTTP=yes for a network that may")
    url = value.split("+", 1)[1].rstrip("/")
    return {"url": url, "host": host, "port": port or (443 if "https" in scheme else 80), "uses_tls": "https" in scheme}


def _ae_title(text: str, where: str) -> str:
    if not AE_TITLE.fullmatch(text.strip()):
        raise _Wrong(f"the AE title {where} has 1 to 16 printable characters without a backslash")
    return text.strip()


def _documents(text: str | None) -> frozenset[str]:
    names = {name.strip() for name in (text or "sr,sc").split(",")}
    if not names <= {STRUCTURED_REPORT, SECONDARY_CAPTURE}:
        raise _Wrong("_DOCUMENTS names sr, sc, or both with a comma between")
    return frozenset(names)


def _file(path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise _Wrong(f"there is no file {path}")
    return path
