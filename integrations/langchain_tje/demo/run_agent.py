"""``tje demo --agent``: a real model as an agent with a tool, gated turn by turn, calibrated and measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_openai import ChatOpenAI

from tje_middleware import (
    CalibrationRecord,
    CalibrationRegistry,
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
from tje_middleware.evaluation import Comparison, compare
from tje_middleware.signals import AUTO

from ..agents.middleware import EntropyGateMiddleware
from ..callbacks.handler import EntropyCallbackHandler, capture_entropy
from .agent import MAX_TOKENS, MAX_TURNS, Agent, demo_agent, turns_right, with_more_examples
from .survey import Asked, Progress, Survey, chat_model, gates_of, no_logprobs, parted, without_threshold

TASK = "tje-agent-demo"
MAX_DEEPER_PER_RUN = 2
METHODS = ("mean", "info")
#: Below every value of every signal: a gate with this threshold accepts nothing.
_NOTHING = -1e300
_JUDGED = frozenset({"confident", "uncertain", "hopeless", "capped"})


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

    Arguments and errors are those of ``run_demo``; ``questions`` are others than the package's arithmetic.
    """
    if questions is None:
        questions = [question for question in load_questions() if question.kind == "arithmetic"]
    labelled, tested = parted(questions, calibration, test, " for the agent")
    runs = _Runs(Survey(progress, parallel), chat_model(base_url, model, api_key, MAX_TOKENS))
    key = ProfileKey(model=model, task=TASK, signal=AUTO, temperature=0.0)
    graded, records = runs.graded(labelled, key)
    registry.put(calibrate(records, key=key))
    profile = registry.get(key)
    missing = without_threshold(profile, METHODS)
    methods = [method for method in METHODS if method not in missing]
    if profile.verdict == "unusable" or not methods:
        methods = [METHODS[0]]  # all of them accept nothing, and one is enough to see it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)  # what a gate warns of stands above the table
        policies = runs.compared(tested, gates_of(registry, profile, methods))
    return AgentDemoResult(
        model=model,
        profile=profile,
        graded=graded,
        policies=policies,
        missing=missing,
        max_turns=MAX_TURNS,
        max_deeper_per_run=MAX_DEEPER_PER_RUN,
    )


class _Run:
    """One question's run: what was said, the gate's decisions, none where there is no gate, and how it ended."""

    def __init__(self, asked: Asked[dict[str, Any]]) -> None:
        self.asked = asked
        self.messages: Sequence[AnyMessage] = asked.output["messages"]
        self.decisions: Sequence[Mapping[str, Any]] = asked.output.get("tje", ())
        said = (message for message in self.messages if isinstance(message, AIMessage))
        # The limit of turns writes a message of its own, which no model counted tokens of.
        self.turns = [message for message in said if message.usage_metadata is not None]
        self.calls = sum(bool(turn.tool_calls) for turn in self.turns)
        self.cut_off = not self.turns or self.messages[-1] is not self.turns[-1]
        self.right = not self.cut_off and is_right(asked.question, self.messages[-1].text)
        self.accepted = all(decision["answered_by"] == "draft" for decision in self.decisions)


class _Runs:
    """Runs agents on questions, several at once."""

    def __init__(self, survey: Survey, chat: ChatOpenAI) -> None:
        self._survey = survey
        self._chat = chat

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
            raise no_logprobs(next(reasons, "no turn of the agent had any"))
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
        outcomes = {
            name: [run.asked.outcome(correct=run.right, accepted=run.accepted) for run in of]
            for name, of in runs.items()
        }
        compared = compare(outcomes, baseline=ALWAYS)
        return {name: _figures(of, compared[name]) for name, of in runs.items()}

    def _run(self, name: str, agent: Agent, questions: Sequence[Question]) -> list[_Run]:
        asked = self._survey.ask(
            name, agent, questions, lambda question: {"messages": [HumanMessage(question.question)]}
        )
        return [*map(_Run, asked)]


def _gated(gate: EntropyGate, *, max_deeper_per_run: int | None) -> EntropyGateMiddleware:
    # A branch that failed must end the run: its draft would be counted as a saving.
    return EntropyGateMiddleware(
        gate=gate, deeper=with_more_examples, max_deeper_per_run=max_deeper_per_run, on_branch_error="raise"
    )


def _records(run: _Run, seen: EntropyCallbackHandler) -> Iterator[CalibrationRecord]:
    """The turns of a run that have logprobs."""
    right = turns_right(run.asked.question, run.messages)
    for number, call in enumerate(seen.calls_of(run.asked.run_id), start=1):
        if isinstance(call.logprobs, SequenceLogprobs) and call.logprobs and call.message_id in right:
            yield CalibrationRecord(
                id=f"{run.asked.question.id}/{number}",
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
