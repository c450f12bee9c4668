"""What the deeper LLM is asked otherwise than the one that drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate

from tje_middleware.calls.capabilities import LogprobsCapabilities

from ..answers.responses import without_decisions
from ..asking.calls import LLMCall
from ..asking.model import AskedLLM
from ..asking.settings import Kind, Settings, asking_of, asks_for_logprobs, without_asking
from .structured import StructuredCall


@dataclass(frozen=True)
class DeeperLLM:
    """The deeper LLM, with what it is given beside the question.

    Attributes:
        llm: The LLM.
        settings: Arguments of its calls; they win over the question's.
        instruction: For its system message.
        capabilities: Where it is remembered that this LLM refuses logprobs, for callers that want them of both; not
            the gate's, since it may be the LLM that drafts, with other settings.
        is_another: Whether it is another LLM than the one that drafts, and not asked for a model by that one's name.
    """

    llm: LLM
    settings: Settings
    instruction: str | None
    capabilities: LogprobsCapabilities
    is_another: bool = True

    def asked(self, kind: Kind, question: Any, settings: Settings) -> LLMCall:
        """The request for a question that is asked in messages or by a prompt."""
        if kind == "chat":
            question = self._instructed(without_decisions(question))
        elif self.instruction is not None:
            question = f"{self.instruction}\n\n{question}"
        return LLMCall(self.asking_for(settings), kind, question, self._own(settings))

    def predicting(
        self, output_cls: type[Any], prompt: BasePromptTemplate, settings: Settings, variables: Mapping[str, Any]
    ) -> StructuredCall:
        """The request for an object."""
        if self.instruction is not None:
            messages = prompt.format_messages(llm=self.llm, **variables)
            prompt, variables = ChatPromptTemplate(message_templates=self._instructed(messages)), {}
        return StructuredCall(self.asking_for(settings), output_cls, prompt, self._own(settings), variables)

    def asking_for(self, settings: Settings) -> LLM:
        """The LLM as it is asked: a caller who wants logprobs gets the answer without, where it refuses them."""
        if not asks_for_logprobs(settings):
            return self.llm
        given = asking_of(settings)
        return AskedLLM(llm=self.llm, top_k=1, capabilities=self.capabilities, given=given)

    def _own(self, settings: Settings) -> dict[str, Any]:
        rest = without_asking(settings)
        if self.is_another:
            rest.pop("model", None)
        return {**rest, **self.settings}

    def _instructed(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """The messages with the instruction at the end of the system message; not as one of the user's."""
        if self.instruction is None:
            return list(messages)
        instructed = list(messages)
        place = next((n for n, each in enumerate(instructed) if each.role == MessageRole.SYSTEM), None)
        if place is None:
            return [ChatMessage(role=MessageRole.SYSTEM, content=self.instruction), *instructed]
        system = instructed[place]
        more = TextBlock(text=f"\n\n{self.instruction}" if system.content else self.instruction)
        instructed[place] = system.model_copy(update={"blocks": [*system.blocks, more]})
        return instructed
