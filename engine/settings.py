"""Where things are, read from the environment once. Secrets come from the environment only."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from engine.interop import destinations
from engine.sign_in_settings import SignInSettings, read_sign_in_settings

PROJECT_DIR = Path(__file__).resolve().parent.parent
PHANTOM_MODEL_DIR = PROJECT_DIR / "engine" / "phantoms" / "model"
PHANTOM_MODEL = "phantom"


def model_dir(model: str) -> Path:
    """Where a model given as "phantom" or as a folder lies; for a hub name a folder that is not there."""
    return PHANTOM_MODEL_DIR if model == PHANTOM_MODEL else Path(model)


def is_elsewhere(model: str) -> bool:
    """Whether a model is given as the URL of a worker on another machine."""
    return model.startswith(("https://", "http://"))


@dataclass(frozen=True)
class StorageSCPSettings:
    """Receiving by C-STORE (engine.interop.storage_scp, docs/receive.md)."""

    port: int
    host: str
    ae_title: str
    senders: str  # as written: "CR1, DX2@10.0.0.5, PACS@10.1.0.0/16"
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    max_associations: int


@dataclass(frozen=True)
class OrthancSettings:
    """An Orthanc that is followed (engine.jobs.orthanc)."""

    url: str
    user: str | None
    password: str | None = field(repr=False)
    ca: Path | None  # where its certificate is not signed by a public authority


@dataclass(frozen=True)
class Settings:
    data_dir: Path  # image files by hash, derived pixels, the default database, job state
    database_url: str
    jobs_url: str  # DBOS system database
    model: str  # "phantom", a hub name such as google/medgemma-4b-it, a folder, or the URL of a worker elsewhere
    lora_adapter_path: Path | None
    port: int
    api_requests_per_minute: int = 600  # of each token and user (engine.api.rate_limit)
    # reads for other machines, and for this one's review page (engine.jobs.read_server); None: the door stays shut
    reads_port: int | None = None
    reads_host: str = "127.0.0.1"
    reads_token: str | None = field(default=None, repr=False)
    reads_certificate: Path | None = None
    reads_key: Path | None = None
    audit_key: str | None = field(default=None, repr=False)  # seals the audit log (db.audit_chain)
    # what documents say of the hospital they leave from (engine.interop)
    release: bool = False  # used on patients: nothing that nobody has verified may leave
    organization: str | None = None  # accountable for what its readers sign
    patient_system: str | None = None  # the URI that names the hospital's patient numbers in FHIR
    time_zone: str = "UTC"  # of the dates and times in documents, e.g. "Europe/Vienna"
    deidentification_key: str | None = field(default=None, repr=False)  # of exports that shall fit to each other
    # what comes in from a hospital (`pediscreen exchange`); None: off
    storage_scp: StorageSCPSettings | None = None
    orthanc: OrthancSettings | None = None
    watched_folder: Path | None = None

    @property
    def receives(self) -> bool:
        """Whether films come in by themselves."""
        return bool(self.storage_scp or self.orthanc or self.watched_folder)

    # where signed results go (PEDISCREEN_SEND_TO_<NAME>), and how long a case has to be quiet before they do
    destinations: tuple[destinations.Destination, ...] = ()
    send_after_s: float = 120.0
    viewer_url: str | None = None  # of another viewer, {StudyInstanceUID} in it stands for the study

    @cached_property
    def sign_in(self) -> SignInSettings:
        """Read at its first use, which raises WrongSetting: other commands need none of it."""
        return read_sign_in_settings(os.environ)

    @property
    def reads_url(self) -> str | None:
        """Where this machine's worker answers; with TLS its host has to be the one that the certificate names."""
        scheme = "https" if self.reads_certificate else "http"
        return None if self.reads_port is None else f"{scheme}://{self.reads_host}:{self.reads_port}"


