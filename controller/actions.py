"""Manual actions: an annotation with a nonce, so that each happens once, whoever asks and however often."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from controller.decision import Action

if TYPE_CHECKING:
    from controller.ports import Object

ANNOTATION = "penstock.dev/action"
"""Holds the last action asked for, as JSON {verb, nonce, actor}."""


def action_of(obj: Object) -> Action | None:
    """Read the action that an object asks for; anything malformed is no action."""
    text = (obj["metadata"].get("annotations") or {}).get(ANNOTATION)
    try:
        data = json.loads(text) if text else None
        return data and Action(str(data["nonce"]), str(data["verb"]), str(data.get("actor", "unknown")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def request(obj: Object, verb: str, actor: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a new nonce and the guarded JSON Patch that asks for an action."""
    nonce = secrets.token_hex(8)
    text = json.dumps({"verb": verb, "nonce": nonce, "actor": actor})
    annotations = {**(obj["metadata"].get("annotations") or {}), ANNOTATION: text}
    version = obj["metadata"]["resourceVersion"]
    return nonce, [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]
