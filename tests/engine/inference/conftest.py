"""The shipped model in full precision, and what it is shown of two hands."""

import pytest
import torch
from transformers import AutoProcessor, Gemma3ForConditionalGeneration

from engine.phantoms.hand import hand
from engine.settings import PHANTOM_MODEL_DIR
from tests.engine.inference.pictures import picture


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(PHANTOM_MODEL_DIR, backend="pil")


@pytest.fixture(scope="module")
def network():
    return Gemma3ForConditionalGeneration.from_pretrained(PHANTOM_MODEL_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def pixels(processor):
    return processor.image_processor([picture(hand(77)), picture(hand(78))], return_tensors="pt")["pixel_values"]
