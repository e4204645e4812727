"""What this machine still lacks to run a model that is not shipped: the text behind ModelUnavailable and `doctor`.

MedGemma's weights lie behind Google's Health AI Developer Foundations terms, so a person has to accept them with an
account of their own before a token of that account can download anything."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.settings import PHANTOM_MODEL

MEDGEMMA = "google/medgemma-4b-it"
TERMS_NAME = "Health AI Developer Foundations terms"
TERMS_PAGE = "https://developers.google.com/health-ai-developer-foundations/terms"
TOKEN_PAGE = "https://huggingface.co/settings/tokens"

# MedGemma-4B: 4.3 B parameters, 8.6 GB in bf16; in NF4 3.0 GB once loaded, and 2 GB for activations and the
# allocator. On a CPU everything that is not quantised stays in float32 (the embedding alone 2.7 GB).
DOWNLOAD_GB = 8.6
GPU_MEMORY_GB = 5.0
CPU_MEMORY_GB = 8.0


@dataclass(frozen=True)
class Requirement:
    """One thing a model needs. `met` is None where it could not be found out (no network)."""

    name: str
    met: bool | None
    found: str
    remedy: str

    @property
    def line(self) -> str:
        mark = {True: "ok     ", False: "missing", None: "unknown"}[self.met]
        return f"{mark}  {self.name}: {self.found}" + ("" if self.met else f"\n         {self.remedy}")


def is_hub_name(model: str) -> bool:
    """Whether `model` is a name on the hub rather than the shipped phantom model or a folder."""
    return model != PHANTOM_MODEL and not Path(model).exists() and model.count("/") == 1


def requirements(model: str = MEDGEMMA, *, ask_the_hub: bool = True, timeout_s: float = 3.0) -> list[Requirement]:
    """Everything `model` (a hub name) needs on this machine, in the order in which to mend it.

    Asks the hub at most twice, each time for at most `timeout_s`; without an answer the licence stays "unknown"."""
    cached = _weights_in_cache(model)
    reachable = _hub_answers(timeout_s) if ask_the_hub else None
    return [
        _licence(model, cached, reachable is True),
        _token(),
        _weights(model, cached),
        _hub(reachable, cached),
        _memory(),
    ]


def explanation(model: str, needs: list[Requirement] | None = None, *, cause: str | None = None) -> str:
    """The whole message of a ModelUnavailable: what is missing for `model`, line by line, and the way back."""
    needs = requirements(model) if needs is None else needs
    head = f"The model {model} cannot be loaded on this machine" + (f" ({cause})." if cause else ".")
    return "\n".join(
        [
            head,
            *(need.line for need in needs),
            f"Or set PEDISCREEN_MODEL to a folder that holds the weights, or to {PHANTOM_MODEL!r} for the model that is"
            " shipped (synthetic images only, not for diagnostic use).",
        ]
    )


def _licence(model: str, cached: bool, hub_answers: bool) -> Requirement:
    remedy = f"Sign in at https://huggingface.co/{model} and accept the terms there ({TERMS_NAME}, {TERMS_PAGE})."
    if cached:
        return Requirement("licence", True, "the weights are already here", remedy)
    if not hub_answers or _find_token() is None:
        return Requirement("licence", None, "cannot be asked without the hub and a token", remedy)
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().auth_check(model)
    except HfHubHTTPError as error:
        return Requirement("licence", False, f"the hub refuses this token ({type(error).__name__})", remedy)
    except (httpx2.HTTPError, OSError) as error:
        return Requirement("licence", None, f"the hub did not answer ({type(error).__name__})", remedy)
    return Requirement("licence", True, "accepted", remedy)


def _find_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _token() -> Requirement:
    source = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the token file of hf auth login"
    remedy = f"Make a read token at {TOKEN_PAGE} and set it as HF_TOKEN, or run: hf auth login"
    found = _find_token() is not None
    return Requirement("token", found, f"from {source}" if found else "none", remedy)


def _weights_in_cache(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json")
    return isinstance(config, str) and any(Path(config).parent.glob("*.safetensors"))


def _weights(model: str, cached: bool) -> Requirement:
    from huggingface_hub.constants import HF_HUB_CACHE

    if cached:
        return Requirement("weights", True, f"in {HF_HUB_CACHE}", "")
    folder = Path(HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    remedy = f"The first start downloads about {DOWNLOAD_GB} GB"
    remedy += "." if free_gb > DOWNLOAD_GB else f", and {folder} has only {free_gb:.1f} GB left: set HF_HOME elsewhere."
    return Requirement("weights", False, f"{model} is not in {HF_HUB_CACHE}", remedy)


def _hub_answers(timeout_s: float) -> bool:
    from huggingface_hub.constants import ENDPOINT

    if os.environ.get("HF_HUB_OFFLINE", "") in {"1", "true", "TRUE", "yes"}:
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=timeout_s):
            return True
    except urllib.error.HTTPError:
        return True  # it answers, whatever it says
    except (OSError, ValueError):
        return False


def _hub(reachable: bool | None, cached: bool) -> Requirement:
    remedy = "The download needs a network (or a proxy in HTTPS_PROXY); a folder with the weights needs none."
    if cached and not reachable:
        return Requirement("hub", True, "not needed, the weights are here", remedy)
    found = {True: "answers", False: "does not answer", None: "not asked"}[reachable]
    return Requirement("hub", reachable, found, remedy)


def _memory() -> Requirement:
    import torch

    if torch.cuda.is_available():
        free_gb = torch.cuda.mem_get_info()[0] / 1e9
        need_gb, where = GPU_MEMORY_GB, "of GPU memory"
    else:
        free_gb = psutil.virtual_memory().available / 1e9
        need_gb, where = CPU_MEMORY_GB, "of memory (no GPU: many seconds a read)"
    found = f"{free_gb:.1f} GB free {where}; in NF4 the model takes about 3 GB, {need_gb:.0f} GB with a margin"
    return Requirement("memory", free_gb >= need_gb, found, "Free some memory, or use a larger machine.")
