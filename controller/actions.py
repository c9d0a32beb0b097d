"""Manual actions: asked for with a nonce, so that each happens once, whoever asks and however often.

There are two places to ask in: an annotation (written by the CLI, the API, or by hand) and the policy's spec
(for GitOps). Both may hold an action that was answered long ago; the status remembers the last `KEPT` nonces.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from controller.decision import Action
from controller.status import COPY_OVER, Status
from controller.words import printable
from policies.model import ManualAction

if TYPE_CHECKING:
    from controller.ports import Object

ANNOTATION = "penstock.dev/action"
"""Holds the last action asked for: JSON {verb, nonce, actor}, or by hand `VERB:NONCE`."""
VERBS: tuple[str, ...] = get_args(ManualAction.model_fields["verb"].annotation)
BY_HAND = re.compile(r"\s*([a-z-]+):(\S+)\s*")
WEAKER = frozenset(VERBS) - {"abort", "promote-full"}
"""Those that may not take the place of an abort that waits for its answer."""
LONGEST_NONCE = 63
LONGEST_TEXT = 1024
"""An annotation may have 256 KiB, and nested deeply enough, reading it ends in a RecursionError."""


class MalformedError(ValueError):
    """What asks for something, but not for an action."""


def pending(obj: Object, status: Status) -> Action | None:
    """Return the action that waits for an answer; an abort goes before anything else."""
    waiting = [action for action in _asked(obj)[0] if not status.has_answered(action.nonce)]
    return min(waiting, key=lambda action: action.verb != "abort", default=None)


def is_asked(obj: Object) -> bool:
    """Tell whether a policy asks for something that has no answer yet; one that cannot be read does not."""
    try:
        return pending(obj, Status.of(obj)) is not None
    except (ValueError, KeyError, TypeError, AttributeError):  # the inventory says what is wrong with it
        return False


def untimely(verb: str, obj: Object) -> str:
    """Return why a verb makes no sense now, in words, for whoever is about to ask; empty when it may.

    The status may be of any version of Penstock: whoever asks may be newer or older than the controller.
    """
    if verb in WEAKER and (abort := _waiting_abort(obj)):
        return f"the abort that {abort.actor} asked for is not answered yet"
    run = (obj.get("status") or {}).get("run") or {}
    if run and not run.get("outcome"):
        return "a run is in progress" if verb == "retry" else ""
    copying = run.get("copying") or {}
    is_copied = bool(copying) and copying.get("phase") not in COPY_OVER
    return "" if verb == "retry" or is_copied else "no run is in progress"


def _waiting_abort(obj: Object) -> Action | None:
    """Return the abort that another request would take the place of before anybody has seen it."""
    status = obj.get("status") or {}
    answered = {str(each).partition(":")[2] for each in status.get("answered") or ()}
    answered.add(str((status.get("lastAction") or {}).get("nonce")))
    noted = {"metadata": obj.get("metadata") or {}}  # the spec's action stays where it is
    waiting = [each for each in _asked(noted)[0] if each.verb == "abort" and each.nonce not in answered]
    return next(iter(waiting), None)


def ignored(obj: Object, status: Status) -> str:
    """Return why what an object asks for will not happen, in words; empty when there is nothing to say."""
    actions, malformed = _asked(obj)
    used = [action for action in actions if status.answered_otherwise(action.nonce, action.verb)]
    told = [f"nonce {each.nonce} of {each.verb} was used before: choose another one" for each in used]
    return "; ".join([malformed, *told] if malformed else told)


def _asked(obj: Object) -> tuple[list[Action], str]:
    """Return the actions of annotation and spec, and what is wrong with them."""
    text = (obj["metadata"].get("annotations") or {}).get(ANNOTATION)
    wanted = (obj.get("spec") or {}).get("action")
    if not text and not wanted:
        return [], ""
    actions, malformed = [], []
    if text:
        try:
            actions.append(_action(_parsed(text)))
        except MalformedError as error:
            malformed.append(f"annotation {ANNOTATION}: {error}")
    if wanted:
        try:
            actions.append(replace(_action(wanted), actor="the policy's spec"))
        except MalformedError as error:
            malformed.append(f"spec.action: {error}")
    return actions, "; ".join(malformed)


def _parsed(text: str) -> Any:
    if short := BY_HAND.fullmatch(text):
        return {"verb": short[1], "nonce": short[2], "actor": "annotation"}
    if len(text) > LONGEST_TEXT:
        raise MalformedError(f"it has more than {LONGEST_TEXT} characters")
    try:
        return json.loads(text)
    except ValueError as error:
        raise MalformedError(f"neither VERB:NONCE nor JSON: {text[:80]!r}") from error


def _action(data: Any) -> Action:
    if not isinstance(data, dict) or not data.get("nonce") or not data.get("verb"):
        raise MalformedError("an action has a verb and a nonce")
    verb, nonce = str(data["verb"]), str(data["nonce"])
    if verb not in VERBS:
        raise MalformedError(f"unknown verb {verb[:80]!r}; there are {', '.join(VERBS)}")
    if len(nonce) > LONGEST_NONCE or not nonce.isprintable():
        raise MalformedError(f"a nonce has at most {LONGEST_NONCE} characters, all of them printable")
    return Action(nonce, verb, printable(str(data.get("actor") or "unknown")[:128]))


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
