"""Routes of runs and their reports."""

# No `from __future__ import annotations` here: FastAPI reads the annotations when it registers the routes.
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse

from controller.api.discoveries import harms_that_hold
from controller.api.models import RUN_ID, Runs
from controller.api.page import page
from controller.api.reads import Controller, Limit, Namespace, RolloutName
from controller.api.report import Report, report
from controller.api.security import content_policy
from controller.ports import NotFoundError
from controller.view import run_summary

RunId = Annotated[str, Path(pattern=RUN_ID, max_length=200, examples=["ml.ranker.3.1795341600"])]
PolicyFilter = Annotated[str | None, Query(max_length=127, description="Only runs of this `namespace/name`.")]

router = APIRouter(tags=["runs"])


@router.get("/v1/rollouts/{namespace}/{name}/runs", operation_id="listRolloutRuns")
async def list_rollout_runs(
    controller: Controller, namespace: Namespace, name: RolloutName, limit: Limit = 100
) -> Runs:
    """List the runs of a rollout, newest first."""
    await controller.rollout(namespace, name)
    return _listed(await controller.runs(f"{namespace}/{name}", limit))


@router.get("/v1/runs", operation_id="listRuns")
async def list_runs(controller: Controller, policy: PolicyFilter = None, limit: Limit = 100) -> Runs:
    """List the runs of all rollouts, newest first; also of those that are gone."""
    return _listed(await controller.runs(policy, limit))


def _listed(runs: Sequence[Mapping[str, Any]]) -> Runs:
    """Return runs with which of their harms hold among them."""
    pairs = zip(runs, harms_that_hold(runs), strict=True)
    return Runs(items=[replace(run_summary(run), harm_holds=holds) for run, holds in pairs])


@router.get("/v1/runs/{run_id}", operation_id="getRun")
async def get_run(controller: Controller, run_id: RunId) -> dict[str, Any]:
    """Show one run with every look, interval and decision, as recorded."""
    return dict(await _run(controller, run_id))


@router.get("/v1/runs/{run_id}/report", operation_id="getRunReport")
async def get_run_report(controller: Controller, run_id: RunId) -> Report:
    """Give the report of a run: the decision, its evidence, and what was assumed."""
    return report(await _run(controller, run_id))


@router.get("/v1/runs/{run_id}/report.html", operation_id="getRunReportPage", response_class=HTMLResponse)
async def get_run_report_page(controller: Controller, run_id: RunId) -> HTMLResponse:
    """Give the report as one self-contained page."""
    html = page(report(await _run(controller, run_id)))
    return HTMLResponse(html, headers={"Content-Security-Policy": content_policy(html)})


async def _run(controller: Controller, run_id: str) -> Mapping[str, Any]:
    run = await controller.run(run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}")
    return run
