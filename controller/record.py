"""One call for everything that is worth telling: an event on the object, a log line and a counter."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from controller.latest import Latest
from controller.ports import ConflictError, NotFoundError, Ref, UnavailableError

if TYPE_CHECKING:
    from controller.decision import Decision
    from controller.news import News
    from controller.ports import Store
    from controller.telemetry import Telemetry

log = logging.getLogger("penstock")


class Recorder:
    """Tells of decisions and failures; a failure to tell never stops the loop."""

    def __init__(self, store: Store, telemetry: Telemetry, news: News) -> None:
        self._store = store
        self.telemetry, self.news = telemetry, news
        self._reasons: Latest[str, str] = Latest()
        """Reason of the last decision, by rollout."""
        self._told: Latest[tuple[str, str], str] = Latest()
        """What was told last, by origin and rollout."""

    async def decision(self, ref: Ref, decision: Decision) -> None:
        """Tell of a decision; a hold is told only when its reason is new and a warning."""
        key = f"{ref.namespace}/{ref.name}"
        news = decision.notable or (decision.warning and self._reasons.get(key) != decision.reason)
        self._reasons[key] = decision.reason
        if not news:
            return
        log.log(
            logging.WARNING if decision.warning else logging.INFO,
            "%s: %s (%s): %s", key, decision.action, decision.reason, decision.message, extra={"policy": key},
        )  # fmt: skip
        if decision.notable:
            self.telemetry.decided(key, decision.action)
        await self._event(ref, "Warning" if decision.warning else "Normal", decision.reason, decision.message)

    async def _event(self, ref: Ref, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        try:
            await self._store.event(ref, type_, reason, message)
            told = {"type": type_, "reason": reason, "message": message}
            self.news.tell("event", {**told, "object": {"namespace": ref.namespace, "name": ref.name}})
        except (UnavailableError, ConflictError, NotFoundError) as error:  # its namespace may be gone
            self.failure("store", f"cannot write an event for {ref}: {error}")
        except Exception as error:
            self.internal(f"{ref.namespace}/{ref.name}", error)

    async def warn(self, ref: Ref, reason: str, message: str) -> None:
        """Tell a person of something about an object that is not a decision."""
        key = f"{ref.namespace}/{ref.name}"
        log.warning("%s: %s: %s", key, reason, message, extra={"policy": key})
        await self._event(ref, "Warning", reason, message)

    async def warn_once(self, ref: Ref, reason: str, message: str) -> None:
        """Tell a person of something that stays so: once, until its words change or are none."""
        about = f"{ref.namespace}/{ref.name}"
        if not message:
            self._told.pop((reason, about), None)
        elif self._told.get((reason, about)) != message:
            self._told[reason, about] = message
            await self.warn(ref, reason, message)

    def failure(self, origin: str, message: str, about: str = "", error: Exception | None = None) -> None:
        """Tell of a failure that is not a decision; the same words are logged once until they change.

        `about` is the rollout that it concerns, if it is one rollout's; `error` one that nobody foresaw.
        """
        self.telemetry.errors.labels(origin).inc()
        if self._told.get((origin, about)) != message:
            log.warning(
                "%s: %s",
                " ".join(filter(None, (origin, about))),
                message,
                exc_info=error,
                extra={"policy": about},
            )
        self._told[origin, about] = message

    def internal(self, about: str, error: Exception) -> None:
        """Tell of an error that nobody foresaw, with its place in the code."""
        self.failure("internal", f"unforeseen: {error!r}", about, error)

    def recovered(self, origin: str, about: str = "") -> None:
        """Tell that a failure is over."""
        if self._told.pop((origin, about), None):
            log.info("%s: works again", " ".join(filter(None, (origin, about))))

    def forget(self, key: str) -> None:
        """Forget a rollout that is gone."""
        self._reasons.pop(key, None)
        for place in [place for place in self._told if place[1] == key]:
            del self._told[place]
        self.telemetry.forget(key)
