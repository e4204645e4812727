"""Signing in at the identity provider: there, and back."""

from __future__ import annotations

from html import escape

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from engine.services import oidc, sessions
from engine.services.lock_out import SignInRefused
from engine.settings import settings
from engine.sign_in_settings import Login
from ui import who
from ui.sign_in import html
from ui.sign_in.requests import address_of, browser_of, delete_cookie, in_session, set_cookie, signed_in

UNLOCKED = "/sign-in/unlocked"


def sign_in_page(next_path: str, *, done: str = "") -> Response:
    link = escape(html.with_next("/sign-in/oidc", next_path))
    body = f'<a class="button" href="{link}">Sign in with your hospital account</a>'
    return html.page("Sign in", body, done=done, explanation="Your hospital's sign-in page asks for your password.")


def unlock_page(here: sessions.SignedIn, next_path: str) -> Response:
    link = escape(html.with_next("/sign-in/oidc", next_path))
    body = f'<a class="button" href="{link}">Unlock with your hospital account</a>' + html.sign_out_form()
    return html.page(
        "Locked", body, explanation=f"{here.actor.display_name} is signed in, and nobody was here for a while."
    )


async def depart(request: Request) -> Response:
    wanted = request.query_params.get("next", "/")
    next_path = UNLOCKED if wanted == UNLOCKED else html.safe_next(wanted)
    here = signed_in(request)
    if settings().sign_in.login is not Login.OIDC or (here is not None and here.may_work):
        return RedirectResponse("/" if next_path == UNLOCKED else next_path, status_code=303)
    try:
        departure = await in_session(lambda session: oidc.depart(session, next_path, here))
    except SignInRefused as refused:
        return html.page("Sign in", "<a href='/sign-in'>Try again</a>", error=str(refused), status=503)
    response = RedirectResponse(departure.url, status_code=303, headers={"Cache-Control": "no-store"})
    set_cookie(response, who.OIDC_COOKIE, departure.browser_key, max_age=int(oidc.BACK_WITHIN.total_seconds()))
    return response


async def arrive(request: Request) -> Response:
    if settings().sign_in.login is not Login.OIDC:
        return RedirectResponse("/sign-in", status_code=303)
    here = signed_in(request)
    try:
        arrival = await in_session(
            lambda session: oidc.arrive(
                session,
                dict(request.query_params),
                request.cookies.get(who.cookie_name(who.OIDC_COOKIE)),
                address=address_of(request),
                browser=browser_of(request),
                before=here,
            )
        )
    except SignInRefused as refused:
        body = "<a href='/sign-in'>To the sign-in page</a>"
        response = html.page("Not signed in", body, error=str(refused), status=403)
        delete_cookie(response, who.OIDC_COOKIE)
        return response
    response = RedirectResponse(arrival.next_path, status_code=303, headers={"Cache-Control": "no-store"})
    delete_cookie(response, who.OIDC_COOKIE)
    if arrival.token is not None:
        set_cookie(response, "pediscreen_session", arrival.token)
    return response


async def unlocked(request: Request) -> Response:
    return html.page("Unlocked", "", explanation="Close this tab and go back to the one that you came from.")


ROUTES = [
    Route("/sign-in/oidc", depart, methods=["GET"]),
    Route("/sign-in/oidc/callback", arrive, methods=["GET"]),
    Route("/sign-in/unlocked", unlocked, methods=["GET"]),
]
