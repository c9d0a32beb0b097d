"""Prometheus as a port: the faults on a fake one, the counters on a real one.

Each fault must end in an UnavailableError that says what happened in one short sentence.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import os
import shutil
import socket
import subprocess
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from controller.ports import UnavailableError
from controller.prometheus import PrometheusMetrics
from tests.support.fake_prometheus import fake_prometheus, matrix
from tests.support.promql_corpus import EXPERIMENTAL, INVALID, LINES
from tests.support.protobuf_metrics import CONTENT_TYPE, native_histogram
from tests.support.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.ports import Series

ERRORS = ({"destination_version": "v2"}, [(100, "1"), (110, "3")])
RANGE = {"start": 100, "end": 110, "step": 10}


@pytest.fixture
async def fake():
    async with fake_prometheus() as fake:
        yield fake


@pytest.fixture
async def metrics(fake):
    metrics = PrometheusMetrics(fake.url, timeout=60.0, concurrency=2, max_bytes=10_000)
    yield metrics
    await metrics.close()


async def refused(metrics: PrometheusMetrics) -> str:
    """The words of a failed reading, which are short whatever Prometheus sent."""
    with pytest.raises(UnavailableError) as caught:
        await metrics.read("up", **RANGE)
    words = str(caught.value)
    assert words.startswith(f"Prometheus at {metrics.url} ")
    assert len(words) < 350
    return words.removeprefix(f"Prometheus at {metrics.url} ")


async def test_the_query_is_asked_verbatim_at_aligned_instants(fake, metrics):
    query = "sum by (le) (x{a=~\"b|'c'\"})"
    await metrics.read(query, start=1_700_000_000, end=1_700_000_020, step=10)
    assert fake.asked == [
        {
            "path": "/api/v1/query_range",
            "query": query,
            "start": "1700000000",
            "end": "1700000020",
            "step": "10",
            "timeout": "60s",
        }
    ]


async def test_series_come_with_labels_points_and_gaps(fake, metrics):
    fake.body = matrix(ERRORS, ({"a": "b"}, [(110.0, "2.5e3")]))
    reading = await metrics.read("up", **RANGE)
    assert [(dict(series.labels), series.points) for series in reading.series] == [
        ({"destination_version": "v2"}, ((100, 1.0), (110, 3.0))),
        ({"a": "b"}, ((110, 2500.0),)),
    ]
    assert reading.warnings == ()


async def test_a_native_histogram_is_read_as_buckets_beside_plain_counters(fake, metrics):
    histogram = {"count": "7", "sum": "9", "buckets": [[3, "-0.001", "0.001", "2"], [0, "1", "2", "5"]]}
    native = {"metric": {"version": "v1"}, "histograms": [[100, histogram]], "values": [[110, "3"]]}
    answer = json.loads(matrix(ERRORS))
    answer["data"]["result"].append(native)
    fake.body = json.dumps(answer)
    plain, *buckets, floats = (await metrics.read("x", **RANGE)).series
    assert (plain.native, floats.labels, floats.points) == ("", {"version": "v1"}, ((110, 3.0),))
    found = {series.labels["le"]: series.points for series in buckets}
    assert (found["1.0"], found["2.0"], found["+Inf"]) == (((100, 2.0),), ((100, 7.0),), ((100, 7.0),))
    assert math.isnan(found["0.0009765625"][0][1])


async def test_an_empty_answer_is_an_answer(metrics):
    assert [*(await metrics.read("up", **RANGE)).series] == []


async def test_values_that_are_not_numbers_are_passed_on_for_the_judge_to_see(fake, metrics):
    fake.body = matrix(({}, [(100, "NaN"), (110, "+Inf")]))
    (series,) = (await metrics.read("up", **RANGE)).series
    assert math.isnan(series.points[0][1])
    assert series.points[1] == (110, math.inf)


async def test_warnings_are_kept(fake, metrics):
    fake.body = matrix(ERRORS, warnings=["a store is gone: the answer is partial"])
    reading = await metrics.read("up", **RANGE)
    assert reading.warnings == ("a store is gone: the answer is partial",)
    assert len(reading.series) == 1


async def test_a_compressed_answer_is_read(fake, metrics):
    fake.body, fake.headers = gzip.compress(matrix(ERRORS).encode()), {"Content-Encoding": "gzip"}
    assert len((await metrics.read("up", **RANGE)).series) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 503, "body": "<html>" + "x" * 5_000}, "answers 503 Service Unavailable"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "answers 302 Found"),
        (
            {"status": 400, "body": '{"status": "error", "errorType": "bad_data", "error": "parse error"}'},
            "answers 400 Bad Request: parse error",
        ),
        ({"body": '{"status": "error", "error": "too many"}'}, "reports an error: too many"),
        ({"body": '{"status": "error", "error": "' + "x" * 5_000 + '"}'}, "reports an error: xxx"),
        ({"body": "hello"}, "answers with something that is not JSON"),
        ({"body": "[" * 5_000}, "answers with something that is not JSON"),
        ({"body": b"\xff\xfe\x00"}, "answers with something that is not JSON"),
        ({"body": ""}, "answers with something that is not JSON"),
        ({"body": "[]"}, "reports an error"),
        ({"body": '{"status": "success"}'}, "answers with JSON that is not Prometheus'"),
        ({"body": matrix(({}, [(100, "many")]))}, "answers with JSON that is not Prometheus'"),
        (
            {"body": matrix().replace("[]", '[{"metric": {}, "histograms": [[100, {"sum": "1"}]]}]')},
            "answers with JSON that is not Prometheus'",
        ),
        (
            {"body": '{"status": "success", "data": {"resultType": "vector", "result": []}}'},
            "answers with a vector instead of a matrix",
        ),
        ({"body": matrix(({"a": "b" * 10_000}, []))}, "answers with more than 10000 bytes"),
        (
            {"body": gzip.compress(b" " * 1_000_000), "headers": {"Content-Encoding": "gzip"}},
            "answers with more than 10000 bytes",
        ),
        ({"body": b"not gzip", "headers": {"Content-Encoding": "gzip"}}, "cannot be reached"),
    ],
)
async def test_every_fault_is_unavailable_in_short_words(fake, metrics, change, words):
    for name, value in change.items():
        setattr(fake, name, value)
    assert (await refused(metrics)).startswith(words)


@pytest.mark.parametrize("change", [{"delay": 3.0}, {"body": matrix(ERRORS), "drip": 0.2}])
async def test_an_answer_that_does_not_come_or_does_not_end_is_not_waited_for(fake, change):
    for name, value in change.items():
        setattr(fake, name, value)
    metrics = PrometheusMetrics(fake.url, timeout=0.5)
    assert await refused(metrics) == "does not answer within 0.5 s"
    await metrics.close()


@pytest.mark.parametrize(
    ("date", "refused"),
    [
        ("Fri, 10 Nov 2023 12:00:00 GMT", True),
        ("Fri, 10 Nov 2023 12:59:56 GMT", False),
        ("Fri, 10 Nov 2023 14:00:00 GMT", False),
        ("yesterday", False),
    ],
)
async def test_what_is_yet_to_come_by_prometheus_clock_is_not_taken_for_silence(fake, metrics, date, refused):
    fake.headers = {"Date": date}
    end = 1_699_621_200  # 13:00:00
    asked = metrics.read("up", start=end - 10, end=end, step=5)
    if refused:
        with pytest.raises(UnavailableError, match="has a clock that is 3600 s or more behind ours"):
            await asked
    else:
        assert not list((await asked).series)


async def test_an_error_is_not_asked_again_behind_the_callers_back(fake, metrics):
    fake.status = 503
    await refused(metrics)
    assert len(fake.asked) == 1


async def test_a_range_beyond_prometheus_limit_says_so(metrics):
    with pytest.raises(UnavailableError, match="exceeded maximum resolution"):
        await metrics.read("up", start=0, end=20_000, step=1)


async def test_a_prometheus_that_is_not_there_is_unavailable():
    metrics = PrometheusMetrics(f"http://127.0.0.1:{free_port()}")
    assert "Connection refused" in await refused(metrics)
    with pytest.raises(UnavailableError):
        await metrics.ready()
    await metrics.close()


async def test_a_password_in_the_address_is_used_and_never_told(fake):
    metrics = PrometheusMetrics(fake.url.replace("//", "//me:secret@"), timeout=60)
    fake.status = 401
    with pytest.raises(UnavailableError, match="answers 401") as caught:
        await metrics.ready()
    await metrics.close()
    assert fake.credentials == "Basic bWU6c2VjcmV0"
    assert "secret" not in str(caught.value)


async def test_only_so_many_questions_are_asked_at_once(fake, metrics):
    fake.delay = 0.05
    while fake.busiest < 2:  # on a busy machine one may be answered before the next is asked
        await asyncio.gather(*(metrics.read("up", **RANGE) for _ in range(6)))
    assert fake.busiest == 2


async def test_ready_asks_a_query_since_many_have_no_readiness_page(fake, metrics):
    await metrics.ready()
    fake.status = 503
    with pytest.raises(UnavailableError, match="answers 503"):
        await metrics.ready()
    fake.status, fake.body = 200, "<html>Log in</html>"
    with pytest.raises(UnavailableError, match="answers with something that is not JSON"):
        await metrics.ready()
    assert {(question["path"], question["query"]) for question in fake.asked} == {
        ("/api/v1/query", "vector(1)")
    }


async def test_the_api_is_below_the_path_of_the_address(fake):
    metrics = PrometheusMetrics(f"{fake.url}/api/prom/\n", timeout=60)
    await metrics.ready()
    await metrics.read("up", **RANGE)
    await metrics.close()
    assert [question["path"] for question in fake.asked] == [
        "/api/prom/api/v1/query",
        "/api/prom/api/v1/query_range",
    ]


async def test_credentials_and_proxies_of_the_environment_are_not_used(fake, metrics, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    await metrics.ready()


@pytest.mark.parametrize("lacking", [400, 404, 405, 200])
async def test_a_prometheus_without_a_parser_is_asked_the_query_itself(lacking):
    """VictoriaMetrics answers 400 at a path that it lacks, and a proxy may answer with a page."""

    async def answer(request: web.Request) -> web.Response:
        if request.path != "/api/v1/query":
            return web.Response(status=lacking, text="unsupported path")
        good, time = request.query["query"] == "up", request.query["time"]
        body = {"status": "success"} if good else {"status": "error", "error": f"no PromQL at {time}"}
        return web.json_response(body, status=200 if good else 400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with web_server(app) as port:
        metrics = PrometheusMetrics(f"http://127.0.0.1:{port}", timeout=60)
        assert await metrics.objection("up") == ""
        assert await metrics.objection("up)") == f"{metrics.name} answers 400 Bad Request: no PromQL at 0"
        await metrics.close()


@pytest.mark.parametrize(
    ("status", "body"), [(503, "{}"), (404, ""), (400, "no such page"), (200, "<html>Log in</html>")]
)
async def test_a_prometheus_that_cannot_be_asked_does_not_call_a_query_good(fake, metrics, status, body):
    fake.status, fake.body = status, body
    with pytest.raises(UnavailableError):
        await metrics.objection("up")


# -- a real Prometheus --


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prometheus_binary() -> str:
    """Debian's binary in the cache, or the one on PATH; skip without."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    unpacked = cache / "penstock/prometheus/usr/bin/prometheus"
    found = shutil.which("prometheus") or (str(unpacked) if unpacked.exists() else None)
    if not found:
        pytest.skip("no prometheus binary on this machine")
    return found


