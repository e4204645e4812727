"""What all charts drawn with Plotly have in common; their colours come from the theme."""

from __future__ import annotations

CONFIG = {"displayModeBar": False, "responsive": True}
GREY = "#8b96a5"
