"""The REST API: typed routes over engine.services, mounted at /api by ui/serve.py.

It knows nothing of Streamlit. Who is asking comes from `scope["state"]["actor"]`, put there by whatever serves it;
without that every call is answered 401. Errors have one shape: {"error": {"code": ..., "message": ...}}."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from engine.api import models, stow, studies
from engine.api.access import NotSignedIn
from engine.api.docs import docs_page
from engine.errors import Conflict, Damaged, ModelUnavailable, NotAllowed, NotFound, PediScreenError, Refused
from engine.services import audit

# The first that fits counts.
STATUS_OF_ERROR: tuple[tuple[type[PediScreenError], int, str], ...] = (
    (NotSignedIn, 401, "not_signed_in"),
    (NotAllowed, 403, "not_allowed"),
    (NotFound, 404, "not_found"),
    (Damaged, 500, "damaged"),
    (Conflict, 409, "conflict"),
    (Refused, 422, "refused"),  # its own code takes the place of this one
    (ModelUnavailable, 503, "model_unavailable"),
    (PediScreenError, 400, "error"),
)

api = FastAPI(
    title="PediScreen",
    description="Reads of paediatric images by a vision-language model, and what the radiologists decided about them. "
    "Not for diagnostic use.",
    version="0.3.0",
    docs_url=None,  # FastAPI's page loads its scripts from elsewhere; ours needs none
    redoc_url=None,
    openapi_url="/openapi.json",
)
api.include_router(studies.router, prefix="/radiology")
api.include_router(models.router, prefix="/radiology")
api.include_router(stow.router, prefix="/dicom-web")


@api.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(docs_page(api.openapi(), base=request.scope.get("root_path", "")))


@api.exception_handler(PediScreenError)
def answer_with_reason(request: Request, error: PediScreenError) -> JSONResponse:
    actor = getattr(request.state, "actor", None)
    if isinstance(error, NotAllowed) and actor is not None:
        audit.record_refusal(actor, error, request.url.path)
    status, code = next((status, code) for kind, status, code in STATUS_OF_ERROR if isinstance(error, kind))
    return _error(status, error.code if isinstance(error, Refused) else code, str(error))


@api.exception_handler(RequestValidationError)
def answer_with_field(request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()]
    return _error(422, "invalid_request", "; ".join(problems))


@api.exception_handler(HTTPException)
def answer_in_shape(request: Request, error: HTTPException) -> JSONResponse:
    return _error(error.status_code, "http", str(error.detail))


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
