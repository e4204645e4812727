"""The routes of signing in: the pages, their forms, and what the page of the workstation asks about its session."""

from __future__ import annotations

import math
from html import escape

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from engine.errors import PediScreenError, Refused
from engine.services import first_run, sessions, sign_in
from engine.services.lock_out import SignInRefused, TooManyAttempts
from engine.settings import settings
from engine.sign_in_settings import Login
from ui.sign_in import html, oidc_routes
from ui.sign_in.requests import address_of, browser_of, delete_cookie, form_of, in_session, set_cookie, signed_in

SESSION = "pediscreen_session"
FORGOTTEN = "Forgotten? An administrator can give you a one-time password."
RULES = "At least 12 characters; a sentence is fine. Signed-in browsers other than this one are signed out."


async def sign_in_page(request: Request) -> Response:
    next_path = html.safe_next(request.query_params.get("next", "/"))
    login, here = settings().sign_in.login, signed_in(request)
    if login is Login.DEMO or (here is not None and here.may_work):
        return _see(next_path)
    if login is Login.OIDC:
        return oidc_routes.sign_in_page(next_path)
    if request.method == "GET":
        if await in_session(first_run.is_needed):
            return _see("/sign-in/first-run")
        done = "You are signed out." if "signed_out" in request.query_params else ""
        return _sign_in_form(next_path, done=done)
    form = await form_of(request)
    next_path = html.safe_next(form.get("next", "/"))
    try:
        token = await in_session(
            lambda session: sign_in.sign_in(
                session,
                form.get("username", ""),
                form.get("password", ""),
                address=address_of(request),
                browser=browser_of(request),
                before=here,
            )
        )
    except SignInRefused as refused:
        return _sign_in_form(next_path, username=form.get("username", ""), error=str(refused), status=_status(refused))
    return _signed_in(token, next_path)


def _sign_in_form(
    next_path: str, *, username: str = "", error: str = "", done: str = "", status: int = 200
) -> Response:
    fields = html.field("username", "User name", value=username, autocomplete="username", focus=not username)
    fields += html.field("password", "Password", kind="password", autocomplete="current-password", focus=bool(username))
    body = html.form("/sign-in", fields, "Sign in", next_path) + f"<p><br>{FORGOTTEN}</p>"
    return html.page("Sign in", body, error=error, done=done, status=status)


async def first_run_page(request: Request) -> Response:
    if settings().sign_in.login is not Login.LOCAL or not await in_session(first_run.is_needed):
        return _see("/sign-in")
    if request.method == "GET":
        return _first_run_form({})
    form = await form_of(request)
    if form.get("password") != form.get("again"):
        return _first_run_form(form, error="The two passwords are not the same.", status=422)
    try:
        token = await in_session(
            lambda session: first_run.make_first_admin(
                session,
                settings().data_dir,
                form.get("secret", ""),
                form.get("username", ""),
                form.get("display_name", ""),
                form.get("password", ""),
                address=address_of(request),
                browser=browser_of(request),
            )
        )
    except PediScreenError as error:
        return _first_run_form(form, error=str(error), status=_status(error))
    return _signed_in(token, "/")


def _first_run_form(form: dict[str, str], *, error: str = "", status: int = 200) -> Response:
    fields = html.field("secret", "One-time secret", autocomplete="off", focus=True, value=form.get("secret", ""))
    fields += html.field("username", "User name", autocomplete="username", value=form.get("username", ""))
    fields += html.field("display_name", "Your name", autocomplete="name", value=form.get("display_name", ""))
    fields += html.field("password", "Password, at least 12 characters", kind="password", autocomplete="new-password")
    fields += html.field("again", "The same password again", kind="password", autocomplete="new-password")
    return html.page(
        "The first administrator",
        html.form("/sign-in/first-run", fields, "Make this account"),
        explanation="Nobody can sign in yet. The workstation printed a one-time secret when it was started, and keeps "
        f"it in the file {first_run.SECRET_FILE} of its data folder.",
        error=error,
        status=status,
    )


async def password_page(request: Request) -> Response:
    here = signed_in(request)
    if here is None or here.locked:
        return _see("/sign-in" if here is None else "/sign-in/unlock")
    if not here.by_password:
        return html.page("Password", "<a href='/'>Back</a>", explanation="Your password is kept elsewhere, not here.")
    next_path = html.safe_next(request.query_params.get("next", "/"))
    if request.method == "GET":
        return _password_form(here.actor.username, here.must_change, next_path)
    form = await form_of(request)
    next_path = html.safe_next(form.get("next", "/"))
    if form.get("new") != form.get("again"):
        error = "The two new passwords are not the same."
        return _password_form(here.actor.username, here.must_change, next_path, error=error, status=422)
    try:
        token = await in_session(
            lambda session: sign_in.change_password(
                session,
                here,
                form.get("old", ""),
                form.get("new", ""),
                address=address_of(request),
                browser=browser_of(request),
            )
        )
    except PediScreenError as error:
        said = "The present password is wrong." if type(error) is SignInRefused else str(error)
        return _password_form(here.actor.username, here.must_change, next_path, error=said, status=_status(error))
    return _signed_in(token, next_path)


