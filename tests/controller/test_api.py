import asyncio
import json
import re

import pytest
from fastapi.testclient import TestClient

from controller.api.app import create_app
from controller.api.problems import KINDS
from controller.api.security import MAX_BODY, content_policy
from controller.api.stream import Places, frame, frames
from controller.ports import UnavailableError
from tests.support.fake_backend import FakeBackend, event, policy, running
from tests.support.fake_run import fake_run

TOKEN = {"Authorization": "Bearer secret"}
RUN = fake_run(looks=12)
OPERATIONS = {
    "listRollouts": "GET /v1/rollouts",
    "getRollout": "GET /v1/rollouts/{namespace}/{name}",
    "listRolloutRuns": "GET /v1/rollouts/{namespace}/{name}/runs",
    "actOnRollout": "POST /v1/rollouts/{namespace}/{name}/actions",
    "listRuns": "GET /v1/runs",
    "getRun": "GET /v1/runs/{run_id}",
    "getRunReport": "GET /v1/runs/{run_id}/report",
    "getRunReportPage": "GET /v1/runs/{run_id}/report.html",
    "listEvents": "GET /v1/events",
    "listFindings": "GET /v1/findings",
    "watchChanges": "GET /v1/watch",
    "getHealth": "GET /healthz",
    "getReadiness": "GET /readyz",
    "getMetrics": "GET /metrics",
    "getDashboard": "GET /",
    "getProblemKind": "GET /problems/{kind}",
}


@pytest.fixture
def backend():
    return FakeBackend([running(), policy("ml", "idle"), policy("web", "shop")], [RUN], [event()])


@pytest.fixture
def api(backend):
    return TestClient(create_app(backend, "secret"), raise_server_exceptions=False)


def problem(response, status, kind):
    """Assert that a response is a problem document of this kind; return it."""
    body = response.json()
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert (body["type"], body["status"], body["title"]) == (f"/problems/{kind}", status, KINDS[kind].title)
    assert body["instance"] == response.request.url.path
    return body


def test_an_app_without_a_token_is_refused(backend):
    with pytest.raises(ValueError, match="token"):
        create_app(backend, "")


def test_rollouts_are_listed_by_namespace_and_name(api):
    body = api.get("/v1/rollouts").json()
    assert [f"{item['namespace']}/{item['name']}" for item in body["items"]] == [
        "ml/idle",
        "ml/ranker",
        "web/shop",
    ]
    assert body["after"] is None
    assert body["items"][1]["state"] == "Progressing"
    assert body["items"][1]["object"] is None


def test_rollouts_can_be_filtered_and_paged(api):
    assert [item["name"] for item in api.get("/v1/rollouts?namespace=web").json()["items"]] == ["shop"]
    assert [item["name"] for item in api.get("/v1/rollouts?name=idle").json()["items"]] == ["idle"]
    first = api.get("/v1/rollouts?limit=2").json()
    assert first["after"] == "ml/ranker"
    rest = api.get("/v1/rollouts", params={"limit": 2, "after": first["after"]}).json()
    assert [item["name"] for item in rest["items"]] == ["shop"]
    assert rest["after"] is None


def test_one_rollout_comes_with_steps_metrics_events_and_its_object(api):
    body = api.get("/v1/rollouts/ml/ranker").json()
    assert [step["state"] for step in body["steps"]] == ["done", "current", "next"]
    assert [metric["name"] for metric in body["metrics"]] == ["errors", "latency"]
    assert body["events"][0]["object"] == "ml/ranker"
    assert body["object"]["status"]["weights"] == {"stable": 75, "candidate": 25}


def test_runs_are_listed_and_shown_whole(api):
    (listed,) = api.get("/v1/rollouts/ml/ranker/runs").json()["items"]
    assert (listed["id"], listed["policy"]) == (RUN["id"], "ml/ranker")
    assert api.get("/v1/runs?policy=web/shop").json()["items"] == []
    assert listed["harm_holds"] is False
    assert api.get(f"/v1/runs/{RUN['id']}").json() == RUN


