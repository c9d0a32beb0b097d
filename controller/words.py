"""Words that come from elsewhere, made fit to be told: nothing that commands a terminal, and an end. Pure."""

from __future__ import annotations

UNREADABLE = "�"
"""Stands for what cannot be printed: controls, lone surrogates, characters of no meaning."""


def printable(text: str) -> str:
    """Return text on one line, in which every character can be printed."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else UNREADABLE for each in line)


def shortened(text: str, most: int) -> str:
    """Return text of at most `most` characters, whose end says when something is missing."""
    return text if len(text) <= most else text[: most - 3] + "..."
