"""Pages for people: the dashboard, and what each kind of problem means."""

# No `from __future__ import annotations` here: FastAPI reads the annotations when it registers the routes.
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, PlainTextResponse

from controller.api.problems import KINDS
from controller.api.security import content_policy
from controller.ports import NotFoundError

ProblemKind = Annotated[str, Path(max_length=64, examples=["not-found"])]

router = APIRouter(tags=["pages"])


@router.get("/", operation_id="getDashboard", response_class=HTMLResponse)
async def get_dashboard() -> HTMLResponse:
    """Show all rollouts, live; it reads only."""
    html = _dashboard()
    return HTMLResponse(html, headers={"Content-Security-Policy": content_policy(html)})


@router.get("/problems/{kind}", operation_id="getProblemKind", response_class=PlainTextResponse)
async def get_problem_kind(kind: ProblemKind) -> PlainTextResponse:
    """Explain a kind of problem, in words."""
    if kind not in KINDS:
        raise NotFoundError(f"there is no problem of the kind {kind}")
    status, title, meaning = KINDS[kind]
    return PlainTextResponse(f"{title} ({status})\n\n{meaning}\n")


@cache
def _dashboard() -> str:
    return files("controller.api").joinpath("dashboard.html").read_text("utf-8")
