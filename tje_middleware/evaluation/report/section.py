"""A section of the page in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from .marks import Figure
from .markup import Html, join, paragraphs, tag


@dataclass
class Section:
    """One section of the page, with what is to be drawn in it."""

    id: str
    title: str
    body: Html = field(default_factory=lambda: Html(""))
    figures: list[Figure] = field(default_factory=list)

    def say(self, *texts: str) -> None:
        """Add paragraphs."""
        self.add(paragraphs(*texts))

    def add(self, *content: Html) -> None:
        """Add markup."""
        self.body = join(self.body, *content)

    def draw(self, figure: Figure, *caption: str) -> None:
        """Add a figure; its caption is made of sentences, empty ones left out."""
        self.figures.append(figure)
        self.add(figure.markup(" ".join(filter(None, caption))))

    def markup(self) -> Html:
        """With its heading."""
        return tag("section", tag("h2", self.title), self.body, id=self.id)
