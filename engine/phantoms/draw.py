"""The generator of each view: `DRAW[view](seed, site=..., film_scale=...)`."""

from engine.findings.answers import View
from engine.phantoms.fundus import fundus
from engine.phantoms.hand import hand
from engine.phantoms.wrist import wrist

DRAW = {View.HAND: hand, View.FUNDUS: fundus, View.WRIST: wrist}
