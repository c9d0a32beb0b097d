"""The client of the API server, against a server that misbehaves on demand.

Covered: each kind of answer, deadlines, waiting as told, fencing, credentials, pages and watches. Not here:
what a real API server answers (test_store.py, on the real one).
"""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes.aio.config import incluster_config

from controller.cluster import connection, kube
from controller.cluster.answers import ForbiddenError, GoneError, Request, error_of
from controller.cluster.kube import Kube, Lines
from controller.cluster.resources import PODS, WATCHED
from controller.ports import ConflictError, NotFoundError, RefusedError, UnavailableError
from tests.support.kube_server import Answer, kube_server, until

VS = next(each for each in WATCHED if each.kind == "VirtualService")
GET = Request("get", VS, "ml", "ranker")
PATCH = Request("patch", VS, "ml", "ranker")
WEIGHT = [{"op": "replace", "path": "/spec", "value": {"weight": 5}}]


@pytest.fixture
async def server():
    async with kube_server() as running:
        running.put("virtualservices", "ranker", spec={"weight": 1})
        yield running


@pytest.fixture
async def client(server, tmp_path):
    opened = await Kube.open(server.kubeconfig(tmp_path / "config"))
    yield opened
    await opened.close()


@pytest.fixture
def waits(client):
    """How long the client slept, which takes no time here."""
    found = []

    async def sleep(seconds):
        found.append(seconds)

    client.sleep = sleep
    return found


async def test_an_object_is_read_with_the_token_of_the_kubeconfig(server, client):
    assert (await client.call(GET))["spec"] == {"weight": 1}
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    assert server.headers[-1]["User-Agent"] == "penstock"
    assert client.namespace == "ml"


async def test_a_list_is_a_json_patch_and_a_dict_a_merge_patch(server, client):
    assert (await client.call(PATCH, WEIGHT, params={"fieldManager": "ann"}))["spec"] == {"weight": 5}
    assert server.headers[-1]["Content-Type"] == "application/json-patch+json"
    assert server.requests[-1].endswith("/namespaces/ml/virtualservices/ranker?fieldManager=ann")
    await client.call(PATCH, {"spec": {"weight": 6}})
    assert server.headers[-1]["Content-Type"] == "application/merge-patch+json"


_INVALID = {"message": "weight is too big", "details": {"causes": [{"field": "spec.weight"}]}}


@pytest.mark.parametrize(
    ("request_", "code", "status", "error", "words"),
    [
        (GET, 404, {"message": "gone"}, NotFoundError, "nothing to get virtualservices.networking.istio.io"),
        (PATCH, 409, {"message": "modified"}, ConflictError, "modified"),
        (PATCH, 422, {"details": {}}, ConflictError, "not the one that was read"),
        (PATCH, 422, _INVALID, RefusedError, "422 to patch virtualservices.*weight is too big"),
        (Request("list", VS), 410, {}, GoneError, "too late to list"),
        (
            Request("list", VS), 403, {"message": "no"}, ForbiddenError,
            r"not allowed to list virtualservices.networking.istio.io at the cluster scope \(403\): no",
        ),
        (
            Request("patch", WATCHED[0], "ml", "x", "status"), 403, {}, ForbiddenError,
            "not allowed to patch rolloutpolicies/status.penstock.dev in namespace ml",
        ),
        (Request("list", PODS, "ml"), 403, {}, ForbiddenError, "list pods in namespace ml"),
        (GET, 401, {}, UnavailableError, "does not accept our credentials"),
        (GET, 500, {"message": "etcd timed out"}, UnavailableError, "answered 500 .*etcd timed out"),
        (GET, 502, {}, UnavailableError, "answered 502"),
    ],
)  # fmt: skip
def test_each_refusal_is_an_error_with_its_words(request_, code, status, error, words):
    with pytest.raises(error, match=words) as caught:
        raise error_of(request_, code, status)
    assert type(caught.value) is error


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for_and_then_it_works(server, client, waits, status):
    server.answers += [Answer(status, headers={"Retry-After": "2"})] * 2
    assert (await client.call(GET))["spec"] == {"weight": 1}
    assert [2 <= each <= 2.5 for each in waits] == [True, True]


async def test_too_many_requests_without_a_time_is_waited_for_a_second(server, client, waits):
    server.answers.append(Answer(429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}))
    await client.call(GET)
    assert 1 <= waits[0] <= 1.25


async def test_a_wait_that_outlasts_the_deadline_is_not_begun(server, client, waits):
    server.answers.append(Answer(429, "slow down", {"Retry-After": "60"}))
    with pytest.raises(UnavailableError, match=r"429 .*slow down"):
        await client.call(GET)
    assert waits == []


