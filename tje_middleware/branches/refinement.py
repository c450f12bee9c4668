"""SequentialRefinement: the paper's deeper branch, in which the model checks its own answer step by step."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Answer, Ask

REFINE_INSTRUCTION = "Check the answer above. If it is wrong, correct it. Give the final answer."


@dataclass(frozen=True)
class SequentialRefinement:
    """The paper's deeper branch: the model is shown its previous answer and asked to check it, again and again.

    *Think Just Enough* (arXiv 2510.08146) compares with a fixed four-step refinement and gates after the first
    step; the draft is that first step, so three more follow.

    Attributes:
        steps: Model calls beyond the draft.
        instruction: The instruction that follows the previous answer.
        until_repeated: Stop as soon as a step gives the previous answer again. Small models mostly repeat themselves,
            and then most of the cost of a fixed number of steps is repetition.

    Raises:
        ValueError: fewer than one step.
    """

    steps: int = 3
    instruction: str = REFINE_INSTRUCTION
    until_repeated: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a refinement has at least one step, not {self.steps}")

    @property
    def needs_draft(self) -> bool:
        """True: a refinement starts from the draft."""
        return True

    @property
    def includes_draft(self) -> bool:
        """True: the draft is the first step of always refining."""
        return True

    def run(self, ask: Ask[Answer]) -> Answer:
        """Refine the draft.

        Args:
            ask: The question and its draft.

        Returns:
            The last step's answer.

        Raises:
            ValueError: there is no draft.
        """
        previous = _draft_text(ask)
        for _ in range(self.steps):
            answer = ask.again(("assistant", previous), ("user", self.instruction))
            text = ask.text_of(answer)
            if self._is_settled(previous, text):
                break
            previous = text
        return answer

    async def arun(self, ask: Ask[Answer]) -> Answer:
        """The same on the event loop."""
        previous = _draft_text(ask)
        for _ in range(self.steps):
            answer = await ask.aagain(("assistant", previous), ("user", self.instruction))
            text = ask.text_of(answer)
            if self._is_settled(previous, text):
                break
            previous = text
        return answer

    def _is_settled(self, previous: str, answer: str) -> bool:
        return self.until_repeated and previous.strip() == answer.strip()


def _draft_text(ask: Ask[Answer]) -> str:
    if ask.draft is None:
        raise ValueError("a sequential refinement refines a draft, and there is none: use it as deeper= of a gate")
    return ask.text_of(ask.draft)