def test_the_report_is_data_and_a_page(api):
    body = api.get(f"/v1/runs/{RUN['id']}/report").json()
    assert body["headline"].startswith("Promoted candidate after 2m1s")
    assert len(body["looks"]) == 12
    page = api.get(f"/v1/runs/{RUN['id']}/report.html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>ml/ranker, run 3</h1>" in page.text


def test_an_action_needs_the_token(api, backend):
    address = "/v1/rollouts/ml/ranker/actions"
    missing = api.post(address, json={"verb": "pause"})
    problem(missing, 401, "unauthorized")
    assert missing.headers["www-authenticate"] == "Bearer"
    problem(
        api.post(address, json={"verb": "pause"}, headers={"Authorization": "Bearer other"}), 403, "forbidden"
    )
    problem(
        api.post(address, json={"verb": "pause"}, headers={"Authorization": "Bearer sécret".encode()}),
        403,
        "forbidden",
    )
    problem(
        api.post(address, json={"verb": "pause"}, headers={"Authorization": "Basic secret"}),
        401,
        "unauthorized",
    )
    assert backend.actions == []


@pytest.mark.parametrize("verb", ["pause", "resume", "promote", "promote-full", "abort", "retry"])
def test_an_action_is_accepted_with_a_nonce(api, backend, verb):
    response = api.post("/v1/rollouts/ml/ranker/actions", json={"verb": verb, "actor": "ada"}, headers=TOKEN)
    assert (response.status_code, response.json()) == (202, {"nonce": f"{verb}-1"})
    assert backend.actions == [("ml", "ranker", verb, "ada")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"verb": "explode"},
        {"verb": "pause", "extra": 1},
        {"verb": "pause", "actor": ""},
        {"verb": "pause", "actor": "x" * 129},
        [],
        "text",
    ],
)
def test_a_wrong_action_is_a_problem_that_says_where(api, backend, body):
    errors = problem(
        api.post("/v1/rollouts/ml/ranker/actions", json=body, headers=TOKEN), 422, "invalid-request"
    )["errors"]
    assert all(error["pointer"].startswith("body") and error["detail"] for error in errors)
    assert backend.actions == []


def test_the_words_of_a_refused_action_reach_the_caller(api, backend):
    address = "/v1/rollouts/ml/ranker/actions"
    backend.refusal = "cannot resume ranker: it is not paused"
    refused = problem(api.post(address, json={"verb": "resume"}, headers=TOKEN), 409, "refused")
    assert refused["detail"] == "cannot resume ranker: it is not paused"
    backend.refusal = "conflict"
    problem(api.post(address, json={"verb": "resume"}, headers=TOKEN), 409, "conflict")
    problem(
        api.post("/v1/rollouts/ml/nope/actions", json={"verb": "resume"}, headers=TOKEN), 404, "not-found"
    )


def test_every_failure_is_a_problem(api, backend):
    assert (
        problem(api.get("/v1/rollouts/ml/nope"), 404, "not-found")["detail"] == "there is no rollout ml/nope"
    )
    problem(api.get("/v1/rollouts/ml/nope/runs"), 404, "not-found")
    problem(api.get("/v1/runs/nope"), 404, "not-found")
    problem(api.get("/v1/runs/nope/report.html"), 404, "not-found")
    problem(api.get("/nowhere"), 404, "not-found")
    allowed = api.delete("/v1/rollouts")
    problem(allowed, 405, "method-not-allowed")
    assert allowed.headers["allow"] == "GET"
    backend.down = True
    assert problem(api.get("/v1/rollouts"), 503, "unavailable")["detail"] == "the store is locked"
    backend.events = None
    backend.down = False
    assert "NoneType" not in problem(api.get("/v1/rollouts/ml/ranker"), 500, "internal")["detail"]


@pytest.mark.parametrize(
    "address",
    [
        "/v1/rollouts?limit=0",
        "/v1/rollouts?limit=501",
        "/v1/rollouts?limit=x",
        "/v1/rollouts?namespace=..",
        f"/v1/rollouts?after={'x' * 128}",
        "/v1/rollouts/ML/ranker",
        f"/v1/rollouts/ml/{'x' * 64}",
        "/v1/runs/-x",
        f"/v1/runs/{'x' * 201}",
        "/v1/events?limit=-1",
    ],
)
def test_inputs_are_bounded(api, address):
    assert problem(api.get(address), 422, "invalid-request")["errors"]


def test_a_large_or_endless_body_is_refused_unread(api):
    address = "/v1/rollouts/ml/ranker/actions"
    problem(api.post(address, content=b"x" * (MAX_BODY + 1), headers=TOKEN), 413, "too-large")
    problem(api.post(address, content=iter([b"{}"]), headers=TOKEN), 413, "too-large")


def test_each_kind_of_problem_is_explained_at_its_address(api):
    for kind, (status, title, _) in KINDS.items():
        assert api.get(f"/problems/{kind}").text.startswith(f"{title} ({status})")
    problem(api.get("/problems/nope"), 404, "not-found")


def test_health_and_readiness(api, backend):
    assert api.get("/healthz").json() == {"ready": True, "parts": {"store": "ok", "prometheus": "ok"}}
    assert api.get("/readyz").status_code == 200
    backend.state = {"store": "ok", "prometheus": "no answer", "ready": False}
    assert api.get("/healthz").status_code == 200
    assert (api.get("/readyz").status_code, api.get("/readyz").json()["parts"]["prometheus"]) == (
        503,
        "no answer",
    )


def test_metrics_findings_and_events(api):
    assert api.get("/metrics").text == "penstock_looks_total 3.0\n"
    assert api.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    assert api.get("/v1/findings").json()["items"][0]["code"] == "PS001"
    assert api.get("/v1/events?namespace=ml&name=ranker").json()["items"][0]["reason"] == "Started"
    assert api.get("/v1/events?namespace=web&name=shop").json()["items"] == []


