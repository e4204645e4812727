"""The REST API: typed routes over engine.services, mounted at /api by ui/serve.py, or served alone (engine.api.alone).

It knows nothing of Streamlit. Who is asking: engine.api.access. What is refused, and how: engine.api.errors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from engine.api import analyze, description, errors, models, stow, studies
from engine.api.access import Gate
from engine.api.docs import docs_page
from engine.api.schemas import Health
from engine.errors import PediScreenError

VERSION = "0.3.0"

api = FastAPI(
    title="PediScreen",
    description=description.TEXT,
    version=VERSION,
    docs_url=None,  # FastAPI's page loads its scripts from elsewhere; ours needs none
    redoc_url=None,
    openapi_url="/openapi.json",
    generate_unique_id_function=lambda route: route.name,  # what a client calls the operation
    redirect_slashes=False,  # a redirect names the host, which behind a proxy is another
)
for router in (studies.router, analyze.router, models.router):
    api.include_router(router, prefix="/radiology")
api.include_router(stow.router, prefix="/dicom-web", responses=errors.documented(401, 403, 422, 429, 500))
api.openapi = lambda: description.description(api)  # type: ignore[method-assign]
api.add_middleware(Gate)
api.exception_handler(PediScreenError)(errors.with_reason)
api.exception_handler(RequestValidationError)(errors.with_field)
api.exception_handler(HTTPException)(errors.in_shape)
api.exception_handler(OSError)(errors.without_disk)


@api.get("/health", tags=["health"])
def health() -> Health:
    """Whether the process answers; for a proxy or a monitor, without a token."""
    return Health(status="ok", version=VERSION)


@api.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(docs_page(api.openapi(), base=request.scope.get("root_path", "")))
