"""A phantom as the model is shown it."""

from PIL import Image

from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.phantoms.phantom import Phantom


def picture(phantom: Phantom) -> Image.Image:
    return model_image(display_pixels(phantom.film()))
