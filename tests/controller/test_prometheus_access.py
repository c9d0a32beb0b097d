"""A guarded Prometheus: a real TLS server with a private authority that looks at what it is sent.

What goes wrong is told in a sentence that names the file, the option or the header, and repeats no secret.
"""

from __future__ import annotations

import json
import logging
import subprocess
import traceback
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ports import UnavailableError
from controller.prometheus import PrometheusMetrics
from controller.prometheus_access import Access, AccessError, read_headers, without_password, without_secrets
from tests.support.certificates import Authority
from tests.support.fake_prometheus import fake_prometheus
from tests.support.guarded_prometheus import guarded_prometheus

RANGE = {"start": 100, "end": 110, "step": 10}
TOKEN, OTHER = "eyJhbGciOi.first-token_1", "eyJhbGciOi.second-token"
SAFE, PLAIN = "https://127.0.0.1:1", "http://127.0.0.1:1"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ours")


@pytest.fixture
def guarded(authority):
    with guarded_prometheus(authority.server()) as guarded:
        yield guarded


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@asynccontextmanager
async def metrics_of(url, **access):
    metrics = PrometheusMetrics(url, access=Access(**access), timeout=60.0)
    try:
        yield metrics
    finally:
        await metrics.close()


async def refused(metrics) -> str:
    with pytest.raises(UnavailableError) as caught:
        await metrics.read("up", **RANGE)
    return str(caught.value).removeprefix(metrics.name + " ")


