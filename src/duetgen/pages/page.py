"""A page: a title, a summary, and sections with links to them. What comes from data is escaped by who puts it in."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from string import Template

Section = tuple[str, str, str]
"""Anchor, title and body; a section without a body is left out."""


def escape(text: str) -> str:
    """Text for any place in a page."""
    return html.escape(text, quote=True)


def page(title: str, summary: str, note: str, alerts: Sequence[str], sections: Sequence[Section]) -> str:
    """The page.

    Args:
        title: of it.
        summary: what it says, in a sentence.
        note: what it is about, in small print.
        alerts: what a reader must know first.
        sections: the rest.
    """
    template = Template(resources.files("duetgen.pages").joinpath("page.html").read_text("utf-8"))
    kept = [(anchor, name, body) for anchor, name, body in sections if body]
    return template.substitute(
        title=escape(title),
        summary=escape(summary),
        facts=escape(note),
        alerts="\n".join(f'<p class="alert">{escape(line)}</p>' for line in alerts),
        links="".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in kept),
        sections="\n".join(
            f'<section id="{anchor}"><h2>{escape(name)}</h2>\n{body}</section>' for anchor, name, body in kept
        ),
    )


def figure(svg: str | None, title: str, caption: str) -> str:
    """A plot with its title and caption; nothing where there is no plot."""
    if svg is None:
        return ""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><strong>{escape(title)}</strong>{svg}{said}</figure>\n"
