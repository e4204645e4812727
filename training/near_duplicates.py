"""Which images are the same picture again: saved as another file type, at another size, window or inversion.

Two looks, each cheap where it is used. Every picture has 256 bits, the signs of its low cosine frequencies: they stay
when contrast, brightness, size or compression change, and all turn over when the grey scale is inverted. Pairs that
are near by these bits are compared again by their fine detail at the same place, which two radiographs of the same
pose do not share. A copy that was cropped, turned or mirrored is not found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import cv2
import numpy as np

HASH_SIDE_PX = 64
FREQUENCIES = 16  # in each direction: 16 x 16 signs
BITS = FREQUENCIES * FREQUENCIES
BLOCK = 2048  # hashes compared at once, against all that follow

# Measured by tests/benchmarks/near_duplicates.py on phantoms of both sites and copies of them (JPEG down to quality 20,
# sizes from a quarter to one and a half, negative, brighter, gamma 0.6 and 1.6, windows wider, narrower and shifted).
MAX_DISTANCE = 32  # bits
MIN_DETAIL = 0.72  # correlation

DETAIL_SIDE_PX = 128
DETAIL_SIGMA_PX = 2.0


def perceptual_hash(display: np.ndarray) -> str:
    """64 hexadecimal digits. `display`: (side, side) or (side, side, 3) uint8, padded as `model_image` does."""
    low = cv2.dct(_small(display, HASH_SIDE_PX))[1 : FREQUENCIES + 1, 1 : FREQUENCIES + 1]
    return np.packbits(low > 0).tobytes().hex()


def distance(one: str, other: str) -> int:
    """Bits in which two hashes differ, 0 ... 128: from the picture or from its negative, whichever is nearer."""
    bits = (int(one, 16) ^ int(other, 16)).bit_count()
    return min(bits, BITS - bits)


def detail(display: np.ndarray) -> np.ndarray:
    """(DETAIL_SIDE_PX ** 2,) float32 of length 1: edges and texture, with local contrast made equal."""
    small = _small(display, DETAIL_SIDE_PX)
    fine = small - cv2.GaussianBlur(small, (0, 0), DETAIL_SIGMA_PX)
    fine /= np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 2 * DETAIL_SIGMA_PX)) + 2.0  # grey levels: noise stays small
    fine -= fine.mean()
    return (fine / max(float(np.linalg.norm(fine)), 1e-6)).ravel()


def same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    """Of two `detail` vectors."""
    return abs(float(one @ other)) >= MIN_DETAIL


def near_duplicates(
    hashes: Sequence[str], picture: Callable[[int], np.ndarray], progress: Callable[[int], object] = lambda n: None
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of one picture. `picture(i)` gives the display image, asked for near pairs only;
    `progress` hears of every hash compared with all others."""
    pairs = []
    for first, near in groupby(near_by_hash(hashes, progress), key=lambda pair: pair[0]):
        mine = detail(picture(first))
        pairs += [(first, other) for _, other in near if same_picture(mine, detail(picture(other)))]
    return pairs


def near_by_hash(
    hashes: Sequence[str], progress: Callable[[int], object] = lambda n: None
) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, at most MAX_DISTANCE apart, in order. Compares all pairs: 20,000 images take seconds."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), BITS // 64)
    for start in range(0, len(packed), BLOCK):
        block = packed[start : start + BLOCK]
        bits = np.zeros((len(block), len(packed) - start), np.uint16)
        for word in range(packed.shape[1]):
            bits += np.bitwise_count(block[:, word, None] ^ packed[None, start:, word])
        rows, cols = np.nonzero((bits <= MAX_DISTANCE) | (bits >= BITS - MAX_DISTANCE))
        later = cols > rows
        yield from zip((start + rows[later]).tolist(), (start + cols[later]).tolist(), strict=True)
        progress(len(block))


def _small(display: np.ndarray, side: int) -> np.ndarray:
    grey = cv2.cvtColor(display, cv2.COLOR_RGB2GRAY) if display.ndim == 3 else display
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
