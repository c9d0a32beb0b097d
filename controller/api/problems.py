"""Errors of the API as RFC 9457 problem details: one table of kinds, one shape for every failure.

`type` is a path on this server that explains the kind in words. Nothing of an unexpected exception is told.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from controller.ports import ConflictError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request
    from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """A kind of problem; its key in `KINDS` ends the type URI."""

    status: int
    title: str
    meaning: str


KINDS: Mapping[str, Kind] = {
    "invalid-request": Kind(422, "The request is not valid", "A parameter or the body is not as described."),
    "unauthorized": Kind(401, "A token is needed", "Send `Authorization: Bearer` with the API token."),
    "forbidden": Kind(403, "The token is not accepted", "The token is not the one of this controller."),
    "not-found": Kind(404, "Not found", "There is no such rollout, run or page."),
    "method-not-allowed": Kind(405, "Method not allowed", "This address does not take that method."),
    "conflict": Kind(409, "The rollout changed meanwhile", "Somebody changed it; read it and try again."),
    "refused": Kind(409, "The action makes no sense now", "The rollout is not in a state for this action."),
    "unknown-host": Kind(
        421,
        "The host's name is not known",
        "The request was sent to a name that this controller does not answer to; `--api-host` gives it more.",
    ),
    "too-large": Kind(413, "The request is too large", "The body exceeds what this API takes."),
    "too-many-watchers": Kind(503, "Too many watchers", "Close another watch, or try again later."),
    "unavailable": Kind(503, "Not available now", "The store or the history cannot answer now; try again."),
    "internal": Kind(500, "Unexpected error", "The controller's log says more."),
}
EXAMPLE = {
    "type": "/problems/not-found",
    "title": KINDS["not-found"].title,
    "status": 404,
    "detail": "there is no rollout ml/ranker",
    "instance": "/v1/rollouts/ml/ranker",
}
_BY_STATUS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
}


class InvalidField(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="Where: body, path or query, and the field.")
    detail: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="The kind of problem; the address explains it.")
    title: str
    status: int
    detail: str = Field(description="What happened here, in one sentence.")
    instance: str = Field(description="The path of the request.")
    errors: list[InvalidField] | None = Field(default=None, description="For invalid requests: each error.")


class ProblemError(Exception):
    """A failure of a request that is already known to be of one of `KINDS`."""

    def __init__(self, kind: str, detail: str | None = None) -> None:
        super().__init__(detail or KINDS[kind].meaning)
        self.kind = kind


def problem(
    request: Request, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    """Return the response for a problem of `kind`."""
    status, title, _ = KINDS[kind]
    body = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": detail}
    return JSONResponse(
        {**body, "instance": request.url.path, **extra}, status, headers=headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every error of `app` with problem details."""

    @app.exception_handler(ProblemError)
    @app.exception_handler(NotFoundError)
    @app.exception_handler(ConflictError)
    @app.exception_handler(UnavailableError)
    async def known(request: Request, error: Exception) -> Response:
        kind = _kind(error)
        headers = {"WWW-Authenticate": "Bearer"} if kind == "unauthorized" else None
        return problem(request, kind, str(error) or KINDS[kind].meaning, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"pointer": "/".join(str(part) for part in item["loc"]), "detail": str(item["msg"])}
            for item in error.errors()[:20]
        ]
        detail = "; ".join(f"{item['pointer']}: {item['detail']}" for item in errors)
        return problem(request, "invalid-request", detail, errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        fallback = "invalid-request" if error.status_code < 500 else "internal"
        kind = _BY_STATUS.get(error.status_code, fallback)
        detail = f"{request.method} {request.url.path}: {HTTPStatus(error.status_code).phrase.lower()}"
        return problem(request, kind, detail, headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _error: Exception) -> Response:
        return problem(request, "internal", KINDS["internal"].meaning)


def _kind(error: Exception) -> str:
    match error:
        case ProblemError():
            return error.kind
        case NotFoundError():
            return "not-found"
        case ConflictError():
            return "conflict"
        case _:
            return "unavailable"
