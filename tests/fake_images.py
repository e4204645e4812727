"""For readers without a network: what stands for an image's pixels is its size."""

import numpy as np

SMALLEST_SIDE = 256


def image_processor(images, **how):
    """One value an image, in place of (3, side, side) of them: its width beyond the smallest."""
    beyond = [image.width - SMALLEST_SIDE for image in images]
    assert all(image.mode == "RGB" and image.width == image.height for image in images)
    return {"pixel_values": np.tile(np.array(beyond).reshape(-1, 1, 1, 1), (1, 3, 1, 1))}


def sides_of(pixels) -> list[int]:
    return [SMALLEST_SIDE + int(image[0, 0, 0]) for image in pixels]
