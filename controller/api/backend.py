"""What the API needs of the controller: a small facade to read and to act, so that a fake is a page long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from controller.ports import Object

Verb = Literal["pause", "resume", "promote", "promote-full", "abort", "retry"]


class Backend(Protocol):
    """The controller as the API sees it. Every method may raise `UnavailableError` (503)."""

    async def rollouts(self) -> list[Object]:
        """Return all RolloutPolicy objects; `status.lastVerdict` holds the newest verdict of the judge."""

    async def rollout(self, namespace: str, name: str) -> Object:
        """Return one RolloutPolicy with status; NotFoundError."""

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first, as `ports.History.runs` does."""

    async def run(self, run_id: str) -> Mapping[str, Any] | None:
        """Return one run with ticks, intervals and decisions, as `ports.History.run` does."""

    async def act(self, namespace: str, name: str, verb: Verb, actor: str) -> str:
        """Ask for an action and return its nonce.

        NotFoundError: no such rollout. ConflictError: it changed meanwhile, try again. ValueError: it makes
        no sense now (its text says why).
        """

    async def events(self, namespace: str | None = None, name: str | None = None) -> list[Object]:
        """Return events, newest first.

        {type, reason, message, count, firstSeen, lastSeen, object: {kind, namespace, name}}.
        """

    def changes(self) -> AsyncIterator[dict[str, Any]]:
        """Yield {"type": "rollout" | "event" | "run", "object": ...} from now on, until closed."""

    async def findings(self) -> list[dict[str, Any]]:
        """Return what is wrong with the manifests that were refused."""

    async def health(self) -> dict[str, Any]:
        """Return the parts by name ("ok", or what is wrong), and `ready` as a bool."""

    def metrics(self) -> bytes:
        """Return the controller's own metrics in the Prometheus text format."""