@cache
def settings() -> Settings:
    """The settings of this process. Tests that change the environment call `settings.cache_clear()`."""
    env = os.environ
    data_dir = Path(env.get("PEDISCREEN_DATA_DIR", PROJECT_DIR / "data")).resolve()
    return Settings(
        data_dir=data_dir,
        database_url=env.get("PEDISCREEN_DATABASE_URL", f"sqlite:///{data_dir / 'pediscreen.sqlite'}"),
        jobs_url=env.get("PEDISCREEN_JOBS_URL", f"sqlite:///{data_dir / 'jobs.sqlite'}"),
        model=env.get("PEDISCREEN_MODEL", PHANTOM_MODEL),
        lora_adapter_path=_path(env.get("LORA_ADAPTER_PATH")),
        port=int(env.get("PEDISCREEN_PORT", "8501")),
        api_requests_per_minute=int(env.get("PEDISCREEN_API_REQUESTS_PER_MINUTE", "600")),
        reads_port=int(env["PEDISCREEN_READS_PORT"]) if env.get("PEDISCREEN_READS_PORT") else None,
        reads_host=env.get("PEDISCREEN_READS_HOST", "127.0.0.1"),
        reads_token=env.get("PEDISCREEN_READS_TOKEN"),
        reads_certificate=_path(env.get("PEDISCREEN_READS_CERTIFICATE")),
        reads_key=_path(env.get("PEDISCREEN_READS_KEY")),
        audit_key=env.get("PEDISCREEN_AUDIT_KEY") or None,
        release=env.get("PEDISCREEN_RELEASE", "") not in ("", "0"),
        organization=env.get("PEDISCREEN_ORGANIZATION") or None,
        patient_system=env.get("PEDISCREEN_PATIENT_SYSTEM") or None,
        time_zone=env.get("PEDISCREEN_TIME_ZONE", "UTC"),
        deidentification_key=env.get("PEDISCREEN_DEIDENTIFICATION_KEY") or None,
        storage_scp=_storage_scp(),
        orthanc=_orthanc(),
        watched_folder=_path(env.get("PEDISCREEN_WATCHED_FOLDER")),
        destinations=destinations.configured(env),
        send_after_s=float(env.get("PEDISCREEN_SEND_AFTER_S", "120")),
        viewer_url=env.get("PEDISCREEN_VIEWER_URL") or None,
    )


def _storage_scp() -> StorageSCPSettings | None:
    env = os.environ
    if not env.get("PEDISCREEN_DICOM_PORT"):
        return None
    return StorageSCPSettings(
        port=int(env["PEDISCREEN_DICOM_PORT"]),
        host=env.get("PEDISCREEN_DICOM_HOST", "127.0.0.1"),
        ae_title=env.get("PEDISCREEN_DICOM_AE_TITLE", "PEDISCREEN"),
        senders=env.get("PEDISCREEN_DICOM_SENDERS", ""),
        certificate=_path(env.get("PEDISCREEN_DICOM_CERTIFICATE")),
        key=_path(env.get("PEDISCREEN_DICOM_KEY")),
        client_ca=_path(env.get("PEDISCREEN_DICOM_CLIENT_CA")),
        max_associations=int(env.get("PEDISCREEN_DICOM_MAX_ASSOCIATIONS", "10")),
    )


def _orthanc() -> OrthancSettings | None:
    env = os.environ
    if not env.get("PEDISCREEN_ORTHANC_URL"):
        return None
    return OrthancSettings(
        url=env["PEDISCREEN_ORTHANC_URL"],
        user=env.get("PEDISCREEN_ORTHANC_USER"),
        password=_secret("PEDISCREEN_ORTHANC_PASSWORD"),
        ca=_path(env.get("PEDISCREEN_ORTHANC_CA")),
    )


def _secret(name: str) -> str | None:
    """From the environment, or from the file that NAME_FILE names (as container platforms hand secrets over)."""
    file = os.environ.get(f"{name}_FILE")
    if os.environ.get(name) or not file:
        return os.environ.get(name)
    return Path(file).read_text(encoding="utf-8").strip() if Path(file).is_file() else None


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
