"""The model a worker reads with: it follows the registry's pointer without losing a read.

The new model is loaded beside the running one, in a thread; then one reference changes, between two batches. What is
being read ends with the model it began with. The model that was replaced stays in memory, so that a rollback takes no
loading. A folder that is missing, or is not what was registered, is refused: reading goes on with the model at hand,
and the heartbeat says so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from db.session import session_scope
from engine.errors import ModelUnavailable
from engine.inference import model_folder, remote
from engine.services import registry
from engine.services.accounts import service_actor
from engine.services.registry import Deployed
from engine.settings import PHANTOM_MODEL, is_elsewhere, settings

if TYPE_CHECKING:
    from engine.inference.checkpoint import Reader
    from engine.inference.gguf import GgufReader

log = logging.getLogger(__name__)

RETRY_S = 60.0  # after a model could not be loaded; at once when another is put in use

ACTOR = service_actor("worker")

LoadReader = Callable[[Deployed | None], "Reader"]
Key = tuple[int, str]  # the version and the hash of its folder
CONFIGURED: Key = (0, "")  # the model that PEDISCREEN_MODEL names


def load_reader(deployed: Deployed | None) -> Reader:
    """The model of the registry, after its folder was checked, or the one that PEDISCREEN_MODEL names, be it on another
    machine. Raises ModelUnavailable, ReaderLost."""
    here = settings()
    if deployed is None and is_elsewhere(here.model):
        if here.lora_adapter_path is not None:
            raise ModelUnavailable(f"LORA_ADAPTER_PATH cannot change the model of {here.model}. Unset it here.")
        return remote.RemoteReader(here.model, here.reads_token)
    try:
        from engine.inference import checkpoint
    except (ImportError, OSError) as missing:  # OSError: a library of theirs that this machine cannot load
        raise ModelUnavailable(f"What reads cannot be loaded: {missing}. Install again: make run") from missing

    if deployed is None and model_folder.is_gguf(Path(here.model)):
        return _through_llama_cpp(Path(here.model))
    if deployed is None:
        return checkpoint.load_reader(here.model, here.lora_adapter_path)
    model_folder.verify(deployed.folder, deployed.folder_sha256)
    reader = checkpoint.load_reader(str(deployed.folder), None)
    if reader.model_version != deployed.name:  # its reads would be recorded as another model's
        raise ModelUnavailable(f"The model in {deployed.folder.name} calls itself {reader.model_version}.")
    return reader


def _through_llama_cpp(folder: Path) -> GgufReader:
    from engine.inference.gguf import GgufReader

    if model_folder.ReadingCard.of(folder, folder.name).is_phantom:
        raise ModelUnavailable(
            f"{folder} holds the phantom model for llama.cpp, where it has no gate and would read real films. Use "
            f"PEDISCREEN_MODEL={PHANTOM_MODEL}."
        )
    if settings().lora_adapter_path is not None:
        raise ModelUnavailable(
            "llama.cpp takes no LORA_ADAPTER_PATH: merge the adapter before the export, and unset it."
        )
    try:
        reader = GgufReader(folder)
        reader.check_tokens()
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"The model in {folder} cannot be read through llama.cpp: {error}") from error
    return reader


def key_of(deployed: Deployed | None) -> Key:
    return CONFIGURED if deployed is None else (deployed.model_version_id, deployed.folder_sha256)


class Loaded:
    """The models in this worker's memory. Threads share it; each model is loaded once."""

    def __init__(self, load: LoadReader) -> None:
        self._load = load
        self._readers: dict[Key, Reader] = {}
        self._one_at_a_time = threading.Lock()

    def get(self, deployed: Deployed | None) -> Reader | None:
        return self._readers.get(key_of(deployed))

    def load(self, deployed: Deployed | None) -> Reader:
        """From memory where it is there. Raises ModelUnavailable."""
        with self._one_at_a_time:
            key = key_of(deployed)
            if key not in self._readers:
                self._readers[key] = self._load(deployed)
            return self._readers[key]

    def forget(self, *, all_but: set[Key | None]) -> None:
        for key in set(self._readers) - all_but:
            self._readers.pop(key, None)


