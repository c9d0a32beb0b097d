"""The CustomResourceDefinitions, made from the model and the rules (apiextensions.k8s.io/v1).

The schema is structural: one tree of types, descriptions, defaults and bounds, with the rules as CEL
(x-kubernetes-validations) in the same words as offline. Names, lists and texts are bounded, which keeps the
rules within the API server's cost budget. The status belongs to the controller and is open but for the parts
that tools read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policies.model import API_GROUP, API_VERSION, MetricTemplate, RolloutPolicy
from policies.rules import RULES
from policies.schema import structural

if TYPE_CHECKING:
    from pydantic import BaseModel

_KEPT = (
    "type",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "required",
)

_CONDITION = {
    "type": "object",
    "description": "One aspect of the state, as Kubernetes' tools know it.",
    "required": ["type", "status"],
    "properties": {
        "type": {"type": "string", "description": "The aspect, such as Ready.", "maxLength": 316},
        "status": {
            "type": "string",
            "description": "Whether it holds.",
            "enum": ["True", "False", "Unknown"],
        },
        "reason": {"type": "string", "description": "Why, as one word.", "maxLength": 1024},
        "message": {"type": "string", "description": "Why, in words.", "maxLength": 32768},
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "When it last changed.",
        },
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "The generation of the spec that this speaks of.",
        },
    },
}
_STATUS = {
    "type": "object",
    "description": "What the controller saw and wants; written by it alone.",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "The generation of the spec that the controller acts on.",
        },
        "summary": {"type": "string", "description": "The state in one line."},
        "verdict": {"type": "string", "description": "What the evidence says."},
        "conditions": {
            "type": "array",
            "description": "The state in aspects: Ready, Reconciling, Stalled and Penstock's own.",
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    },
}

_Columns = list[dict[str, Any]]
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_POLICY_COLUMNS: _Columns = [
    {"name": "Summary", "type": "string", "jsonPath": ".status.summary"},
    {"name": "Weight", "type": "string", "jsonPath": ".status.weights"},
    {"name": "Verdict", "type": "string", "jsonPath": ".status.verdict"},
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": ".status.conditions[?(@.type=='Ready')].reason",
        "priority": 1,
    },
    _AGE,
]
_TEMPLATE_COLUMNS: _Columns = [
    {"name": "Kind", "type": "string", "jsonPath": ".spec.kind"},
    {"name": "Unit", "type": "string", "jsonPath": ".spec.unit"},
    _AGE,
]


def definitions() -> dict[str, dict[str, Any]]:
    """Return the CustomResourceDefinitions by file name."""
    return {
        "rolloutpolicies.yaml": _definition(RolloutPolicy, "rolloutpolicies", "rp", _POLICY_COLUMNS, _STATUS),
        "metrictemplates.yaml": _definition(MetricTemplate, "metrictemplates", "mt", _TEMPLATE_COLUMNS, None),
    }


def _definition(
    model: type[BaseModel],
    plural: str,
    short: str,
    columns: _Columns,
    status: dict[str, Any] | None,
) -> dict[str, Any]:
    schema = _schema(structural(model))
    # The API server owns metadata; a CRD may restrict the name and nothing else in it.
    name = schema["properties"]["metadata"]["properties"]["name"]
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": name}}
    for field in ("apiVersion", "kind"):
        schema["properties"][field].pop("enum")
    schema["required"] = ["spec"]
    version = {
        "name": API_VERSION.rpartition("/")[2],
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns,
    }
    if status:
        schema["properties"]["status"] = status
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": model.__name__,
                "listKind": f"{model.__name__}List",
                "plural": plural,
                "singular": model.__name__.lower(),
                "shortNames": [short],
                "categories": ["penstock"],
            },
            "versions": [version],
        },
    }


def _schema(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node of the structural schema as the API server takes it, with its rules."""
    result = {key: node[key] for key in _KEPT if key in node}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "properties" in node:
        result["properties"] = {name: _schema(field) for name, field in node["properties"].items()}
    elif result["type"] == "object":
        result["additionalProperties"] = node["additionalProperties"]
    if "items" in node:
        result["items"] = _schema(node["items"])
    rules = [
        {"rule": rule.cel, "message": f"{rule.code}: {rule.message}", "fieldPath": f".{rule.field}"}
        for rule in RULES
        if rule.cel and rule.scope.__name__ == node.get("x-model")
    ]
    if rules:
        result["x-kubernetes-validations"] = rules
    return result
