"""What Istio itself says of objects: `istioctl validate`, offline, and the API server, by creating nothing.

An object is stored when both let it pass: the API server judges by the CRD's schema and its CEL rules,
istiod's webhook by the rules that `istioctl validate` runs.
"""

import http.client
import json
import re
import ssl
import subprocess
from dataclasses import dataclass
from http import HTTPStatus

_PLURAL = {
    "VirtualService": "virtualservices",
    "DestinationRule": "destinationrules",
    "ServiceEntry": "serviceentries",
}
_REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}
PATIENCE_S = 180


@dataclass(frozen=True)
class Said:
    """The errors and warnings of one judge about one object."""

    errors: tuple = ()
    warnings: tuple = ()


def istioctl(binary, objects, folder):
    """Return what `istioctl validate` says of each object; one run for all.

    Each gets a name by which its lines are found again: names are the API server's affair.
    """
    for index, obj in enumerate(objects):
        metadata = {**obj.get("metadata", {}), "name": f"object-{index}"}
        (folder / f"{index}.json").write_text(json.dumps({**obj, "metadata": metadata}))
    command = [binary, "validate", "-f", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    warnings, _, errors = (done.stdout + done.stderr).partition("\nError: ")
    assert done.returncode == bool(errors), done.stderr
    return [Said(_lines(errors, index), _lines(warnings, index)) for index in range(len(objects))]


def _lines(text, index):
    return tuple(re.findall(rf"^\t\* \w*/[^/\n]*/object-{index}: (.*)", text, re.MULTILINE))


class ApiServer:
    """Asks the API server whether it would store objects."""

    def __init__(self, url, ca, token):
        context = ssl.create_default_context(cafile=ca)
        host = url.removeprefix("https://")
        self._connection = http.client.HTTPSConnection(host, context=context, timeout=PATIENCE_S)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def says(self, obj):
        """Return what the server answers to `kubectl create --dry-run=server`."""
        namespace = obj.get("metadata", {}).get("namespace", "default")
        path = f"/apis/{obj['apiVersion']}/namespaces/{namespace}/{_PLURAL[obj['kind']]}"
        query = "dryRun=All&fieldValidation=Strict"
        self._connection.request("POST", f"{path}?{query}", json.dumps(obj), self._headers)
        answer = self._connection.getresponse()
        body = answer.read().decode()
        if answer.status == HTTPStatus.CREATED:
            return Said()
        assert answer.status in _REFUSALS, body
        return Said(errors=(body if answer.status == HTTPStatus.NOT_FOUND else json.loads(body)["message"],))

    def close(self):
        """End the connection."""
        self._connection.close()
