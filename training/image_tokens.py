"""Image tokens computed once: the vision tower is frozen, so an image always gives the same ones.

With --train_vision it is not: then images are kept as the tower takes them (`LiveTokens`) and go through it every time.

Each training image is kept as it is and in augmented views (turned, shifted, scaled, brighter or darker, mirrored),
drawn from the image's own hash: the same image gives the same views in every run. Tokens lie in
CACHE_DIR/<model>/<image sha256>-<views>.safetensors, and a later run finds them there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from engine.errors import FileRefused, PediScreenError
from engine.imaging.load import MAX_PROCESSES
from engine.imaging.preprocess import model_image_of
from engine.inference.reader import IMAGES_AT_ONCE, Reader

VIEWS_VERSION = 1  # counts changes to `augmented`, which would leave wrong tokens in old caches


class UnreadableImages(PediScreenError):
    """Images of the data set that cannot be decoded; the message names the first."""


def augmented(image: Image.Image, sha256: str, view: int) -> Image.Image:
    """View 0 is the image; the others are what the same film could have looked like."""
    if view == 0:
        return image
    rng = np.random.default_rng([int(sha256[:12], 16), view])
    pixels = np.asarray(image)
    side = pixels.shape[0]
    place = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-8, 8), rng.uniform(0.94, 1.06))
    place[:, 2] += rng.uniform(-0.03, 0.03, 2) * side
    pixels = cv2.warpAffine(pixels, place, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    gamma, gain = rng.uniform(0.9, 1.1), rng.uniform(0.92, 1.08)
    table = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255).astype(np.uint8)
    return Image.fromarray(table[pixels])


def cache_key(reader: Reader) -> str:
    name = f"{reader.model_version} {_side(reader)} views {VIEWS_VERSION} {reader.network.dtype}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def bytes_needed(reader: Reader, images: int, views: int, *, live: bool = False) -> int:
    config = reader.network.config
    if live:
        return images * _side(reader) ** 2 * 3
    return images * views * config.mm_tokens_per_image * config.text_config.hidden_size * reader.network.dtype.itemsize


class ImageTokens:
    """Tokens by image index and place among its views, in memory where `in_memory`, else read from the cache as they
    are asked for."""

    def __init__(self, files: list[Path], in_memory: bool) -> None:
        self.files, self.in_memory = files, in_memory
        self._kept: dict[int, torch.Tensor] = {}

    def __getitem__(self, place: tuple[int, int]) -> torch.Tensor:
        image, view = place
        if image not in self._kept:
            tokens = load_file(self.files[image])["tokens"]
            if not self.in_memory:
                return tokens[view]
            self._kept[image] = tokens
        return self._kept[image][view]

    def stack(self, images: Sequence[int], views: Sequence[int], device: torch.device) -> torch.Tensor:
        """(n, image tokens, hidden)"""
        return torch.stack([self[i, v] for i, v in zip(images, views, strict=True)]).to(device)


def compute(
    reader: Reader,
    paths: Sequence[Path],
    views: Sequence[Sequence[int]],
    cache_dir: Path,
    *,
    in_memory: bool = True,
    progress: Callable[[int], None] = lambda n: None,
    share: tuple[int, int] = (0, 1),
) -> ImageTokens:
    """`views`: which of each image. `share` = (rank, processes): this process computes every processes-th image.

    Raises UnreadableImages after trying all of them, so that one run names all."""
    folder = cache_dir / cache_key(reader)
    folder.mkdir(parents=True, exist_ok=True)
    hashes = _hashes(paths)
    files = [folder / f"{sha}-{'-'.join(map(str, v))}.safetensors" for sha, v in zip(hashes, views, strict=True)]

    def keep(index: int, image: Image.Image, unfinished: Path) -> None:
        shown = [augmented(image, hashes[index], v) for v in views[index]]
        parts = [reader.image_tokens(shown[k : k + IMAGES_AT_ONCE]) for k in range(0, len(shown), IMAGES_AT_ONCE)]
        save_file({"tokens": torch.cat(parts).cpu().contiguous()}, unfinished)

    _make(files, paths, keep, progress, share)
    return ImageTokens(files, in_memory)


class LiveTokens:
    """Tokens by image index and view, from the tower as it is now, with gradients unless switched off."""

    def __init__(self, reader: Reader, files: list[Path], hashes: list[str]) -> None:
        self.reader, self.files, self.hashes = reader, files, hashes

    def stack(self, images: Sequence[int], views: Sequence[int], device: torch.device) -> torch.Tensor:
        """(n, image tokens, hidden)"""
        shown = [
            augmented(Image.fromarray(np.load(self.files[i])), self.hashes[i], v)
            for i, v in zip(images, views, strict=True)
        ]
        return self.reader.image_tokens(shown).to(device)


def keep_pixels(
    reader: Reader,
    paths: Sequence[Path],
    cache_dir: Path,
    *,
    progress: Callable[[int], None] = lambda n: None,
    share: tuple[int, int] = (0, 1),
) -> LiveTokens:
    """Each image in the size that the tower takes, in CACHE_DIR/pixels-<side>/<image sha256>.npy.

    Raises UnreadableImages after trying all of them, so that one run names all."""
    side = _side(reader)
    folder = cache_dir / f"pixels-{side}"
    folder.mkdir(parents=True, exist_ok=True)
    hashes = _hashes(paths)
    files = [folder / f"{sha}.npy" for sha in hashes]

    def keep(index: int, image: Image.Image, unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            np.save(file, np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)), allow_pickle=False)

    _make(files, paths, keep, progress, share)
    return LiveTokens(reader, files, hashes)


def _make(files: Sequence[Path], paths: Sequence[Path], keep, progress, share: tuple[int, int]) -> None:
    """Calls keep(index, image, unfinished file) for each missing file of this process's share, then names the file.
    As many images at once as torch has threads, each with one thread: nothing waits for the one that is decoded.

    Raises UnreadableImages after trying all of them, so that one run names all."""
    todo = [i for i, file in enumerate(files) if not file.is_file() and i % share[1] == share[0]]
    progress(len(files) - len(todo))
    refused: list[str] = []

    @torch.inference_mode()
    def make(index: int) -> str | None:
        try:
            image = model_image_of(paths[index])
        except FileRefused as error:
            return f"{paths[index]}: {error}"
        if not refused:
            unfinished = files[index].with_suffix(f".{index}.part")
            keep(index, image, unfinished)
            unfinished.replace(files[index])
        return None

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(min(threads, MAX_PROCESSES))
    try:
        for refusal in pool.map(make, todo):
            if refusal:
                refused.append(refusal)
            progress(1)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
    if refused:
        raise UnreadableImages(f"{len(refused)} images cannot be read; the first: {refused[0]}")


def _hashes(paths: Sequence[Path]) -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda p: hashlib.sha256(p.read_bytes()).hexdigest(), paths))


def _side(reader: Reader) -> int:
    return reader.processor.image_processor.size["height"]
