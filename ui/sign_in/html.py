"""What the pages of signing in share: one small form in the middle of a dark page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.responses import FileResponse, HTMLResponse

HERE = Path(__file__).parent
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
NO_STORE = {"Cache-Control": "no-store", "Content-Security-Policy": CONTENT_SECURITY_POLICY}


def page(
    title: str, body: str, *, explanation: str = "", error: str = "", done: str = "", status: int = 200
) -> HTMLResponse:
    """`body` is HTML; everything else is text."""
    said = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    said += f'<p class="done" role="status">{escape(done)}</p>' if done else ""
    lead = f"<p>{escape(explanation)}</p>" if explanation else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · PediScreen</title>
<link rel="icon" href="/sign-in/icon.png">
<link rel="stylesheet" href="/sign-in/style.css">
</head>
<body>
<main>
<img src="/sign-in/logo.png" alt="PediScreen" height="30">
<h1>{escape(title)}</h1>
{said}{lead}{body}
</main>
<footer>Not for diagnostic use</footer>
</body>
</html>
""",
        status_code=status,
        headers=NO_STORE,
    )


def field(name: str, label: str, *, kind: str = "text", value: str = "", autocomplete: str, focus: bool = False) -> str:
    """What was typed comes back after an error, but for passwords."""
    first = " autofocus" if focus else ""
    return (
        f'<label for="{name}">{escape(label)}</label>'
        f'<input id="{name}" name="{name}" type="{kind}" value="{escape(value)}" autocomplete="{autocomplete}"'
        f' maxlength="256" spellcheck="false" autocapitalize="none" required{first}>'
    )


def form(action: str, fields: str, button: str, next_path: str = "/") -> str:
    return (
        f'<form method="post" action="{escape(action)}">{fields}'
        f'<input type="hidden" name="next" value="{escape(next_path)}"><button>{escape(button)}</button></form>'
    )


def sign_out_form() -> str:
    return '<form method="post" action="/sign-out"><button class="plain">Sign out</button></form>'


def with_next(path: str, next_path: str) -> str:
    return path if next_path == "/" else f"{path}?next={quote(next_path, safe='')}"


def safe_next(text: str) -> str:
    """A path of this server, or "/": a link to us must not lead elsewhere once somebody has signed in."""
    parts = urlsplit(text)
    is_path = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    return text if is_path and not parts.scheme and not parts.netloc and not text.startswith("/sign-") else "/"


def asset(name: str) -> FileResponse:
    path = {"style.css": HERE / "style.css", "logo.png": HERE.parent / "logo.png", "icon.png": HERE.parent / "icon.png"}
    return FileResponse(path[name], headers={"Cache-Control": "max-age=3600"})
