"""What is wrong with the pods of a version, in words: those that crash, and those that cannot start. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from controller.status import from_rfc3339
from controller.words import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from controller.ports import Object

CRASH_LOOP, CANNOT_START = "CrashLoop", "CannotStart"
UNSTARTABLE = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons of the kubelet for a container that does not even begin."""
RESTARTS = 3
"""So many restarts during a run are a crash loop, also while the container happens to run."""
TOLD = 3
"""The most pods that are named."""
LAST_WORDS = 200
"""The most characters of a container's own message."""


class Container(NamedTuple):
    """A container of one pod over its restarts."""

    pod: str
    """The pod's uid."""
    name: str


def restarts(pods: Iterable[Object], since: float) -> dict[Container, int]:
    """Return how often each container had been restarted, as far as that was before `since`.

    For pods that were there before, that cannot be told any more: the restarts until now are taken for it.
    """
    return {
        Container(pod["metadata"].get("uid", ""), status.get("name", "")): 0
        if _created(pod) >= since
        else _restarts(status)
        for pod in pods
        for status in _containers(pod)
    }


def coming(pods: Iterable[Object]) -> list[Object]:
    """Return the pods of each workload's newest revision that are not ready.

    That is the revision of the pod that was created last: what crashed before it need not be told again.
    """
    groups: dict[str, dict[str, list[Object]]] = {}
    for pod in pods:
        revision = _revision(pod)
        groups.setdefault(_owner(pod).removesuffix(f"-{revision}"), {}).setdefault(revision, []).append(pod)
    newest = [max(found.values(), key=lambda group: max(map(_created, group))) for found in groups.values()]
    return [pod for group in newest for pod in group if not all(map(_is_ready, _containers(pod)))]


def failing(pods: Iterable[Object], before: Mapping[Container, int]) -> dict[str, str]:
    """Return what is wrong with pods, in words, by reason; `before`: restarts that do not count."""
    found: dict[str, list[str]] = {CRASH_LOOP: [], CANNOT_START: []}
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        uid = pod["metadata"].get("uid", "")
        for status in _containers(pod):
            grown = _restarts(status) - before.get(Container(uid, status.get("name", "")), 0)
            if _waiting(status) == "CrashLoopBackOff" or grown >= RESTARTS:
                found[CRASH_LOOP].append(_crashed(pod, status))
            elif _waiting(status) in UNSTARTABLE:
                found[CANNOT_START].append(_unstarted(pod, status))
    return {reason: _listed(words) for reason, words in found.items() if words}


def _containers(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    for group in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(group) or ()


def _revision(pod: Object) -> str:
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get("pod-template-hash") or labels.get("controller-revision-hash") or "")


def _owner(pod: Object) -> str:
    """Name the ReplicaSet or StatefulSet of a pod; a Deployment's ReplicaSets end in their revision."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(each.get("name")) for each in owners if each.get("controller")), "")


def _is_ready(status: Mapping[str, Any]) -> bool:
    return bool(status.get("ready"))


def _restarts(status: Mapping[str, Any]) -> int:
    return int(status.get("restartCount") or 0)


def _waiting(status: Mapping[str, Any]) -> str:
    return str(((status.get("state") or {}).get("waiting") or {}).get("reason") or "")


def _created(pod: Object) -> float:
    text = pod["metadata"].get("creationTimestamp")
    return from_rfc3339(text) if text else 0.0


def _crashed(pod: Object, status: Mapping[str, Any]) -> str:
    ended = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated")
    words = f"{_where(pod, status)} was restarted {_restarts(status)} times"
    if not ended:
        return words
    code = f", exit code {ended['exitCode']}" if "exitCode" in ended else ""
    last = f": {_short(ended['message'])}" if ended.get("message") else ""
    return f"{words}; it ended with {ended.get('reason') or 'Error'}{code}{last}"


def _unstarted(pod: Object, status: Mapping[str, Any]) -> str:
    message = status["state"]["waiting"].get("message")
    return f"{_where(pod, status)} waits: {_waiting(status)}" + (f": {_short(message)}" if message else "")


def _where(pod: Object, status: Mapping[str, Any]) -> str:
    return f"container {status.get('name')} of pod {pod['metadata']['name']}"


def _short(text: object) -> str:
    return shortened(printable(str(text)), LAST_WORDS)


def _listed(words: Sequence[str]) -> str:
    more = len(words) - TOLD
    return "; ".join(words[:TOLD]) + (f"; and {more} more" if more > 0 else "")
