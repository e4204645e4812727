"""Reading tags of a data set that nobody has checked: a broken value is None and a remark, never a crash."""

from __future__ import annotations

import math
import re
import struct
from datetime import date
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import Tag

# pydicom converts a value when it is first asked for, and raises any of these on one that breaks its VR.
UNREADABLE = (
    ValueError,  # with it UnicodeError
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    LookupError,
    EOFError,
    OSError,  # a sequence that ends too early
    struct.error,
    RecursionError,
)
MAX_TEXT = 256  # longer values are not what the tag is for


class TagReader:
    """Tolerant access by keyword. `unreadable` collects the tags whose value could not be read."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.unreadable: list[str] = []

    def value(self, keyword: str) -> Any:
        """The value, or None where it is absent, empty or unreadable."""
        try:
            element = self.dataset.get_item(tag_for_keyword(keyword))
            if element is None:
                return None
            value = self.dataset[tag_for_keyword(keyword)].value
        except UNREADABLE:
            self._remark(keyword)
            return None
        return None if value is None or (isinstance(value, str | bytes) and not value.strip()) else value

    def text(self, keyword: str) -> str | None:
        """The first value as text without control characters and outer spaces, at most 256 characters."""
        texts = self.texts(keyword)
        return texts[0] or None if texts else None

    def texts(self, keyword: str) -> list[str]:
        """All values as text; empty where there are none."""
        value = self.value(keyword)
        if value is None:
            return []
        try:
            values = [str(part) for part in _parts(value)]
        except UNREADABLE:
            self._remark(keyword)
            return []
        return [re.sub(r"[\x00-\x1f\x7f]", "", text).strip()[:MAX_TEXT] for text in values]

    def numbers(self, keyword: str) -> list[float] | None:
        """All values as numbers, or None where there are none or one is not a number."""
        value = self.value(keyword)
        if value is None:
            return None
        try:
            return [float(part) for part in _parts(value)]
        except UNREADABLE:
            self._remark(keyword)
            return None

    def number(self, keyword: str) -> float | None:
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        number = self.number(keyword)
        return int(number) if number is not None and math.isfinite(number) else None

    def day(self, keyword: str) -> date | None:
        """A DA value, or the day of a DT; the old form 1993.08.22 is understood too."""
        text = self.text(keyword)
        if text is None:
            return None
        digits = text.replace(".", "") if re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", text) else text
        match = re.match(r"(\d{4})(\d{2})(\d{2})", digits)
        try:
            if match is None:
                raise ValueError
            return date(*(int(part) for part in match.groups()))
        except ValueError:
            self._remark(keyword)
            return None

    def items(self, keyword: str) -> list[Dataset]:
        """The items of a sequence; empty where there is none."""
        value = self.value(keyword)
        if value is None:
            return []
        if isinstance(value, str | bytes) or not all(isinstance(item, Dataset) for item in _parts(value)):
            self._remark(keyword)
            return []
        return list(value)

    def _remark(self, keyword: str) -> None:
        tag = Tag(tag_for_keyword(keyword))
        name = f"({tag.group:04X},{tag.element:04X}) {dictionary_description(tag)}"
        if name not in self.unreadable:
            self.unreadable.append(name)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__") or hasattr(value, "family_name"):
        return [value]
    return list(value)
