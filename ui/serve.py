"""One process for everything a browser needs: the Streamlit pages, and the API mounted at /api.   python -m ui.serve

Two layers stand in front of both, for pages, API calls and websockets alike: `Guard` decides who is asking, and refuses
what another web site's page may have sent; `SecurityHeaders` tells the browser what our pages may do."""

from __future__ import annotations

import gc
import os
import sys

import streamlit as st
from sqlalchemy.exc import DBAPIError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from streamlit.runtime.pages_manager import PagesManager

from db.session import session_scope
from engine import faults
from engine.api.app import api
from engine.errors import PediScreenError, Refused
from engine.services import first_run
from engine.services.accounts import DEMO_USER_COOKIE, DEMO_USERS
from engine.settings import PROJECT_DIR, settings
from engine.sign_in_settings import Login, SignInSettings, WrongSetting
from ui.guard import Guard
from ui.security_headers import SecurityHeaders
from ui.sign_in import routes as sign_in


async def work_as(request: Request) -> Response:
    """The demo's "Work as": choose a user, and start at the worklist with a new session."""
    in_demo = settings().sign_in.login is Login.DEMO
    user = DEMO_USERS.get(request.path_params["username"]) if in_demo else None
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
    routes=[
        Mount("/api", api),
        Route("/worklist", to_worklist),
        Route("/demo/work-as/{username}", work_as),
        *sign_in.ROUTES,
    ],
    middleware=[Middleware(SecurityHeaders), Middleware(Guard)],
    exception_handlers={Refused: sign_in.refused},
)


def refuse_demo_over_accounts(here: SignInSettings) -> None:
    """People's accounts are there to keep others out; a forgotten setting must not let everybody in."""
    with session_scope(settings().database_url) as session:
        if here.login is Login.DEMO and first_run.people_have_accounts(session):
            raise WrongSetting(
                "This database has accounts of people, and the demo would let everybody in. Set PEDISCREEN_LOGIN=local "
                "(or oidc), or another PEDISCREEN_DATA_DIR for the demo."
            )


def main() -> None:
    """Serve until stopped: on this machine only, where the settings name no other address."""
    here = settings().sign_in
    refuse_demo_over_accounts(here)
    os.environ["FORWARDED_ALLOW_IPS"] = here.proxies  # uvicorn believes X-Forwarded-For of these alone
    os.chdir(PROJECT_DIR)  # Streamlit looks for .streamlit/config.toml in the working folder
    gc.collect()
    gc.freeze()  # what is imported by now stays: looking through it for garbage took 0.2 s, in the midst of a page
    app.run(config={"server.port": settings().port, "server.address": here.host})


if __name__ == "__main__":
    try:
        main()
    except PediScreenError as error:
        sys.exit(str(error))
    except DBAPIError as error:
        sys.exit(faults.in_words(error) or str(error.orig))
