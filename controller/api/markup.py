"""HTML and SVG from Python calls, escaped by construction: text is escaped unless it already is Markup."""

from __future__ import annotations

import html
from typing import Final

VOID: Final = frozenset({"meta", "br", "hr", "img", "link"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = Markup | str | int | None


def escape(child: Child) -> Markup:
    """Return `child` as markup; None is nothing."""
    if isinstance(child, Markup):
        return child
    return Markup("" if child is None else html.escape(str(child), quote=True))


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element. `class_` is `class`, `a_b` is `a-b`; an attribute that is None is left out."""
    pairs = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    start = f"<{name}{''.join(pairs)}>"
    return Markup(start if name in VOID else f"{start}{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Return children one after the other."""
    return Markup("".join(escape(child) for child in children))


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
