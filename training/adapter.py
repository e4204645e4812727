"""What a LoRA adapter's folder says of itself, checked before anything large is loaded.

OUTPUT_DIR/lora/adapter_config.json, adapter_model.safetensors     as PEFT writes them
               /base.json                                          which weights it was trained on"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from safetensors import SafetensorError

from engine.errors import PediScreenError
from engine.inference.checkpoint import adapted_layers, fingerprint, layers_of_adapter
from engine.settings import PHANTOM_MODEL, PHANTOM_MODEL_DIR, model_dir

CONFIG_FILE, WEIGHTS_FILE, BASE_FILE = "adapter_config.json", "adapter_model.safetensors", "base.json"


class BadAdapter(PediScreenError):
    """An adapter that cannot be used, or not with this base."""


@dataclass(frozen=True)
class Adapter:
    """`modules`: names of the adapted layers, as in the base model. `base_fingerprint` is None where not recorded."""

    folder: Path
    base_model: str
    base_fingerprint: str | None
    modules: frozenset[str]

    @property
    def changes_image_features(self) -> bool:
        return any("vision_tower" in name or "multi_modal_projector" in name for name in self.modules)

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Raises BadAdapter for a folder that is missing, incomplete or not a plain LoRA."""
        if not (folder / CONFIG_FILE).is_file():
            raise BadAdapter(f"{folder} holds no {CONFIG_FILE}: pass the lora/ folder that training wrote.")
        if not (folder / WEIGHTS_FILE).is_file():
            raise BadAdapter(f"{folder} holds no {WEIGHTS_FILE}; other formats of weights are not read.")
        try:
            settings = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            recorded = folder / BASE_FILE
            base = json.loads(recorded.read_text(encoding="utf-8")) if recorded.is_file() else {}
            modules = layers_of_adapter(folder)
        except (OSError, ValueError, SafetensorError) as error:
            raise BadAdapter(f"The adapter in {folder} cannot be read: {error}") from error
        if settings.get("peft_type") != "LORA":
            raise BadAdapter(f"{folder} is a {settings.get('peft_type')} adapter; only LORA can be merged.")
        if settings.get("modules_to_save"):
            copies = ", ".join(settings["modules_to_save"])
            raise BadAdapter(
                f"The adapter in {folder} holds whole copies of {copies} (modules_to_save), which would untie the head "
                "from the embedding. Train without modules_to_save."
            )
        return cls(folder, settings.get("base_model_name_or_path") or "", base.get("fingerprint"), modules)

    def check_base(self, model: str) -> None:
        """Raises BadAdapter if it was trained on another model than `model`, going by fingerprint, else by name."""
        found = base_fingerprint(model)
        if self.base_fingerprint and found:
            same = self.base_fingerprint == found
        else:
            same = not self.base_model or _short_name(self.base_model) == _short_name(model)
        if not same:
            recorded = f" (weights {self.base_fingerprint}, found {found})" if self.base_fingerprint else ""
            raise BadAdapter(
                f"The adapter in {self.folder} was trained on {self.base_model}, not on {model}{recorded}."
            )

    def put_on(self, network) -> PeftModel:
        """`network` with the adapter in place. Raises BadAdapter where shapes or layers do not match."""
        try:
            adapted = PeftModel.from_pretrained(network, self.folder)
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()
            raise BadAdapter(
                f"The adapter in {self.folder} does not fit this base model: {' '.join(first[:2])[:300]}"
            ) from error
        odd = sorted(adapted_layers(adapted) ^ self.modules)
        if odd:
            raise BadAdapter(
                f"The adapter in {self.folder} does not fit this base model: {len(odd)} layers are in one of them "
                f"only, the first {odd[0]}."
            )
        return adapted


def record_base(adapter_folder: Path, model: str) -> None:
    """Notes beside a freshly written adapter which weights it was trained on."""
    record = {"base_model": model, "fingerprint": base_fingerprint(model)}
    (adapter_folder / BASE_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def base_fingerprint(model: str) -> str | None:
    """Of a model in a folder, or of the shipped one; None for a hub name."""
    folder = model_dir(model)
    return fingerprint(folder, "model*.safetensors") if folder.is_dir() else None


def public_name(model: str) -> str:
    """Of a base model, without the folders of this machine."""
    if model == PHANTOM_MODEL or Path(model).resolve() == PHANTOM_MODEL_DIR:
        return PHANTOM_MODEL
    return Path(model).name if Path(model).is_dir() else model


def _short_name(model: str) -> str:
    """The name that a hub model keeps when its files are copied to a folder."""
    return Path(public_name(model)).name.lower()
