"""What a real Envoy does with the files: splits, changes under load, rejections, and Istio's metrics."""

import asyncio
import contextlib
import json
from collections import Counter

import aiohttp
import pytest

from controller.ports import UnavailableError
from controller.standalone.listening import pick_port
from controller.standalone.prometheus_server import prometheus_binary
from controller.standalone.xds import RejectedError, XdsFiles
from istio.envoy.telemetry import prometheus_config
from istio.envoy.translate import translate
from tests.support.envoy import PATIENCE_S, REQUESTS, eventually, gateway, serving
from tests.support.mesh import HOST, entry, routes, rule, split, to

pytestmark = pytest.mark.real


def mesh(v1, v2, **more):
    return entry(endpoints=[(v1.port, "v1"), (v2.port, "v2")], **more)


@contextlib.asynccontextmanager
async def ranker(tmp_path, *objects, ports=(8080,)):
    """Two versions of a service behind Envoy with these objects besides its ServiceEntry and subsets."""
    async with serving("v1", "v2") as (v1, v2):
        service = mesh(v1, v2, ports=tuple((port, "HTTP") for port in ports))
        async with gateway(tmp_path, service, rule(), *objects, ports=ports) as made:
            made.base = (service, rule())
            yield made, v1, v2


class Load:
    """Requests without pause in the background; `seen` counts status and body."""

    def __init__(self, made):
        self._made = made
        self._stop = asyncio.Event()
        self.seen = Counter()

    async def _client(self):
        while not self._stop.is_set():
            try:
                status, body, _ = await self._made.get()
            except OSError as error:
                status, body = 0, str(error)
            self.seen[status, body if status != 200 else ""] += 1

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._client()) for _ in range(4)]
        return self

    async def __aexit__(self, *_):
        self._stop.set()
        await asyncio.gather(*self._tasks)


async def test_traffic_is_split_as_the_weights_say(tmp_path):
    async with ranker(tmp_path, split(90, 10)) as (made, *_):
        seen = await made.count(1000)
    assert seen[200, "v1"] + seen[200, "v2"] == 1000
    # binomial with n = 1000, p = 0.1: 60..143 fails once in 50,000 runs
    assert 60 <= seen[200, "v2"] <= 143


async def test_changing_weights_costs_no_request_and_takes_effect_when_apply_returns(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, _, v2):
        async with Load(made) as load:
            for share in (0, 30, 60, 100):
                await made.apply(*made.base, split(100 - share, share))
                await asyncio.sleep(0.1)
        assert set(load.seen) == {(200, "")}
        await made.taken_over()
        before = len(v2.requests)
        assert await made.count(100) == {(200, "v2"): 100}
    assert len(v2.requests) == before + 100


async def test_subsets_come_before_their_routes_and_go_after_them(tmp_path):
    async with serving("v1", "v2") as (v1, v2):
        service = mesh(v1, v2)
        one = (service, rule(subsets=("v1",)), routes({"route": [to("v1")]}))
        both = (service, rule(), split(0, 100))
        async with gateway(tmp_path, *one) as made:
            async with Load(made) as load:
                for objects in (both, one, both, one):
                    await made.apply(*objects)
                    await asyncio.sleep(0.05)
            assert set(load.seen) == {(200, "")}
            assert (await made.files.confirm()).ok
            clusters = json.loads((made.folder / "cds.json").read_text())["resources"]
    assert [cluster["name"] for cluster in clusters] == [f"outbound|8080||{HOST}", f"outbound|8080|v1|{HOST}"]


async def test_a_rejected_configuration_says_why_and_leaves_the_last_good_one(tmp_path):
    bad = routes({"match": [{"uri": {"regex": "(("}}], "route": [to("v1")]})
    async with ranker(tmp_path, split(100, 0)) as (made, *_):
        files = {path.name: path.read_text() for path in made.folder.iterdir()}
        with pytest.raises(RejectedError, match=r"missing \)"):
            await made.apply(*made.base, bad)
        assert {path.name: path.read_text() for path in made.folder.iterdir()} == files
        assert await made.count(50) == {(200, "v1"): 50}
        await made.apply(*made.base, split(0, 100))
        await made.taken_over()
        assert await made.count(50) == {(200, "v2"): 50}


