"""The agent of ``tje demo --agent``: a calculator, worked examples, a deeper branch, and how its turns are graded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tje_middleware.demo import Question, calculated, is_right

from .._agent.middleware import EntropyGateMiddleware
from .text_tool_calls import Example, TextToolCalls, messages_of

MAX_TOKENS = 48
MAX_TURNS = 4
SYSTEM = (
    "Answer questions about numbers. First write the call of the calculator, as JSON in one line. "
    "When you have its result, write the answer."
)

Agent = Runnable[Any, Any]


def _example(question: str, expression: str, result: str) -> Example:
    return Example(question, ("calculate", {"expression": expression}), result, f"The answer is {result}.")


EXAMPLES = (
    _example("What is 12 + 30?", "12 + 30", "42"),
    _example(
        "Kim buys 3 books at 7 euros each and a pen for 2 euros. How many euros does she pay?", "3 * 7 + 2", "23"
    ),
)
MORE_EXAMPLES = (
    _example("What is 57 - 19?", "57 - 19", "38"),
    _example("A class of 30 pupils makes groups of 5. How many groups are there?", "30 / 5", "6"),
    _example("What number comes next: 11, 15, 19, 23?", "23 + 4", "27"),
)


@tool
def calculate(expression: str) -> str:
    """Calculate a sum such as 3 * (4 + 5)."""
    return calculated(expression)


def with_more_examples(
    messages: list[AnyMessage],  # noqa: ARG001 (every deeper branch is given them)
    request: ModelRequest[Any],
    handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
) -> ModelResponse[Any]:
    """The deeper branch: the same model and request, with more worked examples before the question."""
    first, more = messages_of(EXAMPLES), messages_of(MORE_EXAMPLES)
    # Behind the first ones, so that a server which keeps a prompt's beginning need not read those again.
    conversation = request.messages[len(first) :]
    return handler(request.override(messages=[*first, *more, *conversation]))


def agent_model(base_url: str, model: str, api_key: str) -> ChatOpenAI:
    """A chat model as any user has it: nothing in it knows of the gate."""
    return ChatOpenAI(
        base_url=base_url,
        model=model,
        api_key=SecretStr(api_key),
        temperature=0.0,
        max_completion_tokens=MAX_TOKENS,
        stop_sequences=["\n"],
        timeout=120,
    )


def demo_agent(chat: ChatOpenAI, gate: EntropyGateMiddleware | None = None) -> Agent:
    """An agent with a calculator, gated or not; the gate comes last."""
    around: list[AgentMiddleware[Any, Any, Any]] = [
        # A model that never stops calling the tool is stopped.
        ModelCallLimitMiddleware(run_limit=MAX_TURNS, exit_behavior="end"),
        TextToolCalls(EXAMPLES),
    ]
    return create_agent(
        chat, [calculate], system_prompt=SYSTEM, middleware=around if gate is None else [*around, gate]
    )


def turns_right(question: Question, messages: Sequence[AnyMessage]) -> dict[str, bool]:
    """Of every turn of a run, by its message's id, whether it was right by itself.

    A call is right where its result is the answer: the calculator takes whole expressions, so one call suffices. An
    answer after a call is right where it says what the call's result was; it cannot know better.
    """
    right = {}
    for place, message in enumerate(messages):
        if not isinstance(message, AIMessage) or message.id is None:
            continue
        before, after = messages[place - 1], messages[place + 1 :]
        if message.tool_calls:
            result = next((each.text for each in after if isinstance(each, ToolMessage)), "")
            right[message.id] = is_right(question, result)
        elif isinstance(before, ToolMessage):
            said = question.model_copy(update={"answers": (before.text,)}) if _is_number(before.text) else question
            right[message.id] = is_right(said, message.text)
        else:
            right[message.id] = is_right(question, message.text)
    return right


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
