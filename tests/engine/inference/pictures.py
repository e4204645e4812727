"""A phantom as the model is shown it, and what the library's modules see in it."""

from PIL import Image

from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.phantoms.phantom import Phantom


def picture(phantom: Phantom) -> Image.Image:
    return model_image(display_pixels(phantom.film()))


def library_tokens(network, pixels):
    """(n, image tokens, hidden) of normalised `pixels`."""
    return network.model.multi_modal_projector(network.model.vision_tower(pixel_values=pixels).last_hidden_state)
