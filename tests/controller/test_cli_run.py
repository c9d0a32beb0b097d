"""What `penstock run` says before it runs; that it runs is shown in tests/e2e/cluster."""

import inspect

import pytest
from typer.testing import CliRunner

from controller.cli import app, prometheus
from controller.cli.run import start
from controller.prometheus_access import Access

GOOD = ("run", "--prometheus-url", "http://127.0.0.1:1")
SAFE = ("run", "--prometheus-url", "https://127.0.0.1:1")


def _run(*arguments, **env):
    clean = {"PENSTOCK_PROMETHEUS_URL": None, "PENSTOCK_TOKEN_FILE": None, "PENSTOCK_API_ADDRESS": None}
    return CliRunner().invoke(app, [*arguments], env=clean | env)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "--prometheus-url"),
        ((*GOOD, "--api-address", "7420"), "--api-address must be HOST:PORT"),
        ((*GOOD, "--api-address", "127.0.0.1:70000"), "--api-address must be HOST:PORT"),
        ((*GOOD, "--propagation", "soon"), "--propagation"),
        ((*GOOD, "--settle", "-1s"), "--settle"),
        ((*GOOD, "--token-file", "missing"), "--token-file missing cannot be read"),
        ((*GOOD, "--lease-seconds", "1"), "lease-seconds"),
        (("run", "--prometheus-url", "prometheus:9090"), "--prometheus-url: must be http(s)://HOST"),
        (
            (*GOOD, "--prometheus-token-file", "missing"),
            "--prometheus-token-file: the token file missing cannot",
        ),
        ((*GOOD, "--prometheus-header", "hunter2"), "--prometheus-header: must be NAME=VALUE"),
        ((*GOOD, "--prometheus-ca-file", "missing"), "--prometheus-ca-file: is of no use with an address"),
        (
            (*SAFE, "--prometheus-ca-file", "missing"),
            "--prometheus-ca-file: the CA file missing cannot be read",
        ),
        (
            (*SAFE, "--prometheus-cert-file", "missing"),
            "--prometheus-cert-file: the certificate file missing",
        ),
        ((*SAFE, "--prometheus-key-file", "missing"), "--prometheus-key-file: is of no use without"),
        ((*GOOD, "--api-host", "http://a.example"), "--api-host: http://a.example is no name of a host"),
        ((*GOOD, "--namespace", "ml,shop"), "--namespace ml,shop is no name of a namespace"),
        ((*GOOD, "--namespace", "ml", "--namespace", "../.."), "is no name of a namespace"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_starts(arguments, words):
    ended = _run(*arguments)
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ("TOKEN_FILE", "token-file"),
        ("CA_FILE", "ca-file"),
        ("CERT_FILE", "cert-file"),
        ("KEY_FILE", "key-file"),
        ("HEADERS", "header"),
    ],
)
def test_what_a_guarded_prometheus_wants_can_come_from_the_environment(variable, option):
    ended = _run(*SAFE, **{f"PENSTOCK_PROMETHEUS_{variable}": "missing"})
    assert ended.exit_code == 2
    assert f"--prometheus-{option}: " in ended.stderr


def test_headers_of_the_environment_stand_on_lines_and_are_added_to_those_of_the_options(monkeypatch):
    monkeypatch.setenv(prometheus.HEADERS, "Authorization=Basic bWU6\n\n X-Key=a=b \n")
    made = prometheus.access("http://127.0.0.1:1", None, ["X-Scope-OrgID=team"], None, None, None)
    wanted = {"X-Scope-OrgID": "team", "Authorization": "Basic bWU6", "X-Key": "a=b"}
    assert made == Access(headers=wanted)


def test_a_standalone_prometheus_is_asked_without_credentials(tmp_path):
    ended = _run("up", str(tmp_path), "--prometheus-header", "X-Scope-OrgID=team")
    assert ended.exit_code == 2
    assert "need --prometheus-url" in ended.stderr
    assert not [*tmp_path.iterdir()]


def test_an_empty_token_file_is_refused(tmp_path):
    empty = tmp_path / "token"
    empty.write_text("\n")
    ended = _run(*GOOD, "--token-file", str(empty))
    assert ended.exit_code == 2
    assert "is empty" in ended.stderr


def test_a_token_file_that_is_no_text_is_refused(tmp_path):
    binary = tmp_path / "token"
    binary.write_bytes(b"\xff\xfe\x00")
    ended = _run(*GOOD, "--token-file", str(binary))
    assert ended.exit_code == 2
    assert "holds no text" in ended.stderr


def test_namespaces_of_the_environment_are_separated_by_spaces():
    ended = _run(*GOOD, PENSTOCK_NAMESPACES="ml shop,search")
    assert ended.exit_code == 2
    assert "--namespace shop,search" in ended.stderr


def test_a_kubeconfig_that_is_not_there_is_one_line(tmp_path):
    ended = _run(*GOOD, "--kubeconfig", str(tmp_path / "nowhere"), "--api-address", "127.0.0.1:0")
    assert ended.exit_code == 1
    assert "nowhere" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_options_can_come_from_the_environment():
    ended = _run("run", PENSTOCK_PROMETHEUS_URL="http://127.0.0.1:1", PENSTOCK_API_ADDRESS="nonsense")
    assert "nonsense" in ended.stderr


def test_without_an_address_only_this_machine_can_read():
    assert inspect.signature(start).parameters["api_address"].default == "127.0.0.1:7420"
