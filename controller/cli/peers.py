"""Verbs that users of other tools type, and what does it here: said in place of "no such command"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

_OFFLINE = "it needs no cluster: `penstock {}`"
ELSEWHERE: Final[Mapping[str, str]] = {
    "undo": "put the version before into the idle Deployment (after a promotion it still is): a new run",
    "restart": "`kubectl rollout restart deployment NAME`; of the candidate's, that starts a run",
    "set": "`kubectl set image deployment/NAME CONTAINER=IMAGE`; of the candidate's, that starts a run",
    "create": "`kubectl apply -f FILE`; a table of counts from anywhere is judged by `penstock judge FILE`",
    "terminate": "`abort NAME` ends the run",
    "dashboard": "`kubectl -n penstock port-forward service/penstock 7420` and http://127.0.0.1:7420",
    "notifications": "Events, metrics and the chart's alerts tell what happens",
    "completion": "`penstock --install-completion`",
    **{verb: _OFFLINE.format(verb) for verb in ("simulate", "replay", "judge", "weights")},
}


class Commands(TyperGroup):
    """Commands that know what other tools call things."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant; for a verb of another tool, end with what does it here."""
        if args[0] not in self.commands and args[0] in ELSEWHERE:
            ctx.fail(f"there is no {args[0]!r} here: {ELSEWHERE[args[0]]}")
        return super().resolve_command(ctx, args)
