"""Routes that read rollouts, events, findings and health, and the one that watches them."""

# No `from __future__ import annotations` here: FastAPI reads the annotations when it registers the routes.
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from controller.api.backend import Backend
from controller.api.models import NAME, Events, Findings, Health, Rollouts
from controller.api.problems import ProblemError
from controller.api.stream import Change, Places, frames
from controller.ports import Object, UnavailableError
from controller.view import RolloutView, event_views, rollout_view, run_summary


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


Controller = Annotated[Backend, Depends(_backend)]
Namespace = Annotated[str, Path(pattern=NAME, max_length=63, examples=["ml"])]
RolloutName = Annotated[str, Path(pattern=NAME, max_length=63, examples=["ranker"])]
_filter = partial(Query, pattern=NAME, max_length=63)
NamespaceFilter = Annotated[str | None, _filter(description="Only this namespace.")]
NameFilter = Annotated[str | None, _filter(description="Only rollouts of this name.")]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many.")]

router = APIRouter()


@router.get("/v1/rollouts", operation_id="listRollouts", tags=["rollouts"], response_model=Rollouts)
async def list_rollouts(
    controller: Controller,
    *,
    namespace: NamespaceFilter = None,
    name: NameFilter = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=127, description="`after` of the page before.")] = None,
    objects: Annotated[bool, Query(description="Also return the RolloutPolicy objects.")] = False,
) -> Rollouts:
    """List rollouts by namespace and name."""
    views = [rollout_view(policy, with_object=objects) for policy in await controller.rollouts()]
    chosen = [
        view
        for view in sorted(views, key=lambda view: view.key)
        if namespace in {None, view.namespace} and name in {None, view.name} and view.key > (after or "")
    ]
    page = chosen[:limit]
    return Rollouts(items=page, after=page[-1].key if len(chosen) > limit else None)


@router.get("/v1/rollouts/{namespace}/{name}", operation_id="getRollout", tags=["rollouts"])
async def get_rollout(controller: Controller, namespace: Namespace, name: RolloutName) -> RolloutView:
    """Show one rollout with its steps, metrics, events and the RolloutPolicy itself."""
    policy = await controller.rollout(namespace, name)
    return rollout_view(policy, await _events(controller, namespace, name), with_object=True)


async def _events(controller: Backend, namespace: str, name: str) -> list[Object]:
    """Return the events of a rollout; where they cannot be read, the rollout is told all the same."""
    try:
        return await controller.events(namespace, name)
    except UnavailableError as error:
        about = {"namespace": namespace, "name": name}
        words = f"the events of this rollout cannot be read: {error}"
        return [{"type": "Warning", "reason": "EventsUnavailable", "message": words, "object": about}]


@router.get("/v1/events", operation_id="listEvents", tags=["rollouts"])
async def list_events(
    controller: Controller, namespace: NamespaceFilter = None, name: NameFilter = None, limit: Limit = 100
) -> Events:
    """List what happened, latest first."""
    return Events(items=list(event_views(await controller.events(namespace, name))[:limit]))


@router.get("/v1/findings", operation_id="listFindings", tags=["rollouts"])
async def list_findings(controller: Controller) -> Findings:
    """List what is wrong with the manifests that were refused; the last good ones stay in force."""
    return Findings(items=await controller.findings())


@router.get(
    "/v1/watch",
    operation_id="watchChanges",
    tags=["rollouts"],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events `rollout`, `event` and `run`; `reset` tells a slow reader "
            "that changes were missed. A comment every 15 s shows that the connection lives.",
            "content": {"text/event-stream": {"example": 'event: rollout\ndata: {"namespace":"ml"}\n\n'}},
        }
    },
)
async def watch_changes(
    request: Request, controller: Controller, namespace: NamespaceFilter = None, name: NameFilter = None
) -> StreamingResponse:
    """Watch changes from now on."""
    places: Places = request.app.state.places
    if places.full:
        raise ProblemError("too-many-watchers")

    async def body() -> AsyncIterator[str]:
        with places.taken():
            async for text in frames(_seen(controller.changes(), namespace, name)):
                yield text

    return StreamingResponse(body(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _seen(
    changes: AsyncIterator[Change], namespace: str | None, name: str | None
) -> AsyncIterator[Change]:
    """Yield the changes that were asked for, as views."""
    async for change in changes:
        object_, where = _view(change)
        its_namespace, _, its_name = where.rpartition("/")
        if namespace in {None, its_namespace} and name in {None, its_name}:
            yield {"type": change["type"], "object": object_}


def _view(change: Change) -> tuple[dict[str, Any], str]:
    """Return the changed object as it is served, and the `namespace/name` of its rollout."""
    match change["type"]:
        case "rollout":
            view = rollout_view(change["object"])
            return asdict(view), view.key
        case "event":
            (event,) = event_views([change["object"]])
            return asdict(event), event.object
        case _:
            run = run_summary(change["object"])
            return asdict(run), run.policy


@router.get("/healthz", operation_id="getHealth", tags=["operations"])
async def get_health(controller: Controller) -> Health:
    """Tell that the process lives, and how its parts are."""
    return _health(await controller.health())


@router.get(
    "/readyz",
    operation_id="getReadiness",
    tags=["operations"],
    response_model=Health,
    responses={503: {"model": Health, "description": "Not ready; the parts say why."}},
)
async def get_readiness(controller: Controller) -> Response:
    """Tell whether the controller does its work: 200 when it does, 503 when not."""
    health = _health(await controller.health())
    return JSONResponse(health.model_dump(), 200 if health.ready else 503)


def _health(health: dict[str, Any]) -> Health:
    parts = {name: state for name, state in health.items() if name != "ready"}
    return Health(ready=bool(health.get("ready")), parts=parts)


@router.get("/metrics", operation_id="getMetrics", tags=["operations"], response_class=Response)
async def get_metrics(controller: Controller) -> Response:
    """Give the controller's own metrics in the Prometheus text format."""
    return Response(controller.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