async def test_a_port_that_somebody_else_has_is_named_and_costs_nothing(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, *_), serving("other") as (other,):
        made.publish |= {8081: other.port}
        both = entry(ports=((8080, "HTTP"), (8081, "HTTP")), endpoints=[])
        with pytest.raises(RejectedError, match=f"127.0.0.1:{other.port}.*in use"):
            await made.apply(both, rule(), split(100, 0))
        assert await made.count(20) == {(200, "v1"): 20}
        assert (await made.files.confirm()).ok


async def test_ports_come_and_go_while_others_serve(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, v1, v2):
        made.publish |= {8081: pick_port()}
        two = mesh(v1, v2, ports=((8080, "HTTP"), (8081, "HTTP")))
        async with Load(made) as load:
            await made.apply(two, rule(), split(100, 0))
            assert (await made.get(port=8081))[:2] == (200, "v1")
            await made.apply(*made.base, split(100, 0))
        assert set(load.seen) == {(200, "")}
        assert not (made.folder / "rds-8081.json").exists()


async def test_an_object_is_applied_once_its_version_is_confirmed(tmp_path):
    first, second = split(100, 0, version="1"), split(50, 50, version="2")
    async with ranker(tmp_path, first) as (made, *_):
        assert (await made.files.applied(first)).ok
        late = await made.files.applied(second)
        assert (late.ok, late.detail) == (
            False,
            "VirtualService/ml/ranker is in force with version 1, not 2",
        )
        await made.apply(*made.base, second)
        assert (await made.files.applied(second)).ok
        assert not (await made.files.applied(first)).ok
        # Envoy runs something else than what was applied last, whoever did that
        content = json.loads((made.folder / "rds-8080.json").read_text()) | {"version_info": "other"}
        (made.folder / "new.json").write_text(json.dumps(content))
        (made.folder / "new.json").replace(made.folder / "rds-8080.json")
        behind = await eventually(lambda: not_applied(made, second))
        assert behind.detail == "Envoy does not run rds-8080 as applied last"
        # and the next apply brings it back
        await made.apply(*made.base, second)
        assert (await made.files.applied(second)).ok


async def not_applied(made, obj):
    found = await made.files.applied(obj)
    return None if found.ok else found


async def test_an_apply_that_is_cut_off_anywhere_costs_no_request_and_is_finished_by_the_next(tmp_path):
    async with serving("v1", "v2") as (v1, v2):
        service = mesh(v1, v2)
        one = (service, rule(subsets=("v1",)), routes({"route": [to("v1")]}))
        other = (service, rule(subsets=("v2",)), routes({"route": [to("v2")]}))
        async with gateway(tmp_path, *one) as made, Load(made) as load:
            for writes in range(4):
                made.files = made.controller(CutOff)
                made.files.left = writes
                with contextlib.suppress(InterruptedError):
                    await made.apply(*other)
                await asyncio.sleep(0.05)
                for target in (other, one):
                    made.files = made.controller()
                    await made.apply(*target)
        assert set(load.seen) == {(200, "")}


class CutOff(XdsFiles):
    """A controller that is killed when it has no writes left."""

    left = 0

    def _write(self, name, content):
        if not self.left:
            raise InterruptedError
        self.left -= 1
        super()._write(name, content)


async def test_a_restarted_controller_goes_on_from_the_files(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, *_):
        made.files = made.controller()
        await made.apply(*made.base, split(0, 100))
        await made.taken_over()
        assert await made.count(20) == {(200, "v2"): 20}


async def test_an_envoy_that_is_away_is_unavailable(tmp_path):
    files = XdsFiles(tmp_path, 1, timeout=1)
    files.initial(translate([]))
    with pytest.raises(UnavailableError, match="admin interface does not answer"):
        await files.confirm()
    with pytest.raises(UnavailableError):
        await files.apply(translate([]))


