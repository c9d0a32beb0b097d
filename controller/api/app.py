"""The HTTP API of the controller: read everything, act with a token, watch changes.

The app holds no state of the rollouts: every answer is asked of the backend. Reading needs no token, so bind
it to loopback or put it behind something that authenticates; acting always needs the token.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations when it registers the routes.
import hmac
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from controller.api import problems, reads, runs, site
from controller.api.backend import Backend
from controller.api.hosts import Hosts
from controller.api.models import Accepted, Action
from controller.api.reads import Controller, Namespace, RolloutName
from controller.api.security import Guard
from controller.api.stream import Places

MAX_WATCHERS = 64
DESCRIPTION = """Rollouts for Istio, judged by tests whose error rates hold however often one looks.

Reading needs no token. Acting needs `Authorization: Bearer`. Every error is a problem document (RFC 9457)."""

_Credentials = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, scheme_name="token", description="The controller's API token.")),
]


def _authorized(request: Request, credentials: _Credentials) -> None:
    if credentials is None:
        raise problems.ProblemError("unauthorized")
    expected: str = request.app.state.token
    if not hmac.compare_digest(credentials.credentials.encode(), expected.encode()):
        raise problems.ProblemError("forbidden")


_actions = APIRouter(tags=["rollouts"], dependencies=[Depends(_authorized)])


@_actions.post("/v1/rollouts/{namespace}/{name}/actions", operation_id="actOnRollout", status_code=202)
async def _act(controller: Controller, namespace: Namespace, name: RolloutName, action: Action) -> Accepted:
    """Pause, resume, promote, abort or retry; the controller acts at its next look."""
    try:
        return Accepted(nonce=await controller.act(namespace, name, action.verb, action.actor))
    except ValueError as error:
        raise problems.ProblemError("refused", str(error)) from error


def create_app(backend: Backend, token: str, hosts: Hosts | None = None) -> FastAPI:
    """Return the API over `backend`; `token` is what actions must carry. ValueError when it is empty.

    `hosts`: the names that it answers to; without, all.
    """
    if not token:
        raise ValueError("the API token is empty")
    app = FastAPI(
        title="Penstock",
        version=version("penstock"),
        summary="Rollouts, their evidence and their decisions.",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        responses={
            "default": {
                "description": "A problem (RFC 9457).",
                "model": problems.Problem,
                "content": {problems.MEDIA_TYPE: {"example": problems.EXAMPLE}},
            }
        },
    )
    app.state.backend, app.state.token, app.state.places = backend, token, Places(MAX_WATCHERS)
    app.add_middleware(Guard, hosts=hosts or Hosts())
    problems.install(app)
    for router in (reads.router, runs.router, _actions, site.router):
        app.include_router(router)
    return app
