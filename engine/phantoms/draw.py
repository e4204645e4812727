"""The generator of each view: `DRAW[view](seed, site=..., film_scale=...)`."""

from engine.findings.answers import View
from engine.phantoms.fundus import fundus
from engine.phantoms.hand import hand
from engine.phantoms.wrist import wrist

DRAW = {View.HAND: hand, View.FUNDUS: fundus, View.WRIST: wrist}
RADIOGRAPHS = (View.HAND, View.WRIST)


def training_site(view: View, seed: int) -> str:
    """Three radiographs in ten that the phantom model and its gate are made from vary in look, so that the tower learns
    to see what the answers do not depend on."""
    return "V" if view in RADIOGRAPHS and seed % 10 in (2, 5, 8) else "A"
