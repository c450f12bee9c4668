"""The paper's deeper branch for LangChain: the model revises its own answer, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from tje_middleware import GateDecision
from tje_middleware.branches import REFINE_INSTRUCTION, Message, SequentialRefinement

from .deeper import rejected_draft

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
    before, model, after = _parted(chain)
    refinement = SequentialRefinement(steps=steps, instruction=instruction, until_repeated=until_repeated)

    def refine(
        question: object, config: RunnableConfig, draft: object = None, decision: GateDecision | None = None
    ) -> object:
        answer = refinement.run(ChainAsk(before, model, question, config, _known(draft), decision))
        return after.invoke(answer, config) if after else answer

    async def arefine(
        question: object, config: RunnableConfig, draft: object = None, decision: GateDecision | None = None
    ) -> object:
        answer = await refinement.arun(ChainAsk(before, model, question, config, _known(draft), decision))
        return await after.ainvoke(answer, config) if after else answer

    return RunnableLambda(refine, arefine, name="sequential_refinement")


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
        return self.model.invoke([*_messages(asked), *map(_message, following)], self.config, **settings)

    async def aagain(self, *following: Message, **settings: Any) -> Any:
        """The same on the event loop."""
        asked = await self.before.ainvoke(self.question, self.config) if self.before else self.question
        return await self.model.ainvoke([*_messages(asked), *map(_message, following)], self.config, **settings)

    def text_of(self, answer: object, /) -> str:
        """The text of a message, or of what a parser made of one."""
        return answer.text if isinstance(answer, BaseMessage) else str(answer)


def _message(following: Message) -> BaseMessage:
    role, text = following
    return AIMessage(text) if role == "assistant" else HumanMessage(text)


def _known(draft: object) -> object:
    draft = rejected_draft() if draft is None else draft
    if draft is None:
        raise ValueError("sequential_refinement refines a draft: use it as deeper=, or give it draft=")
    return draft


def _parted(chain: AnyRunnable) -> tuple[AnyRunnable | None, AnyRunnable, AnyRunnable | None]:
    """What comes before the model, the model, and what comes after it."""
    steps = chain.steps if isinstance(chain, RunnableSequence) else [chain]
    for index in reversed(range(len(steps))):
        if _is_model(steps[index]):
            return _joined(steps[:index]), steps[index], _joined(steps[index + 1 :])
    raise ValueError(
        "sequential_refinement needs a chat model in the chain, as in prompt | model | parser; "
        "for other chains write a function of (input, draft) and give it as deeper="
    )


def _is_model(step: AnyRunnable) -> bool:
    while isinstance(step, RunnableBindingBase):
        step = step.bound
    return isinstance(step, BaseChatModel)


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
    raise ValueError(f"sequential_refinement cannot show a {type(asked).__name__} to a chat model")
