"""The pages name commands that exist, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from controller.cli import app, plugin

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"(?:^ {4}\$?|`)\s*(kubectl )?penstock +([a-z]+)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
COMMANDS = {
    "": set(typer.main.get_command(app).commands),
    "kubectl ": set(plugin.command().commands),
}


def each(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


@each(PAGES)
def test_the_commands_of_a_page_exist(page):
    for program, verb in COMMAND.findall(page.read_text()):
        assert verb in COMMANDS[program], f"{program}penstock {verb}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each(PAGES)
def test_the_links_of_a_page_lead_somewhere(page):
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"
