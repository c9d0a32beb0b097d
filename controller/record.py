"""One call for everything that is worth telling: an event on the object, a log line and a counter."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from controller.ports import Ref, UnavailableError

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
        self._last: dict[str, str] = {}

    async def decision(self, ref: Ref, decision: Decision) -> None:
        """Tell of a decision; a hold is told only when its reason is new and a warning."""
        key = f"{ref.namespace}/{ref.name}"
        news = decision.notable or (decision.warning and self._last.get(key) != decision.reason)
        self._last[key] = decision.reason
        if not news:
            return
        log.log(
            logging.WARNING if decision.warning else logging.INFO,
            "%s: %s (%s): %s", key, decision.action, decision.reason, decision.message,
        )  # fmt: skip
        if decision.notable:
            self.telemetry.decisions.labels(key, decision.action).inc()
        await self._event(ref, decision)

    async def _event(self, ref: Ref, decision: Decision) -> None:
        try:
            type_: Literal["Normal", "Warning"] = "Warning" if decision.warning else "Normal"
            await self._store.event(ref, type_, decision.reason, decision.message)
            told = {"type": type_, "reason": decision.reason, "message": decision.message}
            self.news.tell("event", {**told, "object": {"namespace": ref.namespace, "name": ref.name}})
        except UnavailableError as error:
            self.failure("store", f"cannot write an event for {ref}: {error}")

    def failure(self, origin: str, message: str) -> None:
        """Tell of a failure that is not a decision; the same words are logged once until they change."""
        self.telemetry.errors.labels(origin).inc()
        if self._last.get(origin) != message:
            log.warning("%s: %s", origin, message)
        self._last[origin] = message

    def recovered(self, origin: str) -> None:
        """Tell that a failure is over."""
        if self._last.pop(origin, None):
            log.info("%s: works again", origin)