class Target:
    """A process as Prometheus sees it: what it answers to scrapes, and that it was scraped."""

    def __init__(self, page: Callable[[], web.Response]) -> None:
        self._page = page
        self._scraped = asyncio.Event()

    @asynccontextmanager
    async def serving(self):
        """Serve until the block ends; yields the port."""
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        async with web_server(app) as port:
            yield port

    async def _answer(self, _request: web.Request) -> web.Response:
        self._scraped.set()
        return self._page()

    async def settled(self) -> int:
        """Return a whole second of now, once Prometheus has all of it that it will ever have."""
        instant = math.ceil(time.time())
        await asyncio.sleep(max(0, instant - time.time()))
        for _ in range(2):  # the first may have begun before; at the second it is stored or given up
            self._scraped.clear()
            await self._scraped.wait()
        return instant


def counters_page(counters: dict[str, int], *names: str) -> web.Response:
    values = [(name, *item) for name in names for item in counters.items()]
    return web.Response(text="".join(f'{name}{{version="{v}"}} {n}\n' for name, v, n in values))


@asynccontextmanager
async def running_prometheus(folder: Path, port: int, target: int, *flags: str):
    config = {
        "scrape_configs": [
            {"job_name": "x", "scrape_interval": "200ms", "scrape_timeout": "200ms"}
            | {"static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ]
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [
            prometheus_binary(),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            *flags,
        ],
        stderr=subprocess.DEVNULL,
    )
    metrics = PrometheusMetrics(f"http://127.0.0.1:{port}", timeout=60)
    try:
        await until_ready(metrics)
        yield metrics
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)
        await metrics.close()


async def until_ready(metrics: PrometheusMetrics) -> None:
    async with asyncio.timeout(90):
        while True:
            with suppress(UnavailableError):
                return await metrics.ready()
            await asyncio.sleep(0.05)


@pytest.mark.real
async def test_a_real_prometheus_gives_exact_counters_over_a_reset_and_its_own_restart(tmp_path):
    counters, port = {}, free_port()
    process = Target(lambda: counters_page(counters, "requests_total"))
    query = "sum by (version, instance) (requests_total)"

    async def at(metrics: PrometheusMetrics, instant: int) -> dict[str, float]:
        reading = await metrics.read(query, start=instant - 1, end=instant, step=1)
        assert {series.labels["instance"] for series in reading.series} <= {f"127.0.0.1:{target}"}
        values = {series.labels["version"]: dict(series.points) for series in reading.series}
        return {version: points[instant] for version, points in values.items() if instant in points}

    async def grown(metrics: PrometheusMetrics, **to: int) -> int:
        """Set the counters; return an instant at which they are known.

        A scrape that was late leaves nothing there, and the very first one what was known before.
        """
        nothing_new = {}, counters.copy()
        counters.clear()
        counters.update(to)
        while (found := await at(metrics, instant := await process.settled())) in nothing_new:
            continue
        assert found == to
        return instant

    async with process.serving() as target:
        async with running_prometheus(tmp_path, port, target) as metrics:
            first = await grown(metrics, v1=1_000_000)
            second = await grown(metrics, v1=1_000_250, v2=3)
            await grown(metrics, v1=7, v2=1)
            assert await at(metrics, first) == {"v1": 1_000_000}
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await PrometheusMetrics(f"http://127.0.0.1:{port}").ready()
        async with running_prometheus(tmp_path, port, target) as metrics:
            last = await grown(metrics, v1=9, v2=2)
            assert await at(metrics, second) == {"v1": 1_000_250, "v2": 3}
            with pytest.raises(UnavailableError, match="400 Bad Request"):
                await metrics.read("sum by (", start=last, end=last, step=1)


async def series_of(process: Target, metrics: PrometheusMetrics, query: str) -> tuple[int, list[Series]]:
    """Return an instant, and what a query gives there; a scrape that was late has nothing."""
    while True:
        instant = await process.settled()
        if found := [*(await metrics.read(query, start=instant, end=instant, step=1)).series]:
            return instant, found


@pytest.mark.real
async def test_a_real_prometheus_keeps_the_names_that_tell_a_sum_from_its_count(tmp_path):
    process = Target(lambda: counters_page({"v1": 3, "v2": 1}, "score_sum", "score_count"))
    query = 'sum by (__name__, version, instance) ({__name__=~"score_(sum|count)"})'
    async with (
        process.serving() as target,
        running_prometheus(tmp_path, free_port(), target) as metrics,
    ):
        _, found = await series_of(process, metrics, query)
    names = {(series.labels["__name__"], series.labels["version"]) for series in found}
    assert names == {(name, version) for name in ("score_sum", "score_count") for version in ("v1", "v2")}


@pytest.mark.real
async def test_a_real_prometheus_gives_exact_bucket_counts_of_native_histograms(tmp_path):
    """Two processes with different schemas are summed; Prometheus lowers the finer one to the coarser."""
    fine, coarse = {"version": "v1", "process": "a"}, {"version": "v1", "process": "b"}
    query, flag = "sum by (version, instance, le) (latency_seconds)", "--enable-feature=native-histograms"
    counts = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    # schema 2: bucket i ends at 2^(i / 4), so these are 2^-1.25 .. 2^0.75; schema 0: 2^-1 .. 2^1
    body = native_histogram("latency_seconds", [(fine, 2, -5, counts), (coarse, 0, -1, [10, 20, 30])])
    process = Target(lambda: web.Response(body=body, headers={"Content-Type": CONTENT_TYPE}))
    async with (
        process.serving() as target,
        running_prometheus(tmp_path, free_port(), target, flag) as metrics,
    ):
        instant, buckets = await series_of(process, metrics, query)
    found = {series.labels["le"]: dict(series.points)[instant] for series in buckets}
    assert {series.labels["version"] for series in buckets} == {"v1"}
    assert found["0.25"] == 2, "only the two zero buckets"
    assert found["0.5"] == 2 + (1 + 2) + 10
    assert found["1.0"] == 2 + (1 + 2 + 3 + 4 + 5 + 6) + 30
    assert found["2.0"] == found["4096.0"] == found["+Inf"] == 2 + sum(counts) + 60


@pytest.mark.real
async def test_a_real_prometheus_agrees_on_what_is_promql(tmp_path):
    """With what is found without one: it takes all that is no problem, and nothing that is one."""
    async with running_prometheus(tmp_path, free_port(), free_port()) as metrics:
        common = [line for line in LINES if not any(each in line for each in EXPERIMENTAL)]
        refused = {line: words for line in common if (words := await metrics.objection(line))}
        assert refused == {}
        taken = [query for query, *_ in INVALID if not await metrics.objection(query)]
        assert taken == []
        assert "parse error" in await metrics.objection("sum(up")