def test_the_openapi_document_has_stable_operation_ids_and_describes_every_problem(api):
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            found[operation["operationId"]] = f"{method.upper()} {path}"
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert "422" not in operation["responses"]
    assert found == OPERATIONS
    security = document["paths"]["/v1/rollouts/{namespace}/{name}/actions"]["post"]["security"]
    assert security == [{"token": []}]
    assert document["components"]["schemas"]["Action"]["examples"]


def test_every_answer_has_careful_headers(api):
    for address in ("/", "/v1/rollouts", "/nowhere", f"/v1/runs/{RUN['id']}/report.html"):
        headers = api.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"].startswith("default-src 'none'")


def test_the_pages_run_their_own_scripts_and_styles_only(api):
    dashboard, report = api.get("/"), api.get(f"/v1/runs/{RUN['id']}/report.html")
    for page in (dashboard, report):
        assert page.headers["content-security-policy"] == content_policy(page.text)
        assert "unsafe" not in page.headers["content-security-policy"]
        assert not re.search(r"https?://|//cdn|@import|\bon\w+=\"", page.text)
    assert "script-src 'sha256-" in dashboard.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]
    assert "innerHTML" not in dashboard.text


def test_the_watch_streams_changes_as_events(api, backend):
    backend.coming = [
        {"type": "rollout", "object": running()},
        {"type": "event", "object": event(message="two\nlines")},
        {"type": "run", "object": RUN},
    ]
    response = api.get("/v1/watch")
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.strip().split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == [
        "retry: 2000",
        "event: rollout",
        "event: event",
        "event: run",
    ]
    data = [json.loads(block.split("\n")[1].removeprefix("data: ")) for block in blocks[1:]]
    assert data[0]["state"] == "Progressing"
    assert data[1]["message"] == "two\nlines"
    assert data[2]["id"] == RUN["id"]


def test_the_watch_can_be_narrowed(api, backend):
    backend.coming = [
        {"type": "rollout", "object": policy(ns, name)}
        for ns, name in [("ml", "a"), ("web", "a"), ("ml", "b")]
    ]
    assert api.get("/v1/watch?namespace=ml").text.count("event: rollout") == 2
    assert api.get("/v1/watch?namespace=ml&name=b").text.count("event: rollout") == 1


def test_too_many_watchers_are_turned_away(backend):
    app = create_app(backend, "secret")
    app.state.places = Places(0)
    problem(TestClient(app).get("/v1/watch"), 503, "too-many-watchers")


def test_a_place_is_free_again_after_the_watch(backend):
    app = create_app(backend, "secret")
    app.state.places = Places(1)
    with TestClient(app) as api:
        assert [api.get("/v1/watch").status_code for _ in range(3)] == [200] * 3


async def test_silence_is_broken_by_heartbeats():
    async def silent():
        await asyncio.sleep(60)
        yield {}

    stream = frames(silent(), heartbeat=0.01)
    assert [await anext(stream) for _ in range(3)] == [
        "retry: 2000\n\n",
        ": still here\n\n",
        ": still here\n\n",
    ]
    await stream.aclose()


async def test_a_slow_reader_is_told_that_it_missed_changes():
    async def many():
        for number in range(10):
            yield {"type": "run", "object": {"number": number}}

    stream = frames(many(), queue=4)
    await anext(stream)
    for _ in range(100):  # the changes come meanwhile
        await asyncio.sleep(0)
    rest = [text async for text in stream]
    assert rest[0].startswith("event: reset")
    assert len(rest) < 5
    assert rest[-1] == frame({"type": "run", "object": {"number": 9}})


def test_a_rollout_is_told_also_where_its_events_cannot_be_read(api, backend, monkeypatch):
    async def forbidden(*_):
        raise UnavailableError("not allowed to list events.events.k8s.io (403)")

    monkeypatch.setattr(backend, "events", forbidden)
    [told] = api.get("/v1/rollouts/ml/ranker").raise_for_status().json()["events"]
    assert (told["type"], told["reason"], told["object"]) == ("Warning", "EventsUnavailable", "ml/ranker")
    assert "not allowed to list events" in told["message"]
    problem(api.get("/v1/events"), 503, "unavailable")


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_does_not_have_is_null_in_the_stream_as_in_every_answer(number):
    assert frame({"type": "run", "object": {"e": number}}) == 'event: run\ndata: {"e":null}\n\n'


def test_an_event_of_the_stream_is_one_line_whatever_it_holds():
    text = frame({"type": "event", "object": {"message": "a\nb\r\u2028größer"}})
    assert text.count("\n") == 3
    assert "\r" not in text


async def test_closing_a_stream_closes_the_changes():
    closed = asyncio.Event()

    async def endless():
        try:
            while True:
                await asyncio.sleep(0)
                yield {"type": "run", "object": {}}
        finally:
            closed.set()

    stream = frames(endless())
    assert [await anext(stream) for _ in range(2)][1] == frame({"type": "run", "object": {}})
    await stream.aclose()
    await asyncio.wait_for(closed.wait(), 60)
