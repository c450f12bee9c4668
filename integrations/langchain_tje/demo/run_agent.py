"""``tje demo --agent``: a real model as an agent with a tool, gated turn by turn, calibrated and measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from openai import OpenAIError

from tje_middleware import (
    CalibrationProfile,
    CalibrationRecord,
    CalibrationRegistry,
    DemoError,
    EntropyGate,
    ProfileKey,
    SequenceLogprobs,
    TjeWarning,
    UnreadableLogprobs,
    calibrate,
)
from tje_middleware.demo import (
    ALWAYS,
    NEVER,
    AgentDemoResult,
    AgentFigures,
    GradedRuns,
    Question,
    is_right,
    label,
    load_questions,
)
from tje_middleware.evaluation import Comparison, Outcome, compare
from tje_middleware.signals import AUTO

from ..agents.middleware import EntropyGateMiddleware
from ..callbacks.handler import EntropyCallbackHandler, capture_entropy
from .agent import MAX_TURNS, Agent, agent_model, demo_agent, turns_right, with_more_examples

TASK = "tje-agent-demo"
MAX_DEEPER_PER_RUN = 2
METHODS = ("mean", "info")
#: Below every value of every signal: a gate with this threshold accepts nothing.
_NOTHING = -1e300
_JUDGED = frozenset({"confident", "uncertain", "hopeless", "capped"})

#: Called with the name of what is being done, how many questions of it are done, and how many there are.
Progress = Callable[[str, int, int], None]


def run_agent_demo(
    base_url: str,
    model: str,
    *,
    registry: CalibrationRegistry,
    calibration: int,
    test: int,
    progress: Progress,
    api_key: str = "none",
    parallel: int = 8,
    questions: Sequence[Question] | None = None,
) -> AgentDemoResult:
    """Calibrate on the turns of an agent's runs, and run every policy on other questions for real.

    Args:
        base_url: An OpenAI-compatible server.
        model: The model to ask for.
        registry: Where the profile is stored.
        calibration: Questions to calibrate from.
        test: Questions to run the policies on; none of them was calibrated from.
        progress: Told how far it is.
        api_key: The server's key.
        parallel: Questions asked at once.
        questions: Others than the package's arithmetic.

    Raises:
        DemoError: the server gives no logprobs or counts no tokens, or there are not so many questions.
        RegistryError: the profile cannot be stored.
    """
    if questions is None:
        questions = [question for question in load_questions() if question.kind == "arithmetic"]
    if calibration + test > len(questions):
        raise DemoError(f"there are {len(questions)} questions for the agent, fewer than {calibration} + {test}")
    runs = _Runs(agent_model(base_url, model, api_key), progress, parallel)
    key = ProfileKey(model=model, task=TASK, signal=AUTO, temperature=0.0)
    graded, records = runs.graded(questions[:calibration], key)
    registry.put(calibrate(records, key=key))
    profile = registry.get(key)
    missing = {name: reason for name in METHODS if (reason := profile.thresholds[name].reason) is not None}
    gates = _gates(registry, profile, [name for name in METHODS if name not in missing])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)  # what a gate warns of stands above the table
        policies = runs.compared(questions[calibration : calibration + test], gates)
    return AgentDemoResult(
        model=model,
        profile=profile,
        graded=graded,
        policies=policies,
        missing=missing,
        max_turns=MAX_TURNS,
        max_deeper_per_run=MAX_DEEPER_PER_RUN,
    )


def _gates(
    registry: CalibrationRegistry, profile: CalibrationProfile, methods: Sequence[str]
) -> dict[str, EntropyGate]:
    """The gates to run for real; where they accept nothing they are all alike, and one is enough to see it."""
    if profile.verdict == "unusable" or not methods:
        methods = METHODS[:1]
    return {
        method: EntropyGate.from_registry(
            registry, model=profile.key.model, task=TASK, signal=AUTO, temperature=0.0, method=method
        )
        for method in methods
    }


@dataclass(frozen=True)
class _Run:
    """One question's run: what the agent's state was in the end, and what it cost."""

    question: Question
    run_id: UUID
    messages: Sequence[AnyMessage]
    decisions: Sequence[Mapping[str, Any]]
    meter: UsageMetadataCallbackHandler

    @property
    def turns(self) -> list[AIMessage]:
        """What the model said; the limit of turns writes a message of its own, which no model counted tokens of."""
        said = (message for message in self.messages if isinstance(message, AIMessage))
        return [message for message in said if message.usage_metadata is not None]

    @property
    def cut_off(self) -> bool:
        """Whether it ended without an answer."""
        return not self.turns or self.messages[-1] is not self.turns[-1]

    @property
    def right(self) -> bool:
        """Whether it ended with the right answer."""
        return not self.cut_off and is_right(self.question, self.messages[-1].text)

    @property
    def calls(self) -> int:
        """Turns that called the tool."""
        return sum(bool(turn.tool_calls) for turn in self.turns)

    def outcome(self, *, accepts_all: bool) -> Outcome:
        """For a comparison.

        Raises:
            DemoError: the server counts no tokens.
        """
        usages = self.meter.usage_metadata.values()
        if not usages:
            raise DemoError("this server does not say how many tokens an answer took, so none can be compared")
        return Outcome(
            correct=self.right,
            output_tokens=sum(usage["output_tokens"] for usage in usages),
            input_tokens=sum(usage["input_tokens"] for usage in usages),
            accepted=accepts_all or all(decision["answered_by"] == "draft" for decision in self.decisions),
        )


class _Runs:
    """Runs agents on questions, several at once."""

    def __init__(self, chat: ChatOpenAI, progress: Progress, parallel: int) -> None:
        self._chat = chat
        self._progress = progress
        self._parallel = parallel

    def graded(self, questions: Sequence[Question], key: ProfileKey) -> tuple[GradedRuns, list[CalibrationRecord]]:
        """Runs of the ungated agent, its turns as records.

        Raises:
            DemoError: no turn came with logprobs.
        """
        asking = self._chat.model_copy(update={"logprobs": True, "top_logprobs": key.top_k})
        with capture_entropy(max_calls=len(questions) * MAX_TURNS) as seen:
            runs = self._run("graded runs", demo_agent(asking), questions)
        records = [record for run in runs for record in _records(run, seen)]
        if not records:
            reasons = (str(call.logprobs) for call in seen.calls if isinstance(call.logprobs, UnreadableLogprobs))
            why = next(reasons, "no turn of the agent had any")
            raise DemoError(f"this server gives no logprobs that a gate could use: {why}")
        turns = sum(len(run.turns) for run in runs)
        found = GradedRuns(
            runs=len(runs),
            right=sum(run.right for run in runs),
            turns=turns,
            calls=sum(run.calls for run in runs),
            unmeasured=turns - len(records),
        )
        return found, records

    def compared(self, questions: Sequence[Question], gates: Mapping[str, EntropyGate]) -> dict[str, AgentFigures]:
        """Every policy on the same questions, each for real."""
        rejects_all = next(iter(gates.values())).with_threshold(_NOTHING)
        agents = {
            NEVER: demo_agent(self._chat),
            ALWAYS: demo_agent(self._chat, _gated(rejects_all, max_deeper_per_run=None)),
        }
        for method, gate in gates.items():
            agents[method] = demo_agent(self._chat, _gated(gate, max_deeper_per_run=MAX_DEEPER_PER_RUN))
        runs = {name: self._run(label(name), agent, questions) for name, agent in agents.items()}
        outcomes = {name: [run.outcome(accepts_all=name == NEVER) for run in of] for name, of in runs.items()}
        compared = compare(outcomes, baseline=ALWAYS)
        return {name: _figures(of, compared[name]) for name, of in runs.items()}

    def _run(self, name: str, agent: Agent, questions: Sequence[Question]) -> list[_Run]:
        """All runs, in the order of the questions."""
        meters = [UsageMetadataCallbackHandler() for _ in questions]
        ids = [uuid4() for _ in questions]
        configs: list[RunnableConfig] = [
            {"callbacks": [meter], "run_id": run_id, "max_concurrency": self._parallel}
            for meter, run_id in zip(meters, ids, strict=True)
        ]
        states: dict[int, Any] = {}
        self._progress(name, 0, len(questions))
        try:
            inputs = [{"messages": [HumanMessage(question.question)]} for question in questions]
            for index, state in agent.batch_as_completed(inputs, configs):
                states[index] = state
                self._progress(name, len(states), len(questions))
        except OpenAIError as error:
            raise DemoError(f"the server did not answer: {error}; check the URL, the key and the model") from error
        return [
            _Run(question, ids[index], states[index]["messages"], states[index].get("tje", []), meters[index])
            for index, question in enumerate(questions)
        ]


def _gated(gate: EntropyGate, *, max_deeper_per_run: int | None) -> EntropyGateMiddleware:
    # A branch that failed must end the run: its draft would be counted as a saving.
    return EntropyGateMiddleware(
        gate=gate, deeper=with_more_examples, max_deeper_per_run=max_deeper_per_run, on_branch_error="raise"
    )


def _records(run: _Run, seen: EntropyCallbackHandler) -> Iterator[CalibrationRecord]:
    """The turns of a run that have logprobs."""
    right = turns_right(run.question, run.messages)
    for number, call in enumerate(seen.calls_of(run.run_id), start=1):
        if isinstance(call.logprobs, SequenceLogprobs) and call.logprobs and call.message_id in right:
            yield CalibrationRecord(
                id=f"{run.question.id}/{number}",
                correct=right[call.message_id],
                tokens=call.usage.output_tokens,
                sequence=call.logprobs,
            )


def _figures(runs: Sequence[_Run], compared: Comparison) -> AgentFigures:
    decisions = [decision for run in runs for decision in run.decisions]
    return AgentFigures(
        comparison=compared,
        turns=sum(len(run.turns) for run in runs),
        calls=sum(run.calls for run in runs),
        accepted=_count(decisions, "route", {"final"}),
        deeper=_count(decisions, "answered_by", {"deeper"}),
        unknown=len(decisions) - _count(decisions, "reason", _JUDGED),
        capped=_count(decisions, "reason", {"capped"}),
        runs_capped=sum(_count(run.decisions, "reason", {"capped"}) > 0 for run in runs),
        runs_cut_off=sum(run.cut_off for run in runs),
    )


def _count(decisions: Iterable[Mapping[str, Any]], name: str, values: Iterable[str]) -> int:
    return sum(decision[name] in values for decision in decisions)
