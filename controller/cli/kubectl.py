"""A cluster's controller, asked through kubectl: by its connection, its login and its rights.

Lists, status and actions need nothing but the Kubernetes API: RolloutPolicies, their events and the
annotation `penstock.dev/action`; Kubernetes decides who may. Evidence, reports and history are the
controller's: they are read from its Service through the API server's proxy, so no port is open anywhere.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

import typer

from controller.cli.client import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SELECTOR = "app.kubernetes.io/part-of=penstock,app.kubernetes.io/component=controller"
PATIENCE = "15s"
PROXY_PATIENCE = "5s"
Json = dict[str, Any]


class MissingError(ApiError):
    """Kubernetes says that the object is not there."""


@dataclass
class Kubectl:
    """A way to a cluster's controller (`controller.cli.client.Transport`)."""

    flags: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = None
    """Where to look for rollouts; None: the context's namespace, empty: all."""
    service: str | None = None
    """NAMESPACE/NAME of the controller's Service; None: found by its labels."""
    where: str = "the controller"
    program: str = "kubectl penstock"
    _evidence: bool = True
    """Whether the controller's API has not failed yet."""

    @property
    def scope(self) -> str:
        """Where rollouts are looked for when nobody says, as the end of a sentence."""
        return "" if self.namespace is not None else " in the context's namespace: say -n NAMESPACE, or -A"

    def ask(
        self, method: str, path: Sequence[str], query: Mapping[str, Any], body: Mapping[str, Any] | None
    ) -> bytes:
        """Return what the API would answer; ApiError."""
        match method, *path:
            case "POST", "v1", "rollouts", namespace, name, "actions" if body:
                return self._act(namespace, name, body)
            case "GET", "v1", "rollouts":
                return _json({"items": self._rollouts(query)})
            case "GET", "v1", "rollouts", namespace, name:
                return self._rollout(namespace, name)
            case "GET", "v1", "events":
                return _json({"items": self._events(query)})
        return self._proxied(path, query)

    def _rollouts(self, query: Mapping[str, Any]) -> list[Json]:
        from controller.view import rollout_view

        found = self._list("rolloutpolicies.penstock.dev", query.get("namespace"))
        named = query.get("name")
        chosen = [obj for obj in found if named in {None, obj["metadata"]["name"]}]
        return [asdict(rollout_view(obj, with_object=bool(query.get("objects")))) for obj in chosen]

    def _rollout(self, namespace: str, name: str) -> bytes:
        """Return one rollout as the controller tells it, with evidence; else as Kubernetes does."""
        from controller.view import rollout_view

        obj = self._object(namespace, name)
        if self._evidence:
            try:
                return self._proxied(("v1", "rollouts", namespace, name), {})
            except ApiError as error:
                self._evidence = False
                typer.echo(f"without evidence, since the controller cannot be asked: {error}", err=True)
        events = self._of_rollout(namespace, name)
        return _json(asdict(rollout_view(obj, events, with_object=True)))

    def _events(self, query: Mapping[str, Any]) -> list[Json]:
        from controller.view import event_views

        found = event_views(self._of_rollout(query.get("namespace"), query.get("name")))
        return [asdict(event) for event in found[: int(query.get("limit") or 100)]]

    def _of_rollout(self, namespace: str | None, name: str | None) -> list[Json]:
        from controller.cluster.events import shown

        selector = "regarding.kind=RolloutPolicy" + (f",regarding.name={name}" if name else "")
        found = self._list("events.events.k8s.io", namespace, "--field-selector", selector)
        return [shown(event) for event in found]

    def _act(self, namespace: str, name: str, body: Mapping[str, Any]) -> bytes:
        """Leave an action for the controller as an annotation, guarded by the version that was read."""
        from controller.actions import request, untimely

        obj, verb = self._object(namespace, name), body["verb"]
        if why := untimely(verb, obj):
            raise ApiError(f"cannot {verb} {name}: {why}")
        nonce, operations = request(obj, verb, body["actor"])
        patch = ("--type=json", "-p", json.dumps(operations), "--field-manager=kubectl-penstock")
        self._kubectl("patch", "rolloutpolicies.penstock.dev", name, "-n", namespace, *patch)
        return _json({"nonce": nonce})

    def _object(self, namespace: str, name: str) -> Json:
        try:
            text = self._kubectl("get", "rolloutpolicies.penstock.dev", name, "-n", namespace, "-o", "json")
        except MissingError as error:
            raise ApiError(f"there is no rollout {namespace}/{name}") from error
        found: Json = json.loads(text)
        return found

    def _list(self, kind: str, namespace: str | None, *more: str) -> list[Json]:
        chosen = self.namespace if namespace is None else namespace
        place = () if chosen is None else ("-n", chosen) if chosen else ("--all-namespaces",)
        items: list[Json] = json.loads(self._kubectl("get", kind, *place, *more, "-o", "json"))["items"]
        return items

    def _proxied(self, path: Sequence[str], query: Mapping[str, Any]) -> bytes:
        """Return what the controller's Service answers, asked through the API server."""
        asked = urlencode({key: value for key, value in query.items() if value is not None})
        url = "/".join([self._service(), *(quote(part, safe="") for part in path)])
        return self._kubectl("get", "--raw", f"{url}?{asked}" if asked else url, patience=PROXY_PATIENCE)

    def _service(self) -> str:
        """Return the path of the controller's Service behind the API server's proxy."""
        self.service = self.service or self._found()
        namespace, _, name = self.service.partition("/")
        return f"/api/v1/namespaces/{namespace}/services/http:{name}:http/proxy"

    def _found(self) -> str:
        services = self._list("services", "", "-l", SELECTOR)
        names = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in services]
        if len(names) != 1:
            known = f"several: {', '.join(names)}" if names else "none with the chart's labels"
            raise ApiError(f"which Service is Penstock's? There is {known}: say --service NAMESPACE/NAME")
        return names[0]

    def _kubectl(self, *args: str, patience: str = PATIENCE) -> bytes:
        """Return what kubectl prints; ApiError with its last words."""
        flags = [f"--{name}={value}" for name, value in self.flags.items()]
        command = ["kubectl", *args, *flags, f"--request-timeout={patience}"]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError as error:
            raise ApiError(f"kubectl cannot be started: {error.strerror}") from error
        if done.returncode:
            raise _refusal(done.stderr.decode("utf-8", "replace"))
        return done.stdout


def _refusal(words: str) -> ApiError:
    last = (words.strip().splitlines() or ["kubectl failed without a word"])[-1]
    return MissingError(last) if "(NotFound)" in last else ApiError(last.removeprefix("error: "))


def _json(data: Json) -> bytes:
    return json.dumps(data).encode()


def kubectl_of(server: str) -> Kubectl:
    """Return the way that `--server kubectl:[?FLAG=VALUE&...]` means; FLAG may be namespace or service."""
    flags = dict(parse_qsl(server.partition("?")[2], keep_blank_values=True))
    namespace, service = flags.pop("namespace", None), flags.pop("service", None)
    return Kubectl(flags, namespace, service)
