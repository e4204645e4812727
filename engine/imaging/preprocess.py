"""What the model is shown: one function for reading and for training, so that both see the same image."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from engine.imaging.display import display_pixels
from engine.imaging.film import Film
from engine.imaging.load import MAX_PROCESSES, load_film

# how PIL is to save a film: of its noise smaller than at level 3 with the default strategy, and in half the time
FILM_PNG = {"compress_level": 1, "compress_type": zlib.Z_RLE}


def model_image(display: np.ndarray) -> Image.Image:
    """The display image, padded to a square so that the model's resize keeps proportions.

    `display`: (rows, cols) or (rows, cols, 3) uint8, bright bone on dark ground, as the viewer shows it at the
    default window. Padding is black and centred. Returns RGB."""
    rows, cols = display.shape[:2]
    side = max(rows, cols)
    top, left = (side - rows) // 2, (side - cols) // 2
    square = np.zeros((side, side, *display.shape[2:]), np.uint8)
    square[top : top + rows, left : left + cols] = display
    return Image.fromarray(square).convert("RGB")


def model_pixels(images: Sequence[Image.Image], image_processor: Callable) -> np.ndarray:
    """(n, 3, side, side) uint8, as large as the vision tower of the model with this image processor takes them.
    `images` come from `model_image`."""
    shown = image_processor(list(images), do_rescale=False, do_normalize=False, return_tensors="np")
    return np.asarray(shown["pixel_values"]).astype(np.uint8)


def model_image_of(path: Path) -> Image.Image:
    """Of a film in a file, whatever its format. Raises FileRefused."""
    return model_image(display_pixels(load_film(path)))


def model_images_of(paths: Sequence[Path]) -> Iterator[Image.Image]:
    """In order, a few of them decoded ahead. Raises FileRefused at the first that cannot be read."""
    with ThreadPoolExecutor(MAX_PROCESSES) as pool:
        ahead: deque = deque()
        for path in paths:
            ahead.append(pool.submit(model_image_of, path))
            if len(ahead) > 2 * MAX_PROCESSES:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def stored_model_image(film: Film) -> Image.Image:
    """What the model is shown before its resize, as data sets keep it: 8-bit grey, or RGB for a colour film.

    Reading a file of it gives the model the same image again."""
    image = model_image(display_pixels(film))
    return image if film.is_colour else image.convert("L")
