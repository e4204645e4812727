"""`pediscreen doctor`: what this machine can run and what is missing, on one screen.

Every line is found out by trying: a 4-bit product is computed, each decoder is asked for, the database is opened.
Nothing here needs the network; the hub is asked with a short timeout and may stay silent."""

from __future__ import annotations

import os
import platform
import shutil
import textwrap
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
from pydicom import uid
from pydicom.pixels import get_decoder
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from db import migrate
from db.models import StudyStatus
from db.session import session_scope
from engine.errors import ModelUnavailable, PediScreenError
from engine.imaging.stored_pixels import COMPRESSED, NATIVE
from engine.inference import access, model_folder, remote
from engine.services import receiving, registry, worklist
from engine.services.accounts import service_actor
from engine.settings import PHANTOM_MODEL, PHANTOM_MODEL_DIR, Settings, is_elsewhere

LINE_WIDTH = 118
LOW_DISK_GB = 2.0
LOW_MEMORY_GB = 3.0

# which codec decodes a transfer syntax, by what its name (engine.imaging.stored_pixels.COMPRESSED) starts with
CODECS = {
    "JPEG lossless": "JPEGSOF3",
    "JPEG-LS": "JPEGLS",
    "JPEG 2000": "JPEG2K",
    "JPEG XL": "JPEGXL",
    "JPEG": "JPEG8",
    "HTJ2K": "JPEG2K",
}


class State(StrEnum):
    OK = "ok"
    NOTE = "note"  # works, with a limit worth knowing
    MISSING = "missing"  # the workstation cannot do its work as configured


@dataclass(frozen=True)
class Check:
    section: str
    name: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    checks: list[Check]
    hub_model: str
    hub_needs: list[access.Requirement]

    @property
    def can_run(self) -> bool:
        """Whether the workstation can run as it is configured here."""
        return all(check.state is not State.MISSING for check in self.checks)

    @property
    def _hub_model_ready(self) -> bool:
        return all(need.met for need in self.hub_needs)

    def as_json(self) -> dict[str, Any]:
        return {
            "can_run": self.can_run,
            "checks": [asdict(check) for check in self.checks],
            "real_model": {
                "model": self.hub_model,
                "ready": self._hub_model_ready,
                "requirements": [asdict(need) for need in self.hub_needs],
            },
        }

    def as_text(self) -> str:
        lines, section = [], ""
        for check in self.checks:
            if check.section != section:
                section = check.section
                lines.append(f"\n{section}" if lines else section)
            remedy = check.remedy if check.state is not State.OK else ""
            lines += _lines(check.state, check.name, check.found, remedy)
        needs = "ready" if self._hub_model_ready else "what it still needs here"
        lines.append(f"\nReal MedGemma ({self.hub_model}): {needs}")
        for need in self.hub_needs:
            mark = {True: "ok", False: "missing", None: "unknown"}[need.met]
            lines += _lines(mark, need.name, need.found, "" if need.met else need.remedy)
        verdict = (
            "This machine can run PediScreen as configured." if self.can_run else "Something is missing, see above."
        )
        return "\n".join([*lines, "", verdict])


def _lines(mark: str, name: str, found: str, remedy: str) -> list[str]:
    """One finding and, where there is something to do, the remedy below it. Addresses are never broken."""
    margin = " " * 26
    wrapper = textwrap.TextWrapper(LINE_WIDTH, break_on_hyphens=False, break_long_words=False)
    wrapper.initial_indent, wrapper.subsequent_indent = f"  {mark:8} {name:14} ", margin
    lines = wrapper.wrap(found)
    wrapper.initial_indent, wrapper.subsequent_indent = f"{margin}-> ", f"{margin}   "
    return lines + wrapper.wrap(remedy)


def examine(here: Settings) -> Report:
    hub_model = here.model if access.is_hub_name(here.model) else access.MEDGEMMA
    hub_needs = access.requirements(hub_model)
    checks = [
        _processor(),
        _memory(),
        _disk(here.data_dir),
        _gpu(here),
        _bf16(),
        _four_bit(),
        _deployed(here) or _model(here, hub_needs),
        *_decoders(),
        *_database(here),
        *_receiving(here),
        *_sending(here),
    ]
    return Report(checks, hub_model, hub_needs)


