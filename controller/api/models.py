"""What the API answers and takes, beyond the views: the wrappers, the action and the health."""

# No `from __future__ import annotations` here: pydantic reads the annotations.
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from controller.api.backend import Verb
from controller.view import EventView, RolloutView, RunSummary

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
RUN_ID = r"^[A-Za-z0-9][-A-Za-z0-9._]*$"


class Rollouts(BaseModel):
    """A page of rollouts."""

    items: list[RolloutView]
    after: str | None = Field(description="Pass it as `after` for the next page; null on the last one.")


class Runs(BaseModel):
    """Runs, newest first."""

    items: list[RunSummary]


class Events(BaseModel):
    """Events, latest first."""

    items: list[EventView]


class Findings(BaseModel):
    """What is wrong with the manifests that were refused; the last good ones stay in force."""

    items: list[dict[str, Any]]


class Action(BaseModel):
    """What to do with a rollout."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"verb": "promote", "actor": "ada@laptop"}]}
    )

    verb: Verb
    actor: Annotated[str, Field(min_length=1, max_length=128)] = "api"
    """Who asks, as told by the one who asks; it is written into the history."""


class Accepted(BaseModel):
    """The action is written down; the controller acts on it at its next look."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"nonce": "promote-7f3a"}]})

    nonce: str


class Health(BaseModel):
    """The parts of the controller: `ok`, or what is wrong."""

    ready: bool
    parts: dict[str, Any]
