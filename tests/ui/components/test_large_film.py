"""A 16-bit film of 2048 x 2500 on the review page, at the window that it opens with: what stands on the canvas, what
`pediscreen render` writes and what dcmtk shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from tests.benchmarks.viewer import WIDE, film_on_canvas, large_film, rendered, visible
from tests.engine.imaging.dicom_conformance import run_dcmtk
from tests.workstation import AddCase, write_film


def test_canvas_render_and_dcmtk_are_within_one_grey_level(
    server: str, page: Page, add_case: AddCase, tmp_path: Path
) -> None:
    pixels = large_film(np.random.default_rng(6))
    case = add_case(pixels=pixels, **WIDE)
    file = write_film(tmp_path / "same.dcm", pixels=pixels, **WIDE)
    page.goto(f"{server}/review?study={case.study_id}")
    visible(page)
    shown, seen = film_on_canvas(page)
    assert seen.all() and len(np.unique(shown)) == 256
    written, dcmtk = rendered(file, tmp_path / "rendered.png"), run_dcmtk("dcmj2pnm", file, ["+Wi", "1"])
    for name, first, second in (
        ("canvas, render", shown, written),
        ("canvas, dcmtk", shown, dcmtk),
        ("render, dcmtk", written, dcmtk),
    ):
        apart = np.abs(first.astype(int) - second)
        assert apart.shape == (2500, 2048) and apart.max() <= 1, (name, apart.max())