def _receiving(here: Settings) -> list[Check]:
    """What comes in from a hospital (docs/receive.md); nothing where nothing is configured."""
    checks = []
    for loop, name, try_it in (
        ("storage_scp", "DICOM", _try_storage_scp),
        ("orthanc", "Orthanc", _try_orthanc),
        ("watched_folder", "folder", _try_watched_folder),
    ):
        where = receiving.where(here, loop)
        if not where:
            continue
        try:
            remedy = try_it(here)
            checks.append(Check("Receives", name, State.NOTE if remedy else State.OK, where, remedy))
        except PediScreenError as error:
            checks.append(Check("Receives", name, State.MISSING, where, str(error)))
    return checks


def _sending(here: Settings) -> list[Check]:
    """Where signed results go (docs/send.md); nothing where nothing is configured. What cannot be reached now is tried
    again for ever, and is therefore no reason not to start."""
    from engine.interop.sending.reach import reach
    from engine.services.other_viewer import viewer_problem

    checks = []
    for destination in here.destinations:
        name = destination.name.upper()
        if destination.problem is not None:
            checks.append(Check("Sends", name, State.MISSING, "cannot be used as configured", destination.problem))
            continue
        try:
            reach(destination)
            checks.append(Check("Sends", name, State.OK, destination.where))
        except PediScreenError as error:
            checks.append(Check("Sends", name, State.NOTE, destination.where, f"Not reached now: {error}."))
    if problem := viewer_problem(here.viewer_url):
        checks.append(Check("Sends", "viewer", State.MISSING, "no link to another viewer", problem))
    return checks


def _try_storage_scp(here: Settings) -> str:
    from engine.interop.storage_scp import StorageSCP

    scp = StorageSCP(here.storage_scp, desk=None)
    if scp.tls is None and not here.storage_scp.host.startswith("127."):
        return "Without TLS an AE title can be forged: see docs/receive.md, or keep the port to a network of its own."
    return ""


def _try_orthanc(here: Settings) -> str:
    from engine.interop.orthanc import OrthancClient

    client = OrthancClient(here.orthanc)
    try:
        client.changes(0, 1)
    finally:
        client.close()
    return ""


def _try_watched_folder(here: Settings) -> str:
    folder = here.watched_folder
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PediScreenError("The folder is not there, or files in it cannot be moved: set PEDISCREEN_WATCHED_FOLDER.")
    return ""


def _processor() -> Check:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("Machine", "processor", State.OK, f"{name}, {cores} cores, Python {platform.python_version()}")


def _memory() -> Check:
    memory = psutil.virtual_memory()
    available_gb = memory.available / 1e9
    state = State.OK if available_gb > LOW_MEMORY_GB else State.NOTE
    found = f"{available_gb:.1f} of {memory.total / 1e9:.1f} GB available"
    return Check("Machine", "memory", state, found, "Web and worker together take about 2 GB with the phantom model.")


def _disk(data_dir: Path) -> Check:
    folder = data_dir
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    if not os.access(folder, os.W_OK):
        return Check("Machine", "disk", State.MISSING, f"{folder} cannot be written", "Set PEDISCREEN_DATA_DIR.")
    state = State.OK if free_gb > LOW_DISK_GB else State.NOTE
    found = f"{free_gb:.1f} GB free for {data_dir}"
    return Check("Machine", "disk", state, found, "Set PEDISCREEN_DATA_DIR to a larger disk.")


def _gpu(here: Settings) -> Check:
    import torch

    from engine.inference import gpu

    trouble = gpu.trouble()
    if trouble is None and not torch.cuda.is_available():
        return Check("Model", "GPU", State.NOTE, f"none (torch {torch.__version__})", "Models run on the CPU.")
    try:
        free, total = torch.cuda.mem_get_info() if trouble is None else (0, 0)
    except RuntimeError as error:
        trouble = str(error).splitlines()[0]
    if trouble is not None:
        state = State.NOTE if here.model == PHANTOM_MODEL else State.MISSING
        return Check("Model", "GPU", state, f"cannot be used: {trouble} (torch {torch.__version__})", gpu.REMEDY)
    found = f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free (torch {torch.__version__})"
    return Check("Model", "GPU", State.OK, found)