async def test_a_mirror_gets_copies_and_its_answers_are_thrown_away(tmp_path):
    mirrored = routes({"route": [to("v1")], "mirrors": [{"destination": {"host": "ranker", "subset": "v2"}}]})
    async with ranker(tmp_path, mirrored) as (made, v1, v2):
        v2.status = 500
        assert await made.count(50) == {(200, "v1"): 50}
        metrics = await made.metrics(50)
        await eventually(lambda: copied(v2, 50))
        assert (len(v1.requests), len(v2.requests)) == (50, 50)
        made_of = Counter(dict(labels).get("destination_version") for _, labels in metrics)
    assert set(made_of) == {"v1"}


async def copied(service, requests):
    return len(service.requests) >= requests


async def test_headers_rewrites_and_redirects_do_what_they_say(tmp_path):
    http = [
        {
            "match": [{"uri": {"prefix": "/old/"}}],
            "rewrite": {"uri": "/new/"},
            "headers": {"request": {"set": {"x-a": "1"}, "remove": ["x-b"]}},
            "route": [to("v1", headers={"response": {"set": {"x-from": "one"}}})],
        },
        {"match": [{"uri": {"exact": "/moved"}}], "redirect": {"uri": "/here", "redirectCode": 308}},
        {
            "match": [{"headers": {"x-user": {"regex": "a.*"}}}],
            "directResponse": {"status": 418, "body": {"string": "tea"}},
        },
        {"route": [to("v2", 1, headers={"response": {"add": {"x-from": "two"}}}), to("v1", 0)]},
    ]
    async with ranker(tmp_path, routes(*http)) as (made, v1, _):
        _, body, headers = await made.get("/old/x?q=1", headers={"x-b": "2"})
        path, sent = v1.requests[-1]
        assert (body, headers["x-from"], path) == ("v1", "one", "/new/x?q=1")
        assert (sent["x-a"], "x-b" in sent) == ("1", False)
        status, _, headers = await made.get("/moved")
        assert (status, headers["location"]) == (308, "http://ranker/here")
        assert (await made.get(headers={"x-user": "anna"}))[:2] == (418, "tea")
        _, body, headers = await made.get()
        assert (body, headers["x-from"]) == ("v2", "two")


async def test_faults_hit_their_share_and_unknown_hosts_get_502(tmp_path):
    fault = {"abort": {"httpStatus": 555, "percentage": {"value": 50}}}
    async with ranker(tmp_path, routes({"fault": fault, "route": [to("v1")]})) as (made, *_):
        seen = Counter(status for status, _ in (await made.count(200)).elements())
        # binomial with n = 200, p = 0.5: 69..131 fails once in 100,000 runs
        assert seen[200] + seen[555] == 200
        assert 69 <= seen[555] <= 131
        assert (await made.get(host="nowhere"))[0] == 502


def requests_of(metrics, **wanted):
    """Add up the requests whose labels are as wanted."""
    return sum(
        value
        for (name, labels), value in metrics.items()
        if name == REQUESTS and wanted.items() <= dict(labels).items()
    )


async def test_metrics_count_every_request_once_with_its_outcome_and_version(tmp_path):
    async with ranker(tmp_path, split(50, 50), ports=(8080, 8081)) as (made, v1, v2):
        await made.count(60)
        v2.status = 500
        await made.count(60)
        await made.count(10, port=8081)
        metrics = await made.metrics(130)
        served = {"v1": len(v1.requests), "v2": len(v2.requests)}
    destination = {
        "reporter": "source",
        "destination_service": HOST,
        "destination_service_name": "ranker",
        "destination_service_namespace": "ml",
        "source_workload": "penstock-gateway",
        "request_protocol": "http",
    }
    for version, count in served.items():
        assert requests_of(metrics, destination_version=version, **destination) == count
        histogram = {
            dict(labels)["le"]: value
            for (name, labels), value in metrics.items()
            if name == "envoy_istio_request_duration_milliseconds_bucket"
            and {"destination_version": version, "response_code": "200"}.items() <= dict(labels).items()
        }
        assert histogram["+Inf"] == requests_of(metrics, destination_version=version, response_code="200")
        assert {"0.5", "1", "5", "10", "25", "50", "100", "3600000"} <= set(histogram)
    assert (
        requests_of(metrics, destination_version="v1", response_code="200", response_flags="-")
        == served["v1"]
    )
    assert 0 < requests_of(metrics, destination_version="v2", response_code="500") < served["v2"]


