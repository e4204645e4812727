"""One process for everything a browser needs: the Streamlit pages, and the API mounted at /api.   python -m ui.serve

Two layers stand in front of both, for pages, API calls and websockets alike: `Guard` decides who is asking, and refuses
what another web site's page may have sent; `SecurityHeaders` tells the browser what our pages may do."""

from __future__ import annotations

import gc
import os

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from streamlit.runtime.pages_manager import PagesManager

from engine.api.app import api
from engine.services.accounts import DEMO_USER_COOKIE, DEMO_USERS
from engine.settings import PROJECT_DIR, settings
from ui.guard import Guard
from ui.security_headers import SecurityHeaders


async def work_as(request: Request) -> Response:
    """The demo's "Work as": choose a user, and start at the worklist with a new session."""
    user = DEMO_USERS.get(request.path_params["username"])
    if user is None or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return JSONResponse({"error": {"code": "not_found", "message": "There is no such demo user."}}, 404)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(DEMO_USER_COOKIE, user.username, httponly=True, samesite="strict")
    return response


# A folder named pages beside the script makes Streamlit run its files on their own, without app.py's frame, until the
# first st.navigation of the process: a link to a case, opened first, would then stay without it.
PagesManager.uses_pages_directory = False


async def to_worklist(request: Request) -> Response:
    """The first page has no address of its own in Streamlit, which answers /worklist with "Page not found"."""
    return RedirectResponse(request.url.replace(path="/"))


app = st.App(
    PROJECT_DIR / "ui" / "app.py",
    routes=[Mount("/api", api), Route("/worklist", to_worklist), Route("/demo/work-as/{username}", work_as)],
    middleware=[Middleware(SecurityHeaders), Middleware(Guard)],
)


def main() -> None:
    """Serve on this machine only, until stopped."""
    os.chdir(PROJECT_DIR)  # Streamlit looks for .streamlit/config.toml in the working folder
    gc.collect()
    gc.freeze()  # what is imported by now stays: looking through it for garbage took 0.2 s, in the midst of a page
    app.run(config={"server.port": settings().port, "server.address": "127.0.0.1"})


if __name__ == "__main__":
    main()
