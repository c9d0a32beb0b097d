"""Builds the programs of a cluster from Go modules, once per version, into a cache outside the checkout.

The versions are pinned by cluster/modules/*/go.mod and go.sum. What is built lies in a folder named by the
digest of these and of the flags; it appears there complete or not at all, and two builders take turns.
A new build takes the place of old ones: the two that were used last are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import NoClusterError
from cluster.golang import go_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MODULES = Path(__file__).with_name("modules")
STAGES = ("node/fast/node-initialize", "node/heartbeat/node-heartbeat", "pod/fast/pod-ready",
          "pod/fast/pod-complete", "pod/fast/pod-delete")  # fmt: skip
DIGITS = 16
DIGEST = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
"""How the folder of a build is called."""
KEPT = 2
"""How many builds are kept: a person may go to and fro between two versions of Penstock."""
UNREACHABLE = re.compile(
    r"dial tcp|no such host|i/o timeout|connection refused|proxyconnect|TLS handshake|not available"
    r"|module lookup disabled|reading https?:|40[34] |50\d "
)


@dataclass(frozen=True, slots=True)
class Target:
    """One program: its name, the module folder and the package it is built from."""

    name: str
    module: str
    package: str


TARGETS = (
    Target("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
    Target("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    Target("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    Target("pilot-discovery", "kubernetes", "istio.io/istio/pilot/cmd/pilot-discovery"),
    Target("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Target("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    Target("istioctl", "kubernetes", "istio.io/istio/istioctl/cmd/istioctl"),
    Target("helm", "kubernetes", "helm.sh/helm/v3/cmd/helm"),
    Target("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
)


@dataclass(frozen=True, slots=True)
class Built:
    """The folder of everything that was built."""

    folder: Path

    @property
    def istio_crds(self) -> Path:
        """Istio's custom resource definitions."""
        return self.folder / "istio-crds.yaml"

    @property
    def stages(self) -> Path:
        """How kwok's nodes and pods live."""
        return self.folder / "kwok-stages.yaml"

    def binary(self, name: str) -> Path:
        """Return the path of a program by its name."""
        return self.folder / "bin" / name


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where builds are kept: $XDG_CACHE_HOME or ~/.cache, below it `penstock/cluster`."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / "cluster"


def flags(module: str, modules: Path = MODULES) -> tuple[str, ...]:
    """Return the flags of `go build` for the programs of a module folder."""
    if module != "kubernetes":
        return ("-trimpath", "-ldflags", "-s -w")
    found = re.search(
        r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\S*)$", (modules / module / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        raise NoClusterError(f"{modules / module / 'go.mod'} does not name a version of k8s.io/kubernetes")
    values = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3]}
    named = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
    return ("-trimpath", "-tags", "vtprotobuf,disable_pgv", "-ldflags", f"-s -w {named}")


def digest(modules: Path = MODULES) -> str:
    """Return what a build is known by: a digest of the pinned modules, the targets and the flags."""
    out = hashlib.sha256(repr((TARGETS, STAGES)).encode())
    for folder in sorted(modules.iterdir()):
        out.update(repr((folder.name, flags(folder.name, modules))).encode())
        for name in ("go.mod", "go.sum"):
            out.update((folder / name).read_bytes())
    return out.hexdigest()[:DIGITS]


def built(cache: Path | None = None) -> Built | None:
    """Return the build of this version if it is there."""
    folder = (cache or cache_folder()) / digest()
    return Built(folder) if folder.is_dir() else None


def say(text: str) -> None:
    """Tell a person what goes on."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def ensure_built(cache: Path | None = None, tell: Callable[[str], None] = say) -> Built:
    """Return the build of this version, made now if need be; NoClusterError where that is not possible."""
    cache = cache or cache_folder()
    found = built(cache)
    if found is None:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / "lock", tell):
            found = built(cache) or _build(cache, tell)
    with contextlib.suppress(PermissionError):  # another user's, who is the one to remove it
        os.utime(found.folder)
    return found


@contextlib.contextmanager
def _alone(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process builds; the lock ends with its process, however that ends."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another process is building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(cache: Path, tell: Callable[[str], None]) -> Built:
    target, partial = Built(cache / digest()), Built(cache / "partial")
    shutil.rmtree(partial.folder, ignore_errors=True)
    go, began = go_command(cache, tell), time.monotonic()
    tell(
        f"building {len(TARGETS)} programs into {target.folder}, once: 8 to 11 minutes on 2 cores and"
        " 6 GB in the caches of Go, or a minute when Go has compiled them before"
    )
    for number, each in enumerate(TARGETS, start=1):
        since = time.monotonic()
        tell(f"[{number}/{len(TARGETS)}] {each.name} ...")
        command = ("build", *flags(each.module), "-o", str(partial.binary(each.name)), each.package)
        run_go(go, command, MODULES / each.module, each.name)
        tell(f"[{number}/{len(TARGETS)}] {each.name}: {time.monotonic() - since:.0f} s")
    _keep_manifests(go, partial)
    partial.folder.rename(target.folder)
    _remove_old(cache, tell)
    tell(f"built in {time.monotonic() - began:.0f} s")
    return target


def _remove_old(cache: Path, tell: Callable[[str], None]) -> None:
    """Remove all builds but those that were used last; none is ever found half removed."""
    builds = [each for each in cache.iterdir() if DIGEST.fullmatch(each.name)]
    for folder in sorted(builds, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
        tell(f"removing the old build {folder}")
        shutil.rmtree(folder.rename(cache / "partial"))


def _keep_manifests(go: str, into: Built) -> None:
    """Copy what a cluster needs of the modules' sources: the module cache may be cleaned at any time."""
    istio = _module_folder(go, "kubernetes", "istio.io/istio/pilot/cmd/pilot-discovery")
    shutil.copyfile(istio / "manifests/charts/base/files/crd-all.gen.yaml", into.istio_crds)
    stage = _module_folder(go, "kwok", "sigs.k8s.io/kwok/cmd/kwok") / "kustomize" / "stage"
    into.stages.write_text("\n---\n".join((stage / f"{name}.yaml").read_text() for name in STAGES))


def _module_folder(go: str, module: str, package: str) -> Path:
    # `go list -m` would ask the network for the module's date; the module of a package is known offline
    listed = run_go(go, ("list", "-f", "{{.Module.Dir}}", package), MODULES / module, package)
    return Path(listed.strip())


def run_go(go: str, arguments: tuple[str, ...], folder: Path, what: str) -> str:
    """Run Go in a module folder and return its output; NoClusterError with the reason in one line."""
    settings = {"CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    done = subprocess.run(
        [go, *arguments],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoClusterError(reason(what, done.stderr))
    return done.stdout


def reason(what: str, stderr: str) -> str:
    """Say in one line why Go failed, from what it wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no reason given"]
    if unreachable := next((line for line in lines if UNREACHABLE.search(line)), None):
        return f"Go modules cannot be reached: {unreachable}"
    return f"Go cannot build {what}: {lines[-1]}"
