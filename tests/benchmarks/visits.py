"""How many of the project's files one accepted answer visits, as a reader would who follows it.

Counted with ``sys.setprofile`` in the thread that asks: a file is visited where a function of it is entered, and
changed where the function entered next stands in another one. The answer is a warmed one, of a gate whose profile is
in its hands: no registry, no ledger. ``python -m tests.benchmarks.visits`` lists the files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import langchain_tje
import llama_index_tje
from langchain_tje import think_just_enough
from llama_index_tje import EntropyGatedLLM
from rich.console import Console
from rich.table import Table

import tje_middleware
from tests.benchmarks import gating, gating_llama_index
from tests.benchmarks.drafts import accepted, accepting_gate
from tests.benchmarks.server import server_in_a_thread
from tests.benchmarks.timing import Row, Timing

#: How many files an answer may visit.
TARGETS = {"LangChain answer": 32, "LlamaIndex chat": 34}
_PACKAGES = [Path(str(package.__file__)).parent for package in (tje_middleware, langchain_tje, llama_index_tje)]
_WARM = 3


@dataclass(frozen=True)
class Visits:
    """What one call visited.

    Attributes:
        files: Of each file, as a path below its package's folder, how many calls of its functions there were.
        changes: How often the function entered next stood in another file.
    """

    files: dict[str, int]
    changes: int

    @property
    def calls(self) -> int:
        return sum(self.files.values())


def visits_of(call: Callable[[], object]) -> Visits:
    """Follow one call, warmed."""
    for _ in range(_WARM):
        call()
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            entered.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    names = [name for name in map(_name_in_the_project, entered) if name is not None]
    return Visits(dict(Counter(names).most_common()), sum(before != after for before, after in pairwise(names)))


def _name_in_the_project(filename: str) -> str | None:
    path = Path(filename)
    return next((str(path.relative_to(top.parent)) for top in _PACKAGES if top in path.parents), None)


def measured() -> dict[str, Visits]:
    """The visits of one accepted answer of each framework."""
    with server_in_a_thread() as url:
        chat, llm = gating.chat_model(url), gating_llama_index.llm(url)
        chain = think_just_enough(chat, deeper=chat, gate=accepting_gate())
        gated = EntropyGatedLLM(llm=llm, deeper=llm, gate=accepting_gate())
        question = gating_llama_index.QUESTION
        return {
            "LangChain answer": visits_of(accepted(lambda: chain.invoke("hello"), gating.decision_of)),
            "LlamaIndex chat": visits_of(accepted(lambda: gated.chat(question), gating_llama_index.decision_of)),
        }


def rows(_: Timing) -> Iterator[Row]:
    for what, visits in measured().items():
        target = TARGETS[what]
        yield Row(
            f"files that an accepted {what} visits", "what was aimed at", len(visits.files), target, 1.0, unit="files"
        )


def main() -> None:
    found = measured()
    if "--json" in sys.argv[1:]:
        fields = {
            what: {"files": visits.files, "visited": len(visits.files), "target": TARGETS[what],
                   "calls": visits.calls, "changes": visits.changes}
            for what, visits in found.items()
        }  # fmt: skip
        print(json.dumps(fields, indent=2))
        return
    for what, visits in found.items():
        title = (
            f"An accepted {what}: {len(visits.files)} files visited (at most {TARGETS[what]} aimed at), "
            f"{visits.calls} calls, file changed {visits.changes} times"
        )
        table = Table("File", title=title, title_justify="left")
        table.add_column("Calls", justify="right")
        for file, calls in visits.files.items():
            table.add_row(file, str(calls))
        Console().print(table)


if __name__ == "__main__":
    main()