async def test_an_error_of_the_server_is_not_asked_again(server, client):
    server.answers.append(Answer(500, "boom"))
    with pytest.raises(UnavailableError, match=r"answered 500 .*boom"):
        await client.call(PATCH, WEIGHT)
    assert len(server.requests) == 1


async def test_a_slow_answer_ends_at_the_deadline(server, client):
    server.answers.append(Answer(delay=30))
    with pytest.raises(UnavailableError, match="did not answer in time"):
        await client.call(GET, within=0.1)
    server.answers.clear()  # on a busy machine it may not even have been asked
    assert (await client.call(GET))["spec"] == {"weight": 1}


async def test_a_connection_that_is_reset_is_unavailable(server, client):
    server.answers.append(Answer(reset=True, status=200))
    with pytest.raises(UnavailableError, match=r"cannot be reached \(the connection was lost\)"):
        await client.call(PATCH, WEIGHT)


async def test_no_server_is_unavailable(tmp_path):
    async with kube_server() as server:
        client = await Kube.open(server.kubeconfig(tmp_path / "config"))
    with pytest.raises(
        UnavailableError, match=r"http://127.0.0.1:\d+ cannot be reached \(Connection refused\)"
    ):
        await client.call(GET)
    await client.close()


@pytest.fixture
def tls(tmp_path):
    """Return the TLS context of a server."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=silent", "-days", "1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
async def silent(tls, tmp_path):
    """Yield a kubeconfig for a server that shakes hands by TLS, and then says nothing more."""
    writers = []
    running = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0, ssl=tls)
    port = running.sockets[0].getsockname()[1]
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x",
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    yield tmp_path / "config"
    for writer in writers:
        writer.transport.abort()
    running.close()


@pytest.mark.real
async def test_no_socket_outlives_the_connection_however_the_server_hangs(silent):
    opened = await connection.Connection.open(silent)
    client, sockets = Kube(opened), opened._sockets
    with pytest.raises(UnavailableError, match="did not answer in time"):
        await client.call(GET, within=1.0)
    [made] = sockets
    await client.close()
    assert made.fileno() == -1


async def test_the_kernel_does_not_send_again_for_minutes(server, tmp_path):
    opened = await connection.Connection.open(server.kubeconfig(tmp_path / "config"))
    await Kube(opened).call(GET)
    [made] = opened._sockets
    assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
    await opened.close()


@pytest.fixture
async def http_proxy():
    """Yield the address of a proxy that opens no way, and the heads of the requests that it was given."""
    heads = []

    async def refuse(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Not that way\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(refuse, "127.0.0.1", 0)
    yield f"127.0.0.1:{running.sockets[0].getsockname()[1]}", heads
    running.close()
    await running.wait_closed()


@pytest.mark.real
async def test_the_proxy_that_the_environment_names_is_used_with_its_password(
    server, tmp_path, monkeypatch, http_proxy
):
    address, heads = http_proxy
    monkeypatch.setenv("https_proxy", f"http://me:se%40cret@{address}")
    path = server.kubeconfig(tmp_path / "config")
    path.write_text(path.read_text().replace(server.url, "https://api.invalid"))
    client = await Kube.open(path)
    with pytest.raises(UnavailableError, match="Not that way"):
        await client.call(GET)
    await client.close()
    first, *headers = heads[0].split("\r\n")
    assert first.startswith("CONNECT api.invalid:443 ")
    assert "Proxy-Authorization: Basic bWU6c2VAY3JldA==" in headers
    assert not any(header.startswith("Authorization") for header in headers)  # our token is not the proxy's


@pytest.mark.real
async def test_a_server_that_the_environment_excepts_is_asked_directly(
    server, tmp_path, monkeypatch, http_proxy
):
    address, heads = http_proxy
    monkeypatch.setenv("http_proxy", f"http://{address}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    client = await Kube.open(server.kubeconfig(tmp_path / "config"))
    assert (await client.call(GET))["spec"] == {"weight": 1}
    await client.close()
    assert heads == []


async def test_a_password_for_the_same_host_in_a_netrc_is_not_ours_to_use(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    client = await Kube.open(server.kubeconfig(tmp_path / "config"))
    await client.call(GET)
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    await client.close()


async def test_a_request_needs_no_thread(server, client):
    asyncio.get_running_loop().set_default_executor(NoThreads())
    assert (await client.call(GET))["spec"] == {"weight": 1}


class NoThreads(ThreadPoolExecutor):
    def submit(self, *_args, **_more):
        raise AssertionError("a thread was asked for")


async def test_an_answer_that_is_no_json_is_unavailable(server, client):
    server.answers.append(Answer(200, body=b"<html>please log in</html>"))
    with pytest.raises(UnavailableError, match="something else than JSON"):
        await client.call(GET)


async def test_an_answer_is_bounded(server, client, monkeypatch):
    monkeypatch.setattr(kube, "MAX_ANSWER", 1000)
    server.answers.append(Answer(200, body=b"x" * 100_000))
    with pytest.raises(UnavailableError, match="longer than 1000 bytes"):
        await client.call(GET)


# fencing


class DeposedError(UnavailableError):
    pass


async def test_nothing_is_written_when_the_fence_says_no_and_reads_go_on(server, client):
    def refuse():
        raise DeposedError("this process does not lead")

    client.before_write = refuse
    with pytest.raises(DeposedError):
        await client.call(PATCH, WEIGHT)
    assert server.requests == []
    await client.call(GET)
    await client.call(PATCH, WEIGHT, fenced=False)


async def test_the_fence_is_asked_again_before_a_write_is_sent_again(server, client, waits):
    asked = []

    def once():
        asked.append(1)
        if len(asked) > 1:
            raise DeposedError("this process does not lead any more")

    client.before_write = once
    server.answers.append(Answer(429, headers={"Retry-After": "1"}))
    with pytest.raises(DeposedError):
        await client.call(PATCH, WEIGHT)
    assert len(server.requests) == 1
    assert len(waits) == 1


async def test_a_write_takes_no_longer_than_the_lease_has_left(server, client):
    client.write_deadline = lambda: 0.1
    server.answers.append(Answer(delay=30))
    with pytest.raises(UnavailableError, match="did not answer in time"):
        await client.call(PATCH, WEIGHT)
    client.write_deadline, sent = lambda: 0.0, len(server.requests)
    with pytest.raises(UnavailableError, match="no time left"):
        await client.call(PATCH, WEIGHT)
    assert len(server.requests) == sent


# credentials


async def test_credentials_that_are_refused_are_loaded_again_once(server, client, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "RENEW_SECONDS", 0.0)
    server.kubeconfig(tmp_path / "config", token="rotated\n")
    server.answers.append(Answer(401))
    assert (await client.call(GET))["spec"] == {"weight": 1}
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer secret", "Bearer rotated"]


async def test_credentials_that_stay_refused_are_unavailable(server, client, monkeypatch):
    monkeypatch.setattr(connection, "RENEW_SECONDS", 0.0)
    server.answers += [Answer(401), Answer(401)]
    with pytest.raises(UnavailableError, match="does not accept our credentials"):
        await client.call(GET)
    assert len(server.requests) == 2


async def test_many_that_are_refused_at_once_load_credentials_once(server, client, monkeypatch):
    loaded = []
    load = connection.Connection._load

    async def counted(self):
        loaded.append(1)
        await load(self)

    monkeypatch.setattr(connection, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(connection.Connection, "_load", counted)
    server.answers += [Answer(401, after=10) for _ in range(10)]
    await asyncio.gather(*(client.call(GET) for _ in range(10)))
    assert len(loaded) == 1


async def test_credentials_that_were_just_loaded_are_not_loaded_again(server, client, monkeypatch):
    monkeypatch.setattr(connection, "RENEW_SECONDS", 3600.0)
    server.answers.append(Answer(401))
    with pytest.raises(UnavailableError, match="credentials"):
        await client.call(GET)
    assert len(server.requests) == 1


async def test_a_plugin_of_the_kubeconfig_gives_the_token(server, tmp_path):
    path = server.kubeconfig(tmp_path / "config")
    config = json.loads(path.read_text())
    told = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    told["status"] = {"token": "from-the-plugin"}
    plugin = {"apiVersion": told["apiVersion"], "command": "echo", "args": [json.dumps(told)]}
    config["users"][0]["user"] = {"exec": plugin}
    path.write_text(json.dumps(config))
    client = await Kube.open(path)
    await client.call(GET)
    assert server.headers[-1]["Authorization"] == "Bearer from-the-plugin"
    await client.close()


@pytest.mark.parametrize("text", [None, "", "no: [yaml", "clusters: 3", '{"current-context": "x"}'])
async def test_a_kubeconfig_that_cannot_be_used_is_unavailable(tmp_path, text):
    if text is not None:
        (tmp_path / "config").write_text(text)
    with pytest.raises(UnavailableError, match=r"the kubeconfig .*config cannot be used"):
        await Kube.open(tmp_path / "config")


async def test_without_a_kubeconfig_and_outside_of_a_pod_there_is_no_connection(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"\.kube/config cannot be used"):
        await Kube.open()


async def test_in_a_pod_the_token_of_its_service_account_is_read_again(server, tmp_path, monkeypatch):
    for name, text in {"token": "first\n", "ca.crt": "unused", "namespace": "ops\n"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.setattr(connection, "_POD", tmp_path)
    loader = incluster_config.InClusterConfigLoader
    read = {}

    def load(client_configuration):
        read["loader"] = loader(str(tmp_path / "token"), str(tmp_path / "ca.crt"))
        read["loader"].load_and_set(client_configuration)
        client_configuration.host, client_configuration.ssl_ca_cert = server.url, None
        read["loader"].host, read["loader"].ssl_ca_cert = server.url, None

    monkeypatch.setattr("kubernetes.aio.config.load_incluster_config", load)
    client = await Kube.open()
    await client.call(GET)
    (tmp_path / "token").write_text("second\n")
    read["loader"].token_expires_at -= read["loader"]._token_refresh_period
    await client.call(GET)
    assert client.namespace == "ops"
    assert [each["Authorization"] for each in server.headers] == ["bearer first", "bearer second"]
    await client.close()


def test_the_import_does_not_load_the_vendor():
    code = "import sys, controller.cluster.store; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# pages and watches


async def test_a_list_comes_in_pages(server, client, monkeypatch):
    monkeypatch.setattr(kube, "PAGE", 2)
    for number in range(4):
        server.put("virtualservices", f"v{number}")
    found = [(len(items), version) async for items, version in client.pages(VS, None)]
    assert found == [(2, "105"), (2, "105"), (1, "105")]


async def test_a_list_whose_rest_is_too_old_is_gone(server, client, monkeypatch):
    monkeypatch.setattr(kube, "PAGE", 1)
    server.put("virtualservices", "other")
    pages = client.pages(VS, None)
    await anext(pages)
    server.forget()
    with pytest.raises(GoneError):
        await anext(pages)


async def test_a_watch_tells_changes_however_they_are_cut(server, client):
    server.chunk = 7
    async with client.watch(VS, "ml", "100", 60) as events:
        assert (await anext(events))[0] == "ADDED"
        server.put("virtualservices", "ranker", spec={"text": "ü" * 50})
        type_, obj = await anext(events)
        assert (type_, obj["spec"]["text"]) == ("MODIFIED", "ü" * 50)
        server.bookmark("virtualservices")
        assert (await anext(events))[0] == "BOOKMARK"


async def test_a_line_that_was_not_finished_is_not_told(server, client):
    async with client.watch(VS, None, "101", 60) as events:
        await until(lambda: server.watches)
        server.raw("virtualservices", b'{"type":"MODIFIED","object":{}}')
        server.end_watches()
        assert [event async for event in events] == []


@pytest.mark.parametrize(("since", "code", "error"), [("1", 410, GoneError), ("101", 500, UnavailableError)])
async def test_an_error_in_a_watch_is_raised(server, client, since, code, error):
    async with client.watch(VS, None, since, 60) as events:
        await until(lambda: server.watches)
        if code == 500:
            server.error("virtualservices", 500, "etcd is down")
        with pytest.raises(error):
            await anext(events)


async def test_a_reset_in_the_middle_of_a_line_is_unavailable(server, client):
    async with client.watch(VS, None, "101", 60) as events:
        await until(lambda: server.watches)
        server.raw("virtualservices", b'{"type":"MODIF')
        server.end_watches(abort=True)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await anext(events)


async def test_a_watch_that_says_nothing_is_dead(server, client, monkeypatch):
    monkeypatch.setattr(kube, "SILENCE", 0.1)
    async with client.watch(VS, None, "101", 60) as events:
        with pytest.raises(UnavailableError, match="did not answer in time"):
            await anext(events)


async def test_a_watch_that_outlasts_its_time_is_dead(server, client, monkeypatch):
    monkeypatch.setattr(kube, "SLACK", -0.9)
    async with client.watch(VS, None, "101", 1) as events:
        with pytest.raises(UnavailableError, match="did not answer in time"):
            await anext(events)


async def test_a_line_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(kube, "MAX_LINE", 10)
    lines = Lines()
    assert lines.feed(b"{}\n\n{") == [b"{}"]
    with pytest.raises(UnavailableError, match="longer than 10 bytes"):
        lines.feed(b"x" * 11)


async def test_the_observer_is_told_of_each_request(server, tmp_path):
    told = []
    client = await Kube.open(server.kubeconfig(tmp_path / "config"), observe=lambda *each: told.append(each))
    await client.call(GET)
    server.answers.append(Answer(500))
    with pytest.raises(UnavailableError):
        await client.call(PATCH, WEIGHT)
    server.answers.append(Answer(reset=True, status=200))
    with pytest.raises(UnavailableError):
        await client.call(PATCH, WEIGHT)
    name = "virtualservices.networking.istio.io"
    assert [each[:3] for each in told] == [("get", name, 200), ("patch", name, 500), ("patch", name, 0)]
    assert all(seconds >= 0 for *_, seconds in told)
    await client.close()