def _bf16() -> Check:
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported():
            return Check("Model", "bf16", State.OK, "on the GPU")
        return Check("Model", "bf16", State.NOTE, "not on this GPU", "float16 or float32 is used instead.")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        return Check("Model", "bf16", State.OK, "on the CPU")
    return Check("Model", "bf16", State.NOTE, "no units for it on this CPU", "float32 is used: bf16 would be slower.")


def _four_bit() -> Check:
    """A real product with NF4 weights and double quantisation, against the unquantised one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        import bitsandbytes
        from bitsandbytes.nn import Linear4bit

        torch.manual_seed(0)
        exact = torch.nn.Linear(256, 64, bias=False)
        four_bit = Linear4bit(
            256, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=True
        )
        four_bit.load_state_dict(exact.state_dict())
        inputs = torch.randn(4, 256)
        with torch.inference_mode():
            expected = exact(inputs)
            found = four_bit.to(device)(inputs.to(device)).float().cpu()
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return Check("Model", "4-bit (NF4)", State.MISSING, f"does not work: {error}", "Install again: make run")
    relative_error = float((found - expected).norm() / expected.norm())
    version = bitsandbytes.__version__
    if not relative_error < 0.2:
        wrong = f"bitsandbytes {version} computes wrong products (error {relative_error:.0%})"
        return Check("Model", "4-bit (NF4)", State.MISSING, wrong, "Install again: make run")
    works = f"bitsandbytes {version} on {device}, rounding error of a product {relative_error:.0%}"
    return Check("Model", "4-bit (NF4)", State.OK, works)


def _deployed(here: Settings) -> Check | None:
    """The model that was put in use here; None where it is the one of the settings."""
    try:
        if not _database_file_exists(here) or len(set(migrate.revisions(here.database_url))) > 1:
            return None  # the database's own line says so
        with session_scope(here.database_url) as session:
            deployed = registry.in_use(session, service_actor("doctor"))
        if deployed is None:
            return None
        model_folder.verify(deployed.folder, deployed.folder_sha256)
    except SQLAlchemyError:
        return None
    except ModelUnavailable as refused:
        return Check(
            "Model", "in use", State.MISSING, str(refused), "Go back to the one before: pediscreen models rollback"
        )
    return Check("Model", "in use", State.OK, f"{deployed.name}, its files as they were registered")


def _model(here: Settings, hub_needs: list[access.Requirement]) -> Check:
    if is_elsewhere(here.model):
        return _elsewhere(here)
    adapter = here.lora_adapter_path
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        wrong = f"LORA_ADAPTER_PATH={adapter} holds no adapter_config.json"
        return Check("Model", "in use", State.MISSING, wrong, "Correct it, or unset it.")
    with_adapter = f" with the adapter {adapter}" if adapter else ""
    if here.model == PHANTOM_MODEL:
        if not (PHANTOM_MODEL_DIR / "config.json").is_file():
            lost = f"the phantom model is not in {PHANTOM_MODEL_DIR}"
            return Check("Model", "in use", State.MISSING, lost, "Restore the folder from the repository.")
        found = f"phantom (synthetic images only, not for diagnostic use){with_adapter}"
        return Check("Model", "in use", State.OK, found)
    if not access.is_hub_name(here.model):
        if not ((Path(here.model) / "config.json").is_file() or model_folder.is_gguf(Path(here.model))):
            lost = f"PEDISCREEN_MODEL={here.model} is neither a hub name nor a folder with config.json"
            return Check("Model", "in use", State.MISSING, lost, "Correct it, or unset it for the phantom model.")
        return Check("Model", "in use", State.OK, f"{here.model}{with_adapter}")
    unmet = [need.name for need in hub_needs if need.met is False and need.name != "weights"]
    if unmet:
        lacking = f"{here.model} lacks: {', '.join(unmet)}"
        return Check("Model", "in use", State.MISSING, lacking, "See the last section.")
    return Check("Model", "in use", State.OK, f"{here.model}{with_adapter}")


def _elsewhere(here: Settings) -> Check:
    try:
        there = remote.RemoteReader(here.model, here.reads_token)
    except ModelUnavailable as missing:
        return Check("Model", "in use", State.MISSING, str(missing), "Films stay queued until it answers.")
    caution = ", synthetic images only, not for diagnostic use" if there.is_phantom else ""
    return Check("Model", "in use", State.OK, f"{there.model_version} at {here.model}{caution}")


def _decoders() -> list[Check]:
    """One line for the transfer syntaxes that can be decoded, one for those that cannot."""
    import imagecodecs

    able, unable, families = [uid.UID(native).name for native in NATIVE], [], ["uncompressed"]
    for name in ["RLE", *COMPRESSED.values()]:
        family = next((start for start in CODECS if name.startswith(start)), name)
        codec = CODECS.get(family)
        works = getattr(imagecodecs, codec).available if codec else get_decoder(uid.RLELossless).is_available
        (able if works else unable).append(name)
        if works and family not in families:
            families.append(family)
    found = f"{len(able)} of {len(able) + len(unable)} transfer syntaxes: {', '.join(families)}"
    checks = [Check("Images", "decoders", State.OK, found)]
    if unable:
        remedy = "Such files go to quarantine. Install again: make run"
        checks.append(Check("Images", "no decoder", State.NOTE, ", ".join(unable), remedy))
    return checks


def _database_file_exists(here: Settings) -> bool:
    """True for a server's database: whether that answers is found out by asking."""
    url = make_url(here.database_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


def _database(here: Settings) -> list[Check]:
    shown = make_url(here.database_url).render_as_string(hide_password=True)
    if not _database_file_exists(here):
        return [Check("Data", "database", State.MISSING, f"{shown} does not exist yet", "pediscreen db upgrade")]
    try:
        current, newest = migrate.revisions(here.database_url)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        return [Check("Data", "database", State.MISSING, f"{shown}: {reason}", "Check PEDISCREEN_DATABASE_URL.")]
    if current != newest:
        found = f"{shown} has schema {current or 'none'}, this version needs {newest}"
        return [Check("Data", "database", State.MISSING, found, "pediscreen db upgrade")]
    database = Check("Data", "database", State.OK, f"{shown}, schema {current}")
    with session_scope(here.database_url) as session:
        overview = worklist.overview(session, service_actor("doctor"))
    return [database, _studies(overview), _worker(here, overview), *_door(here)]


def _studies(overview: worklist.Overview) -> Check:
    waiting = overview.by_status.get(StudyStatus.AWAITING_READ, 0)
    found = f"{overview.total} ({waiting} await a read), {overview.quarantine_open} files in quarantine"
    return Check("Data", "studies", State.OK, found)


def _door(here: Settings) -> list[Check]:
    """Where this machine's worker reads for others; nothing where it does not."""
    if here.reads_url is None:
        return []
    try:
        there = remote.RemoteReader(here.reads_url, here.reads_token)
    except ModelUnavailable as away:
        remedy = "Start the worker with the same PEDISCREEN_READS_PORT and PEDISCREEN_READS_TOKEN."
        return [Check("Data", "reads", State.NOTE, str(away), remedy)]
    return [Check("Data", "reads", State.OK, f"{here.reads_url} reads for other machines, with {there.model_version}")]


def _worker(here: Settings, overview: worklist.Overview) -> Check:
    from engine.jobs import queue
    from engine.services.reading import LOADING, LOST, READY, STOPPED

    start = "Start it: make run, or pediscreen worker"
    jobs = queue.count_unfinished(here.jobs_url)
    waiting = "no training yet" if jobs is None else f"{jobs} trainings unfinished"
    alive = [worker for worker in overview.workers if worker.alive and worker.detail != STOPPED]
    if alive:
        told = "; ".join(f"{worker.name}: {(worker.detail or '').splitlines()[0]}" for worker in alive)
        state = State.OK if all(worker.detail in (READY, LOADING) for worker in alive) else State.NOTE
        return Check("Data", "worker", state, f"{told} ({waiting})", "See above: model in use.")
    if not overview.workers:
        return Check("Data", "worker", State.NOTE, f"none has ever started ({waiting})", start)
    last = max(overview.workers, key=lambda worker: worker.at)
    minutes = (datetime.now(UTC) - last.at).total_seconds() / 60
    said = f". It said: {last.detail}" if (last.detail or "").startswith(LOST) else ""
    return Check("Data", "worker", State.NOTE, f"{last.name} is silent for {minutes:.0f} min ({waiting}){said}", start)
