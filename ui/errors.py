"""The one place where errors raised on purpose become words on the screen.

ui/app.py wraps every page in it. A fragment reruns without its page, so fragments wear it too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from sqlalchemy.exc import OperationalError, ProgrammingError

from engine.errors import Conflict, ModelUnavailable, NotAllowed, NotFound, PediScreenError, Refused
from ui import words

NEXT_STEP = {
    NotAllowed: "Ask an administrator, or switch the user at the top right.",
    NotFound: "It may have been removed; go back to the worklist.",
    Conflict: "Look at what changed, then decide again.",
    ModelUnavailable: "`pediscreen doctor` says what this machine lacks.",
    Refused: "Correct it and try again.",
}


@contextmanager
def shown() -> Iterator[None]:
    """`with errors.shown():` or, on a fragment, `@errors.shown()`."""
    try:
        yield
    except PediScreenError as error:
        st.error(f"{words.sentence(str(error))}\n\n{next_step(error)}".strip())
    except (OperationalError, ProgrammingError):
        st.error("The database does not answer, or has no tables yet. Run `pediscreen db upgrade`, then reload.")


def next_step(error: PediScreenError) -> str:
    return next((step for kind, step in NEXT_STEP.items() if isinstance(error, kind)), "")
