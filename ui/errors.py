"""The one place where errors raised on purpose become words on the screen.

ui/app.py wraps every page in it. A fragment reruns without its page, so fragments wear it too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import streamlit as st
from sqlalchemy.exc import OperationalError, ProgrammingError

from engine import faults
from engine.errors import Conflict, Damaged, ModelUnavailable, NotAllowed, NotFound, PediScreenError, Refused
from engine.services import audit
from engine.services.sessions import SignedOut
from ui import state, words

NEXT_STEP = {
    SignedOut: f"[Sign in]({state.SIGN_IN}) to go on.",
    NotAllowed: "Ask an administrator.",
    NotFound: "It may have been removed; go back to the worklist.",
    Conflict: "Look at what changed, then decide again.",
    ModelUnavailable: "`pediscreen doctor` says what this machine lacks.",
    Damaged: "Tell whoever runs this workstation; the log says the same.",
    Refused: "Correct it and try again.",
}


DATABASE = (OperationalError, ProgrammingError)
log = logging.getLogger(__name__)


@contextmanager
def shown() -> Iterator[None]:
    """`with errors.shown():` or, on a fragment, `@errors.shown()`. Begins with what a callback left (`in_callback`)."""
    left = state.take_error()
    if left is not None:
        _say(left)
    try:
        yield
    except (PediScreenError, OSError, *DATABASE) as error:
        _say(error)


@contextmanager
def in_callback() -> Iterator[None]:
    """On a callback, `@errors.in_callback()`: what it draws itself would take the place of the page's first element."""
    try:
        yield
    except (PediScreenError, OSError, *DATABASE) as error:
        state.keep_error(error)


def _say(error: Exception) -> None:
    fault = faults.in_words(error)
    if fault is not None:
        log.error("%s: %s", type(error).__name__, fault)
        st.error(fault)
    elif isinstance(error, DATABASE):
        log.error("the database failed: %s", type(error.orig).__name__)
        st.error("The database does not answer, or has no tables yet. Run `pediscreen db upgrade`, then reload.")
    elif isinstance(error, OSError):
        raise error
    else:
        if isinstance(error, NotAllowed):
            audit.record_refusal(state.current_user(), error, urlsplit(st.context.url or "").path or "/")
        st.error(f"{words.sentence(str(error))}\n\n{next_step(error)}".strip())


def next_step(error: Exception) -> str:
    return next((step for kind, step in NEXT_STEP.items() if isinstance(error, kind)), "")