def _password_form(username: str, must_change: bool, next_path: str, *, error: str = "", status: int = 200) -> Response:
    old = "One-time password" if must_change else "Present password"
    fields = f'<input type="hidden" name="username" value="{escape(username)}" autocomplete="username">'
    fields += html.field("old", old, kind="password", autocomplete="current-password", focus=True)
    fields += html.field("new", "New password", kind="password", autocomplete="new-password")
    fields += html.field("again", "The same again", kind="password", autocomplete="new-password")
    body = html.form("/sign-in/password", fields, "Change the password", next_path) + html.sign_out_form()
    return html.page("Choose a new password", body, explanation=RULES, error=error, status=status)


async def unlock_page(request: Request) -> Response:
    here = signed_in(request)
    if here is None:
        return _unlocked_or(request, _see("/sign-in"), 401, "This session has ended. Sign in again.")
    next_path = html.safe_next(request.query_params.get("next", "/"))
    if request.method == "GET":
        return _see(next_path) if not here.locked else _unlock_form(here, next_path)
    form = await form_of(request)
    next_path = html.safe_next(form.get("next", "/"))
    try:
        await in_session(
            lambda session: sign_in.unlock(session, here, form.get("password", ""), address=address_of(request))
        )
    except SignInRefused as refused:
        said = "The password is wrong." if type(refused) is SignInRefused else str(refused)
        status = _status(refused)
        return _unlocked_or(request, _unlock_form(here, next_path, error=said, status=status), status, said)
    return _unlocked_or(request, _see(next_path), 200, "")


def _unlock_form(here: sessions.SignedIn, next_path: str, *, error: str = "", status: int = 200) -> Response:
    if not here.by_password:
        return oidc_routes.unlock_page(here, next_path)
    fields = html.field("password", "Password", kind="password", autocomplete="current-password", focus=True)
    body = html.form("/sign-in/unlock", fields, "Unlock", next_path) + html.sign_out_form()
    return html.page(
        "Locked",
        body,
        explanation=f"{here.actor.display_name} is signed in, and nobody was here for a while.",
        error=error,
        status=status,
    )


def _unlocked_or(request: Request, answer: Response, status: int, message: str) -> Response:
    """The lock over an open page sends the form by script, and wants words instead of a page."""
    if "application/json" not in request.headers.get("accept", ""):
        return answer
    return JSONResponse({"message": message}, status_code=status)


async def sign_out(request: Request) -> Response:
    here = signed_in(request)
    if here is not None and here.session_id:
        await in_session(lambda session: sessions.end(session, here))
    response = _see("/sign-in?signed_out")
    delete_cookie(response, SESSION)
    response.headers["Clear-Site-Data"] = '"cache"'  # films stay in the browser's cache for an hour otherwise
    return response


async def session_state(request: Request) -> Response:
    """GET asks, POST says besides that the person is there."""
    here = signed_in(request)
    if here is None:
        return JSONResponse({"state": "signed_out"}, status_code=401)
    if request.method == "POST" and here.session_id and not here.locked:
        await in_session(lambda session: sessions.touch(session, here))
        idle_s: float = settings().sign_in.idle_after.total_seconds()
    else:
        idle_s = here.locks_in_s
    state = "locked" if here.locked else "must_change" if here.must_change else "open"
    return JSONResponse({"state": state, "locks_in_s": None if math.isinf(idle_s) else round(idle_s, 1)})


async def asset(request: Request) -> Response:
    return html.asset(request.url.path.rpartition("/")[2])


async def refused(request: Request, error: Exception) -> Response:
    """For what is wrong with a form before anything is looked at."""
    return html.page("Refused", "<a href='/sign-in'>Back</a>", error=str(error), status=_status(error))


def _see(path: str) -> Response:
    return RedirectResponse(path, status_code=303, headers={"Cache-Control": "no-store"})


def _signed_in(token: str, next_path: str) -> Response:
    response = _see(next_path)
    set_cookie(response, SESSION, token)
    return response


def _status(error: Exception) -> int:
    if isinstance(error, TooManyAttempts):
        return 429
    return 422 if isinstance(error, Refused) else 403


GET, BOTH = ["GET"], ["GET", "POST"]
ROUTES = [
    Route("/sign-in", sign_in_page, methods=BOTH),
    Route("/sign-in/first-run", first_run_page, methods=BOTH),
    Route("/sign-in/password", password_page, methods=BOTH),
    Route("/sign-in/unlock", unlock_page, methods=BOTH),
    Route("/sign-in/state", session_state, methods=BOTH),
    Route("/sign-in/style.css", asset, methods=GET),
    Route("/sign-in/logo.png", asset, methods=GET),
    Route("/sign-in/icon.png", asset, methods=GET),
    Route("/sign-out", sign_out, methods=["POST"]),
    *oidc_routes.ROUTES,
]
