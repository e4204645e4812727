"""The GPU: why it cannot be used, and how to tell that it is full, or gone."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from engine.errors import ReaderLost, ReaderUnavailable

DEVICE = Path("/dev/nvidiactl")  # there while the driver is, whatever has become of the card
FULL = ("out of memory", "ALLOC_FAILED")
GONE = ("CUDA error", "CUDA driver error", "CUDNN_STATUS", "CUBLAS_STATUS", "device-side assert", "device lost")
GONE += ("unspecified launch failure", "GPU is lost")
REMEDY = (
    "Run nvidia-smi; update the driver, or install the torch that fits it. To read on the processor instead, set "
    "CUDA_VISIBLE_DEVICES= (empty)."
)


def trouble() -> str | None:
    """Why this machine's GPU cannot be used; None where it can, where there is none, and where it was hidden."""
    if torch.cuda.is_available() or not DEVICE.exists() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        return str(error).split("\n")[0].rstrip(".")
    return "torch does not find it"


def meaning(error: RuntimeError) -> Exception:
    """What the network's error means for whoever wanted a read; others than the GPU's mean what they say."""
    if is_full(error):
        return ReaderUnavailable(f"The GPU's memory does not take one image: {error}")
    if is_gone(error):
        return ReaderLost(f"The GPU does not work any more: {str(error).splitlines()[0]}")
    return RuntimeError(str(error))


def is_full(error: RuntimeError) -> bool:
    """Whether less at once, or later, may succeed."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in FULL)


def is_gone(error: RuntimeError) -> bool:
    """Whether every further use of the GPU by this process will fail as well."""
    return isinstance(error, torch.AcceleratorError) or any(sign in str(error) for sign in GONE)