class ModelInUse:
    """`reader` is what the next batch begins with. `follow` is called on every tick, by one thread."""

    def __init__(self, database_url: str, loaded: Loaded, *, on_change: Callable[[], None]) -> None:
        self.database_url = database_url
        self.loaded = loaded
        self.on_change = on_change
        self.trouble: str | None = None  # a sentence, while what is in use is not what reads
        self.key: Key | None = None
        self.previous_key: Key | None = None
        self._reader: Reader | None = None
        self._noted: str | None = None  # the version that was last recorded as loaded
        self._failed: tuple[Key, float] | None = None
        self._loading: tuple[Key, threading.Thread] | None = None

    @property
    def version(self) -> str | None:
        return self._reader.model_version if self._reader else None

    @property
    def loading_key(self) -> Key | None:
        return self._loading[0] if self._loading else None

    @property
    def reader(self) -> Reader:
        assert self._reader is not None, "load_first comes first"
        return self._reader

    def load_first(self) -> None:
        """In this thread. Raises ModelUnavailable; there is no other model to read on with."""
        deployed = self._wanted()
        try:
            reader = self.loaded.load(deployed)
        except ModelUnavailable as refused:
            self._note_failure(deployed, str(refused))
            raise
        self._use(deployed, reader)

    def may_try_again(self) -> bool:
        """After `load_first` failed: another model was put in use, or enough time has passed."""
        try:
            return self._may_be_tried(key_of(self._wanted()))
        except (ModelUnavailable, SQLAlchemyError):
            return False

    def follow(self) -> None:
        """Changes to the model in use when it is in memory, and has it loaded when it is not."""
        try:
            deployed = self._wanted()
        except ModelUnavailable as refused:
            self._say(f"{refused} Reading goes on with {self.reader.model_version}.")
            return
        key = key_of(deployed)
        if key == self.key:
            self._say(None)
            self._note_version(deployed)
        elif (reader := self.loaded.get(deployed)) is not None:
            self._use(deployed, reader)
        elif self._may_be_tried(key) and not (self._loading and self._loading[1].is_alive()):
            self._say(f"The worker is loading {_name(deployed)}; {self.reader.model_version} reads meanwhile.")
            thread = threading.Thread(target=self._load_aside, args=(deployed,), name="load model", daemon=True)
            self._loading = (key, thread)
            thread.start()

    def prepare_way_back(self) -> None:
        """Loads the model that a rollback would bring back, as a worker that has just started does not hold it. In a
        thread of its own, whose outermost line this is: where it fails, a rollback loads the model, or says why not."""
        try:
            with session_scope(self.database_url) as session:
                ways = registry.ways_back(session, ACTOR)
            for deployed in ways:
                if self.previous_key is None:
                    self.previous_key = key_of(deployed)
                    self.loaded.load(deployed)
        except Exception:
            log.exception("the model that a rollback would bring back is not in memory")

    def _load_aside(self, deployed: Deployed | None) -> None:
        """The outermost line of a load: whatever fails ends here, and the model at hand reads on."""
        try:
            self.loaded.load(deployed)
        except Exception as error:
            log.exception("%s cannot be loaded", _name(deployed))
            reason = str(error) if isinstance(error, ModelUnavailable) else f"{type(error).__name__}: {error}"
            self._note_failure(deployed, reason)
            self._say(f"{_name(deployed)} cannot be used. {reason} Reading goes on with {self.reader.model_version}.")

    def _note_failure(self, deployed: Deployed | None, reason: str) -> None:
        """In the audit once, however often it is tried again."""
        is_new = self._failed is None or self._failed[0] != key_of(deployed)
        self._failed = (key_of(deployed), time.monotonic())
        if is_new:
            with session_scope(self.database_url) as session:
                registry.record_refusal(session, ACTOR, deployed, reason)

    def _use(self, deployed: Deployed | None, reader: Reader) -> None:
        if self._reader is not None:
            self.previous_key = self.key
        self._reader, self.key, self._failed, self.trouble = reader, key_of(deployed), None, None
        self._noted = None
        self._note_version(deployed)

    def _note_version(self, deployed: Deployed | None) -> None:
        """Which model reads; one on another machine may become another without being loaded here."""
        version = self.reader.model_version
        if version == self._noted:
            return
        if deployed is None:
            with session_scope(self.database_url) as session:
                registry.record_loaded(session, ACTOR, version, is_phantom=self.reader.is_phantom)
        self._noted = version
        log.info("reads are made with %s from here on", version)
        self.on_change()

    def _wanted(self) -> Deployed | None:
        with session_scope(self.database_url) as session:
            return registry.in_use(session, ACTOR)

    def _may_be_tried(self, key: Key) -> bool:
        if self._failed is None or self._failed[0] != key:
            return True
        return time.monotonic() - self._failed[1] > RETRY_S

    def _say(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self.on_change()


def _name(deployed: Deployed | None) -> str:
    return deployed.name if deployed else "the configured model"