async def test_requests_without_a_healthy_endpoint_keep_the_labels_of_their_destination(tmp_path):
    async with ranker(tmp_path, routes({"route": [to("v3")]})) as (made, v1, v2):
        await made.apply(mesh(v1, v2), rule(subsets=("v1", "v2", "v3")), routes({"route": [to("v3")]}))
        assert (await made.get())[0] == 503
        metrics = await made.metrics(1)
    wanted = {"destination_version": "v3", "response_flags": "UH", "response_code": "503"}
    assert requests_of(metrics, destination_service=HOST, **wanted) == 1


async def test_grpc_requests_carry_the_status_of_the_call(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, v1, _):
        v1.headers = {"content-type": "application/grpc", "grpc-status": "13"}
        status, _, _ = await made.get(method="POST", headers={"content-type": "application/grpc"})
        assert status == 200
        metrics = await made.metrics(1)
    assert requests_of(metrics, request_protocol="grpc", grpc_response_status="13", response_code="200") == 1
    assert requests_of(metrics, request_protocol="http") == 0


async def test_a_listener_that_moves_goes_on_counting(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, *_):
        await made.count(10)
        made.publish |= {8080: pick_port()}
        await made.apply(*made.base, split(100, 0))
        await made.count(10)
        await made.drained()
        await made.count(10)
        assert requests_of(await made.metrics(30), destination_version="v1") == 30


async def test_tcp_connections_are_split_as_the_listener_says(tmp_path):
    def tcp(v1, v2):
        return routes(tcp=[{"route": [to("v1", v1), to("v2", v2)]}])

    async with serving("v1", "v2") as (v1, v2):
        base = (mesh(v1, v2, ports=((5432, "TCP"),)), rule())
        async with gateway(tmp_path, *base, tcp(70, 30), ports=(5432,)) as made:
            seen = Counter()
            for _ in range(200):
                seen[await _over_tcp(made.publish[5432])] += 1
            # binomial with n = 200, p = 0.3: 33..90 fails once in 50,000 runs
            assert seen["v1"] + seen["v2"] == 200
            assert 33 <= seen["v2"] <= 90
            await made.apply(*base, tcp(0, 100))
            await eventually(lambda: all_over_tcp(made.publish[5432], "v2"))


async def all_over_tcp(port, name):
    return {await _over_tcp(port) for _ in range(10)} == {name}


async def _over_tcp(port):
    """Ask whoever is behind a TCP port for its name."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.rpartition(b"\r\n\r\n")[2].decode()


async def test_prometheus_gets_exactly_istio_s_series(tmp_path):
    async with ranker(tmp_path, split(100, 0)) as (made, *_):
        await made.count(25)
        config = prometheus_config(made.admin, "1s")
        async with prometheus(tmp_path, config) as url:
            series = await _series(made.session, url, 25)
    names = {labels["__name__"] for labels in series}
    assert names == {
        "istio_requests_total",
        *(f"istio_request_duration_milliseconds_{part}" for part in ("bucket", "sum", "count")),
    }
    (requests,) = [labels for labels in series if labels["__name__"] == "istio_requests_total"]
    assert {"instance": "penstock-gateway", "destination_version": "v1"}.items() <= requests.items()


@contextlib.asynccontextmanager
async def prometheus(tmp_path, config):
    """Run a real Prometheus with this configuration."""
    port = pick_port()
    (tmp_path / "prometheus.json").write_text(json.dumps(config))
    arguments = [
        f"--config.file={tmp_path / 'prometheus.json'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = await asyncio.create_subprocess_exec(
        prometheus_binary(), *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _series(session, url, requests):
    """Wait until Prometheus knows of all requests; return the labels of every series of the job."""
    query = {"query": '{job="envoy",__name__=~"istio.*"}'}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/api/v1/query", params=query) as response:
                    result = (await response.json())["data"]["result"]
                found = {item["metric"]["__name__"]: float(item["value"][1]) for item in result}
                both = ("istio_requests_total", "istio_request_duration_milliseconds_count")
                if all(found.get(name) == requests for name in both):
                    return [item["metric"] for item in result]
            await asyncio.sleep(0.2)
