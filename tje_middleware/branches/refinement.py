"""Deeper branches: what runs when the gate is not satisfied. Framework-free; an integration supplies the model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

Answer = TypeVar("Answer")

REFINE_INSTRUCTION = "Check the answer above. If it is wrong, correct it. Give the final answer."


@dataclass(frozen=True)
class SequentialRefinement:
    """The paper's deeper branch: the model is shown its previous answer and asked to check it, again and again.

    *Think Just Enough* (arXiv 2510.08146) compares with a fixed four-step refinement and gates after the first
    step; the draft is that first step, so three more follow.

    Attributes:
        steps: Model calls beyond the draft.
        instruction: What the model is told about its previous answer.
        until_repeated: Stop as soon as a step gives the previous answer again. Small models repeat themselves more
            often than not, and then most of what a fixed number of steps costs is that repetition.

    Raises:
        ValueError: fewer than one step.
    """

    steps: int = 3
    instruction: str = REFINE_INSTRUCTION
    until_repeated: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a refinement has at least one step, not {self.steps}")

    def run(self, ask: Callable[[str], Answer], draft: object, *, text: Callable[[object], str] = str) -> Answer:
        """Refine a draft.

        Args:
            ask: One step: the previous answer's text in, the next answer out.
            draft: The first answer.
            text: How to read an answer's text.

        Returns:
            The last step's answer.
        """
        previous = text(draft)
        answer = ask(previous)
        for _ in range(self.steps - 1):
            if self._is_settled(previous, text(answer)):
                break
            previous = text(answer)
            answer = ask(previous)
        return answer

    async def arun(
        self, ask: Callable[[str], Awaitable[Answer]], draft: object, *, text: Callable[[object], str] = str
    ) -> Answer:
        """The same on the event loop."""
        previous = text(draft)
        answer = await ask(previous)
        for _ in range(self.steps - 1):
            if self._is_settled(previous, text(answer)):
                break
            previous = text(answer)
            answer = await ask(previous)
        return answer

    def _is_settled(self, previous: str, answer: str) -> bool:
        return self.until_repeated and previous.strip() == answer.strip()
