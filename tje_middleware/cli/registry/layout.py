"""Rows for a person: a table where it fits, else each row line by line; no word is ever cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

# More columns than any terminal has.
_WIDEST = 10_000
# A sentence that has fewer columns than this is no pleasure to read.
_NARROWEST_PROSE = 36


@dataclass(frozen=True)
class Column:
    """A column of the table, and the name of a line where there is no table.

    Attributes:
        name: Its heading, which may have several lines.
        is_number: Whether it stands at the right.
        is_prose: Whether it holds sentences, which wrap; one column may.
    """

    name: str
    is_number: bool = False
    is_prose: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Its first cell.
        title: What stands above its lines where there is no table.
        values: The other cells.
    """

    name: Text
    title: Text
    values: Sequence[Text | str]


@dataclass(frozen=True)
class Rows:
    """What is printed.

    Attributes:
        heading: Of the first column.
        columns: The others.
        rows: The lines, each with a value for every column.
    """

    heading: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = console.measure(self._table(_NARROWEST_PROSE), options=options.update(width=_WIDEST)).maximum
        if least <= options.max_width:
            yield self._table(None)
            return
        for row in self.rows:
            yield from self._lines(row)

    def _table(self, most_prose: int | None) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
        table.add_column(self.heading, no_wrap=True)
        for column in self.columns:
            table.add_column(
                column.name,
                justify="right" if column.is_number else "left",
                no_wrap=not column.is_prose,
                max_width=most_prose if column.is_prose else None,
            )
        for row in self.rows:
            table.add_row(row.name, *row.values)
        return table

    def _lines(self, row: Row) -> Sequence[RenderableType]:
        lines = Table.grid(padding=(0, 2))
        lines.add_column(no_wrap=True)
        lines.add_column(overflow="fold")
        for column, value in zip(self.columns, row.values, strict=True):
            lines.add_row(_in_one_line(column.name), _in_one_line(value))
        return row.title, lines, ""


def _in_one_line(words: Text | str) -> Text:
    return Text(" ").join((Text(words) if isinstance(words, str) else words).split())
