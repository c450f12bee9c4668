"""HTML that cannot be broken by what is put into it: every text is escaped unless it is markup already."""

from __future__ import annotations

import re
from html import escape


class Html(str):
    """Text that is markup: the only kind that is not escaped."""

    __slots__ = ()


def html(content: str | float) -> Html:
    """Markup as it is, anything else escaped, quotes included."""
    return content if isinstance(content, Html) else Html(escape(str(content)))


def join(*parts: str | float) -> Html:
    """The parts one after the other."""
    return Html("".join(html(part) for part in parts))


def tag(name: str, *content: str | float, **attributes: str | float | bool) -> Html:
    """An element.

    Args:
        name: Of the element.
        content: Texts and elements in it.
        attributes: ``class_`` is ``class``, other underscores are hyphens; True is an attribute without a value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not False)
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def _attribute(key: str, value: str | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def prose(text: str) -> Html:
    """Text in which what stands between backticks is a name."""
    if isinstance(text, Html):
        return text
    whole = text.replace("95 %", "95\N{NO-BREAK SPACE}%")
    return Html(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(whole)))


def paragraphs(*texts: str) -> Html:
    """Each text that is not empty as a paragraph."""
    return join(*(tag("p", prose(text)) for text in texts if text))


def bullets(*texts: str) -> Html:
    """A list; nothing where there is no text."""
    return tag("ul", *(tag("li", prose(text)) for text in texts)) if texts else Html("")
