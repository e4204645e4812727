"""What a page says, wherever on it that stands."""

from __future__ import annotations

import html
import re

from streamlit.testing.v1 import AppTest


def everything_said(at: AppTest) -> str:
    """All texts of the page in order, without their markup."""
    assert not at.exception, at.exception
    texts = []
    for block in (at.main, at.sidebar):
        for element in _leaves(block):
            proto = getattr(element, "proto", None)
            for name in ("body", "label", "value"):
                text = getattr(proto, name, None)
                if isinstance(text, str):
                    texts.append(html.unescape(re.sub(r"<[^>]+>", " ", text)))
    return re.sub(r"\s+", " ", " ".join(texts))


def _leaves(block):
    for child in block.children.values():
        if getattr(child, "children", None):
            yield child
            yield from _leaves(child)
        else:
            yield child
