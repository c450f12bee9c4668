"""Branches that ask a chain's model again, such as the paper's: the model checks its own answer, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from tje_middleware import GateDecision
from tje_middleware.branches import REFINE_INSTRUCTION, Branch, Message, SequentialRefinement

from ..asking.chain import is_chat_model
from .deeper import OverChain, as_message, rejected_draft

AnyRunnable = Runnable[Any, Any]


def sequential_refinement(
    chain: Runnable[Any, Any],
    *,
    steps: int = 3,
    instruction: str = REFINE_INSTRUCTION,
    until_repeated: bool = False,
) -> Runnable[Any, Any]:
    """A deeper branch that shows the chain's model its own answer and asks it to check, ``steps`` times.

    Each step is a fresh conversation: the chain's own messages, the previous answer, the instruction. What the
    chain does after its model (parsing) is done once, after the last step.

    Args:
        chain: A chat model, or a sequence with one: everything before the model makes its messages.
        steps: Model calls beyond the draft; the paper's baseline has three.
        instruction: What the model is told about its previous answer.
        until_repeated: Stop as soon as a step gives the previous answer again.

    Returns:
        A Runnable for ``deeper=``, alone or in a composition; by itself it is given ``draft=``.

    Raises:
        ValueError: no chat model is to be seen in the chain, or fewer than one step.
    """
    refinement = SequentialRefinement(steps=steps, instruction=instruction, until_repeated=until_repeated)
    return over_chain(refinement, chain, name="sequential_refinement")


def over_chain(branch: Branch[Any, Any], chain: AnyRunnable, *, name: str | None = None) -> OverChain:
    """A branch that asks a chain's model, as a Runnable of the chain's input.

    Args:
        branch: The branch.
        chain: A chat model, or a sequence with one. What comes after the model is done once, with the branch's
            answer.
        name: The Runnable's; None for the branch's.

    Raises:
        ValueError: no chat model is to be seen in the chain.
    """
    name = name or type(branch).__name__
    before, model, after = _parted(chain, name)

    def run(
        question: object, config: RunnableConfig, draft: object = None, decision: GateDecision | None = None
    ) -> object:
        answer = branch.run(ChainAsk(before, model, question, config, _known(draft), decision))
        return after.invoke(answer, config) if after else answer

    async def arun(
        question: object, config: RunnableConfig, draft: object = None, decision: GateDecision | None = None
    ) -> object:
        answer = await branch.arun(ChainAsk(before, model, question, config, _known(draft), decision))
        return await after.ainvoke(answer, config) if after else answer

    runnable = OverChain(run, arun, name=name)
    runnable.branch = branch
    return runnable


@dataclass(frozen=True)
class ChainAsk:
    """A question to a chain with a chat model, whose messages can be followed by others.

    Attributes:
        before: What makes the model's messages of the question; None where the question is them.
        model: The chat model.
        question: The chain's input.
        config: The run's.
        draft: The answer that was not accepted.
        decision: Why it was not; None outside a gate.
    """

    before: AnyRunnable | None
    model: AnyRunnable
    question: object
    config: RunnableConfig
    draft: Any
    decision: Any

    def again(self, *following: Message, **settings: Any) -> Any:
        """Ask the model the chain's own messages, followed by these."""
        asked = self.before.invoke(self.question, self.config) if self.before else self.question
        return self.model.invoke([*_messages(asked), *map(as_message, following)], self.config, **settings)

    async def aagain(self, *following: Message, **settings: Any) -> Any:
        """The same on the event loop."""
        asked = await self.before.ainvoke(self.question, self.config) if self.before else self.question
        return await self.model.ainvoke([*_messages(asked), *map(as_message, following)], self.config, **settings)

    def text_of(self, answer: object, /) -> str:
        """The text of a message, or of what a parser made of one."""
        return answer.text if isinstance(answer, BaseMessage) else str(answer)


def _known(draft: object) -> object:
    return rejected_draft() if draft is None else draft


def _parted(chain: AnyRunnable, name: str) -> tuple[AnyRunnable | None, AnyRunnable, AnyRunnable | None]:
    """What comes before the model, the model, and what comes after it."""
    steps = chain.steps if isinstance(chain, RunnableSequence) else [chain]
    for index in reversed(range(len(steps))):
        if _is_model(steps[index]):
            return _joined(steps[:index]), steps[index], _joined(steps[index + 1 :])
    raise ValueError(
        f"{name} needs a chat model in the chain, as in prompt | model | parser; "
        "for other chains write a function of (input, draft) and give it as deeper="
    )


def _is_model(step: AnyRunnable) -> bool:
    while isinstance(step, RunnableBindingBase):
        step = step.bound
    return is_chat_model(step)


def _joined(steps: list[AnyRunnable]) -> AnyRunnable | None:
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else RunnableSequence(*steps)


def _messages(asked: object) -> list[BaseMessage]:
    """What a chat model takes as its input, as messages."""
    if isinstance(asked, PromptValue):
        return asked.to_messages()
    if isinstance(asked, str):
        return [HumanMessage(asked)]
    if isinstance(asked, list) and all(isinstance(message, BaseMessage) for message in asked):
        return list(asked)
    raise ValueError(f"a deeper branch cannot show a {type(asked).__name__} to a chat model")
