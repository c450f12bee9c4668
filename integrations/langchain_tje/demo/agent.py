"""The agent of ``tje demo --agent``: a calculator, worked examples, a deeper branch, and how its turns are graded."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI
from pydantic import TypeAdapter, ValidationError

from tje_middleware.demo import Question, calculated, is_right

from ..agents.middleware import EntropyGateMiddleware

# The ids of calls that a model wrote as text begin with it; these are shown to the model as text again.
_WRITTEN = "written_"


class TextToolCalls(AgentMiddleware[Any, Any, Any]):
    """Reads ``{"name": ..., "arguments": {...}}`` in a model's text as the call of a tool.

    Strictly: the text is that object and nothing else, the tool is known, and the arguments fit it; any other text
    stays text. In the next turn the model sees its call as it wrote it, and the result as ``name: result``. Calls
    that a model makes natively pass through.

    In front of the gate, so that the gate judges the text that the model wrote, with all of its logprobs.

    Args:
        examples: Shown before the conversation.
    """

    def __init__(self, examples: Sequence[AnyMessage] = ()) -> None:
        super().__init__()
        self.tools = []
        self._examples = examples

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask in text, and read the answer."""
        return self._read(handler(self._in_text(request)), request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same on the event loop."""
        return self._read(await handler(self._in_text(request)), request)

    def _in_text(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        return request.override(messages=[*self._examples, *map(_as_text, request.messages)])

    def _read(self, response: ModelResponse[Any], request: ModelRequest[Any]) -> ModelResponse[Any]:
        tools = {tool.name: tool for tool in request.tools if isinstance(tool, BaseTool)}
        return replace(response, result=[_with_call(message, tools) for message in response.result])


def _with_call(message: Any, tools: Mapping[str, BaseTool]) -> Any:
    if (
        not isinstance(message, AIMessage)
        or message.tool_calls
        or (call := written_call(message.text, tools)) is None
    ):
        return message
    made = {"name": call[0], "args": call[1], "id": f"{_WRITTEN}{uuid4().hex[:12]}", "type": "tool_call"}
    return message.model_copy(update={"tool_calls": [made]})


def written_call(text: str, tools: Mapping[str, BaseTool]) -> tuple[str, dict[str, Any]] | None:
    """The one call of a known tool that a text is; None where it is anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.keys() != {"name", "arguments"}:
        return None
    name, arguments = found["name"], found["arguments"]
    tool = tools.get(name) if isinstance(name, str) else None
    if tool is None or not isinstance(arguments, dict) or not arguments.keys() <= tool.args.keys():
        return None
    try:
        TypeAdapter(tool.get_input_schema()).validate_python(arguments)
    except ValidationError:
        return None
    return name, arguments


def _as_text(message: AnyMessage) -> AnyMessage:
    if isinstance(message, AIMessage) and any(_was_written(call["id"]) for call in message.tool_calls):
        return message.model_copy(update={"tool_calls": []})
    if isinstance(message, ToolMessage) and _was_written(message.tool_call_id):
        return _told(message.name, message.text)
    return message


def _was_written(call_id: str | None) -> bool:
    return bool(call_id and call_id.startswith(_WRITTEN))


def _told(name: str | None, result: str) -> HumanMessage:
    return HumanMessage(f"{name}: {result}")


MAX_TOKENS = 48
MAX_TURNS = 4
SYSTEM = (
    "Answer questions about numbers. First write the call of the calculator, as JSON in one line. "
    "When you have its result, write the answer."
)

Agent = Runnable[Any, Any]


def _example(question: str, expression: str, result: str) -> list[AnyMessage]:
    """A question and its answer by a call, as a model reads them that knows nothing of tools."""
    call = json.dumps({"name": "calculate", "arguments": {"expression": expression}})
    told = _told("calculate", result)
    return [HumanMessage(question), AIMessage(call), told, AIMessage(f"The answer is {result}.")]


EXAMPLES = [
    *_example("What is 12 + 30?", "12 + 30", "42"),
    *_example(
        "Kim buys 3 books at 7 euros each and a pen for 2 euros. How many euros does she pay?", "3 * 7 + 2", "23"
    ),
]
MORE_EXAMPLES = [
    *_example("What is 57 - 19?", "57 - 19", "38"),
    *_example("A class of 30 pupils makes groups of 5. How many groups are there?", "30 / 5", "6"),
    *_example("What number comes next: 11, 15, 19, 23?", "23 + 4", "27"),
]


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
    # Behind the first examples, so that a server which keeps a prompt's beginning need not read those again.
    conversation = request.messages[len(EXAMPLES) :]
    return handler(request.override(messages=[*EXAMPLES, *MORE_EXAMPLES, *conversation]))


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
        before, said, graded = messages[place - 1], str(message.text), question
        if message.tool_calls:
            said = next((each.text for each in messages[place + 1 :] if isinstance(each, ToolMessage)), "")
        elif isinstance(before, ToolMessage) and _is_number(before.text):
            graded = question.model_copy(update={"answers": (before.text,)})
        right[message.id] = is_right(graded, said)
    return right


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
