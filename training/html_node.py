"""HTML and SVG as elements, so that every text and attribute is escaped."""

from __future__ import annotations

from xml.etree import ElementTree

Node = ElementTree.Element


def node(tag: str, *children: Node | str | None, **attributes: object) -> Node:
    """`class_` and `for_` give class and for; other underscores become hyphens. None is left out."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    found = Node(tag, {names[name]: str(value) for name, value in attributes.items() if value is not None})
    for child in children:
        if isinstance(child, str):
            add_text(found, child)
        elif child is not None:
            found.append(child)
    return found


def add_text(parent: Node, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def as_text(root: Node) -> str:
    return ElementTree.tostring(root, encoding="unicode", method="html")