def renew(path, content):
    """Put another file in the place of one, as Kubernetes and cert-manager do."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


async def test_a_token_goes_by_a_private_authority_and_is_read_again_when_it_changes(
    authority, guarded, token
):
    url = guarded.url.replace("https://", "HTTPS://")
    async with metrics_of(url, token_file=token, ca_file=authority.certificate) as metrics:
        guarded.wants = {"Authorization": f"Bearer {TOKEN}"}
        await metrics.read("up", **RANGE)
        guarded.wants = {"Authorization": f"Bearer {OTHER}"}
        assert await refused(metrics) == f"answers 401 Unauthorized; asked with the token from {token}"
        token.write_text(OTHER)
        await metrics.read("up", **RANGE)
        await metrics.ready()


async def test_a_token_that_is_gone_for_a_while_is_unavailable_for_as_long(authority, guarded, token):
    async with metrics_of(guarded.url, token_file=token, ca_file=authority.certificate) as metrics:
        away = token.rename(token.with_name("away"))
        asked = f"cannot be asked: the token file {token} cannot be read: No such file or directory"
        assert await refused(metrics) == asked
        assert guarded.asked == []
        away.rename(token)
        await metrics.read("up", **RANGE)


async def test_whom_to_trust_is_read_again_when_it_changes_and_is_nobody_else(authority, guarded, tmp_path):
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(Authority(tmp_path / "theirs").certificate.read_bytes())
    async with metrics_of(guarded.url, ca_file=trusted) as metrics, metrics_of(guarded.url) as public:
        for each in (metrics, public):
            assert (await refused(each)).startswith("cannot be reached (its certificate is not trusted: ")
        assert guarded.asked == []
        renew(trusted, authority.certificate.read_bytes())
        await metrics.read("up", **RANGE)
        trusted.unlink()
        gone = f"cannot be asked: the CA file {trusted} cannot be read: No such file or directory"
        assert await refused(metrics) == gone


def test_a_file_alone_is_trusted_and_the_public_authorities_otherwise(authority):
    private, public = Access(ca_file=authority.certificate).tls(), Access().tls()
    assert len(private.get_ca_certs()) == 1
    assert len(public.get_ca_certs()) > 20
    assert public.check_hostname


def test_connections_are_prepared_once_and_not_for_each_query(authority):
    access = Access(ca_file=authority.certificate)
    first = access.tls()
    assert access.tls() is first
    renew(authority.certificate, authority.certificate.read_bytes())
    assert access.tls() is not first


async def test_a_server_that_wants_a_certificate_gets_it(authority):
    mine = authority.issue("penstock")
    both = authority.certificate.with_name("both.pem")
    both.write_bytes(mine.certificate.read_bytes() + mine.key.read_bytes())
    with guarded_prometheus(authority.server(clients=True)) as guarded:
        for files in ({"cert_file": mine.certificate, "key_file": mine.key}, {"cert_file": both}):
            async with metrics_of(guarded.url, ca_file=authority.certificate, **files) as metrics:
                await metrics.read("up", **RANGE)
        async with metrics_of(guarded.url, ca_file=authority.certificate) as metrics:
            assert (await refused(metrics)).startswith("cannot be reached (")
        assert len(guarded.asked) == 2


async def test_what_was_sent_is_told_where_it_was_not_enough(token, tmp_path):
    async with fake_prometheus() as fake:
        fake.status, fake.body = 401, "no org id"
        with_password = fake.url.replace("//", "//me:hunter2hunter2@")
        org = {"X-Scope-OrgID": "tenant-of-ours"}
        for url, access, words in (
            (fake.url, {}, "without credentials"),
            (fake.url, {"token_file": token}, f"with the token from {token}"),
            (with_password, {}, "with the user and password of its address"),
            (fake.url, {"headers": org}, "with the header X-Scope-OrgID"),
            (
                with_password,
                {"headers": org},
                "with the user and password of its address, the header X-Scope-OrgID",
            ),
        ):
            async with metrics_of(url, **access) as metrics:
                assert await refused(metrics) == f"answers 401 Unauthorized; asked {words}"
        fake.status = 403
        async with metrics_of(fake.url) as metrics:
            assert await refused(metrics) == "answers 403 Forbidden; asked without credentials"


async def test_a_header_that_is_missing_is_missed(authority, guarded):
    guarded.wants = {"X-Scope-OrgID": "team"}
    trust = {"ca_file": authority.certificate}
    async with metrics_of(guarded.url, **trust) as metrics:
        assert await refused(metrics) == "answers 401 Unauthorized; asked without credentials"
    async with metrics_of(guarded.url, headers=guarded.wants, **trust) as metrics:
        await metrics.read("up", **RANGE)


async def test_no_redirect_carries_credentials_elsewhere(token):
    async with fake_prometheus() as fake, fake_prometheus() as other:
        fake.status, fake.headers = 302, {"Location": f"{other.url}/login"}
        async with metrics_of(fake.url, token_file=token, headers={"X-Key": "value-of-key"}) as metrics:
            assert await refused(metrics) == (
                "answers 302 Found, and redirects are not followed;"
                f" asked with the token from {token}, the header X-Key"
            )
        assert other.asked == []


@pytest.mark.parametrize("status", [400, 401, 403, 500])
async def test_no_secret_is_told_even_if_the_server_repeats_it(token, caplog, status):
    secret = "value-of-the-key"
    async with fake_prometheus() as fake:
        fake.status, fake.reason = status, f"No {TOKEN}"
        said = f"{TOKEN} hunter2hunter2 {secret} bWU6aHVudGVyMmh1bnRlcjI="
        fake.body = json.dumps({"status": "error", "error": said})
        password = fake.url.replace("//", "//me:hunter2hunter2@")
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="urllib3"):
            for url, access in ((fake.url, {"token_file": token}), (password, {})):
                async with metrics_of(url, headers={"X-Key": secret}, **access) as metrics:
                    with pytest.raises(UnavailableError) as caught:
                        await metrics.read("up", **RANGE)
                    told = "".join(traceback.format_exception(caught.value)) + caplog.text + metrics.name
                    told += repr(Access(headers={"X-Key": secret}, **access))
                    mine = {TOKEN} if access else {"hunter2", "bWU6aHVudGVyMmh1bnRlcjI="}
                    assert not [each for each in (secret, *mine) if each in told]
    assert caplog.text, "requests and urllib3 did log"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], {}),
        (["X-Scope-OrgID=a|b"], {"X-Scope-OrgID": "a|b"}),
        ([" Authorization=Basic bWU6c2VjcmV0==\n"], {"Authorization": "Basic bWU6c2VjcmV0=="}),
        (["A=1", "B=2 3"], {"A": "1", "B": "2 3"}),
    ],
)
def test_headers_are_read(lines, found):
    assert read_headers(lines) == found


@given(st.text(), st.text(min_size=4))
def test_whatever_is_no_header_is_refused_without_being_repeated(name, value):
    line = f"{name}={value}"
    try:
        (made,) = read_headers([line]).items()
    except AccessError as error:
        made, told = None, str(error)
    if made:
        assert "=".join(made) == line.strip()
        assert line.strip().isascii()
        assert not set(line.strip()) & set("\r\n\0")
    else:
        assert told == "must be NAME=VALUE in plain ASCII, such as X-Scope-OrgID=team"


def test_a_header_that_is_given_twice_is_refused_however_it_is_written():
    with pytest.raises(AccessError, match="x-key is given twice"):
        read_headers(["X-Key=one", "x-key=two"])


@pytest.mark.parametrize(
    ("url", "access", "option", "words"),
    [
        ("prometheus:9090", {}, "url", "must be http(s)://HOST"),
        ("ftp://host", {}, "url", "must be http(s)://HOST"),
        ("http://", {}, "url", "must be http(s)://HOST"),
        ("http://host:port", {}, "url", "must be http(s)://HOST"),
        ("https://me:pass/word@host", {}, "url", "such as %40"),
        ("https://me:1/word@host", {}, "url", "such as %40"),
        ("https://me:%E2%82%ACword@host", {}, "url", "such as %40"),
        ("https://me:pass?word@host", {}, "url", "such as %40"),
        ("https://me:pass#word@host", {}, "url", "such as %40"),
        (SAFE, {"token_file": "token", "headers": {"authorization": "x"}}, "token-file", "two credentials"),
        ("https://me@host", {"token_file": "token"}, "token-file", "two credentials"),
        ("https://me@host", {"headers": {"Authorization": "x"}}, "header", "give one"),
        (SAFE, {"key_file": "token"}, "key-file", "without --prometheus-cert-file"),
        (PLAIN, {"ca_file": "token"}, "ca-file", "not https://"),
        (PLAIN, {"cert_file": "token"}, "cert-file", "not https://"),
        (PLAIN, {"token_file": "missing"}, "token-file", "missing cannot be read: No such file"),
        (PLAIN, {"token_file": "."}, "token-file", "cannot be read: Is a directory"),
        (PLAIN, {"token_file": "empty"}, "token-file", "empty is empty"),
        (PLAIN, {"token_file": "lines"}, "token-file", "lines holds no token"),
        (PLAIN, {"token_file": "binary"}, "token-file", "binary holds no token"),
        (SAFE, {"ca_file": "missing"}, "ca-file", "missing cannot be read: No such file"),
        (SAFE, {"ca_file": "."}, "ca-file", "cannot be read: Is a directory"),
        (SAFE, {"ca_file": "empty"}, "ca-file", "holds no certificate in PEM"),
        (SAFE, {"ca_file": "binary"}, "ca-file", "holds no certificate in PEM"),
        (SAFE, {"cert_file": "missing"}, "cert-file", "missing cannot be read: No such file"),
        (SAFE, {"cert_file": "ours/ca.crt", "key_file": "missing"}, "key-file", "missing cannot be read"),
        (SAFE, {"cert_file": "ours/ca.crt"}, "cert-file", "must be PEM, without a passphrase, and belong"),
        (SAFE, {"cert_file": "ours/ca.crt", "key_file": "lines"}, "cert-file", "must be PEM"),
        (SAFE, {"cert_file": "ours/ca.crt", "key_file": "locked"}, "cert-file", "without a passphrase"),
        (SAFE, {"cert_file": "ours/ca.crt", "key_file": "theirs/ca.key"}, "cert-file", "belong together"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(
    tmp_path, token, authority, url, access, option, words
):
    Authority(tmp_path / "theirs")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "lines").write_text("first-secret\nsecond-secret\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    lock = ("openssl", "ec", "-aes128", "-passout", "pass:hello", "-in", tmp_path / "ours" / "ca.key")
    subprocess.run([*lock, "-out", tmp_path / "locked"], check=True, capture_output=True)
    files = {name: tmp_path / value for name, value in access.items() if name.endswith("file")}
    with pytest.raises(AccessError) as caught:
        Access(**access | files).check(url)
    assert caught.value.option == f"--prometheus-{option}"
    assert words in str(caught.value)
    assert not [each for each in (TOKEN, "secret", "word@") if each in str(caught.value)]


def test_what_can_work_is_not_refused(token, authority):
    mine = authority.issue("penstock")
    for url, access in (
        ("http://[::1]:9090/api/prom/", {}),
        ("https://me:pass%2Fword@host", {"ca_file": authority.certificate}),
        (SAFE, {"token_file": token, "headers": {"X-Scope-OrgID": "a"}}),
        (SAFE, {"cert_file": mine.certificate, "key_file": mine.key, "headers": {"Authorization": "x y"}}),
    ):
        Access(**access).check(url)


def test_an_address_is_shown_without_its_password():
    assert without_password("https://me:p@ss%2Fword@host/api/prom") == "https://host/api/prom"
    assert without_password("https://host/api/prom") == "https://host/api/prom"


def test_ordinary_words_are_left_alone():
    said = "no org id: team 1 is unknown"
    assert without_secrets(said, "http://me:unknown@host", ["team", "1"]) == "no org id: team 1 is ..."
