"""``tje demo``: a real model, gated through a LangChain chain, calibrated and measured."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from tje_middleware import (
    CalibrationRecord,
    CalibrationRegistry,
    EntropyGate,
    ProfileKey,
    SequenceLogprobs,
    TjeWarning,
    UnreadableLogprobs,
    calibrate,
    parse_logprobs,
)
from tje_middleware.demo import ALWAYS, NEVER, UNTIL_REPEATED, DemoResult, Question, is_right, label, load_questions
from tje_middleware.evaluation import Outcome, compare
from tje_middleware.signals import AUTO

from ..asking.chain import ask_logprobs
from ..branches.refinement import sequential_refinement
from ..chains.decorator import think_just_enough
from .survey import Asked, Progress, Survey, chat_model, gates_of, no_logprobs, parted, without_threshold

PROMPT = "{question}\nAnswer with one word or number only."
TASK = "tje-demo"
MAX_TOKENS = 24
REFINEMENT_STEPS = 3
# A small model is wrong about hard questions with confidence: one wrong answer in twenty is out of its reach.
ALPHA = 0.2

Chain: TypeAlias = Runnable[dict[str, str], AIMessage]
Answer: TypeAlias = Asked[AIMessage]


def run_demo(
    base_url: str,
    model: str,
    *,
    registry: CalibrationRegistry,
    calibration: int,
    test: int,
    progress: Progress,
    api_key: str = "none",
    parallel: int = 8,
) -> DemoResult:
    """Calibrate on one part of the questions, and run every policy on another part for real.

    Args:
        base_url: An OpenAI-compatible server.
        model: The model to ask for.
        registry: Where the profile is stored.
        calibration: Questions to calibrate from.
        test: Questions to run the policies on; none of them was calibrated from.
        progress: Told how far it is.
        api_key: The server's key.
        parallel: Questions asked at once.

    Raises:
        DemoError: the server gives no logprobs or counts no tokens, or there are not so many questions.
        RegistryError: the profile cannot be stored.
    """
    labelled, tested = parted(load_questions(), calibration, test)
    prompt = ChatPromptTemplate.from_messages([("human", PROMPT)])
    run = _Run(Survey(progress, parallel), prompt | chat_model(base_url, model, api_key, MAX_TOKENS))
    key = ProfileKey(model=model, task=TASK, signal=AUTO, temperature=0.0)
    records = run.records(labelled, key)
    registry.put(calibrate(records, key=key, alpha=ALPHA))
    profile = registry.get(key)
    methods = [method for method in profile.thresholds if method != "cost"]  # it needs prices, and the demo has none
    missing = without_threshold(profile, methods)
    gates = gates_of(registry, profile, [method for method in methods if method not in missing])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)  # what a gate warns of stands above the table
        answers = run.answers(tested, gates)
    outcomes = {name: [_outcome(each, name) for each in of_policy] for name, of_policy in answers.items()}
    return DemoResult(
        model=model,
        profile=profile,
        comparisons=compare(outcomes, baseline=ALWAYS),
        missing=missing,
        calibrated_on=records,
        tested_on=[
            # Always going deeper pays for the draft, which is no part of what the branch itself cost.
            _record(draft, deeper, deeper_tokens=max(deeper.output_tokens - draft.output_tokens, 0))
            for draft, deeper in zip(answers[NEVER], answers[ALWAYS], strict=True)
        ],
    )


class _Run:
    """Asks questions through a chain, plainly, deeper and gated."""

    def __init__(self, survey: Survey, chain: Chain) -> None:
        self._survey = survey
        self._chain = chain

    def records(self, questions: Sequence[Question], key: ProfileKey) -> list[CalibrationRecord]:
        """Answer once each and refine the answer; keep logprobs, grades and costs of both."""
        drafts = self._ask("drafts", ask_logprobs(self._chain, top_k=key.top_k), questions)
        for draft in drafts:
            _logprobs(draft)  # refused before the refinement is paid for
        refine = sequential_refinement(self._chain, steps=REFINEMENT_STEPS)
        written = {draft.question.question: draft.output for draft in drafts}

        def deepen(question: dict[str, str], config: RunnableConfig) -> AIMessage:
            refined: AIMessage = refine.invoke(question, config, draft=written[question["question"]])
            return refined

        refined = self._ask("their refinement", RunnableLambda(deepen), questions)
        return [_record(*pair, deeper_tokens=pair[1].output_tokens) for pair in zip(drafts, refined, strict=True)]

    def answers(self, questions: Sequence[Question], gates: Mapping[str, EntropyGate]) -> dict[str, list[Answer]]:
        """Run every policy on the same questions, each for real."""
        deeper = sequential_refinement(self._chain, steps=REFINEMENT_STEPS)
        until_repeated = sequential_refinement(self._chain, steps=REFINEMENT_STEPS, until_repeated=True)
        policies: dict[str, Chain] = {
            NEVER: ask_logprobs(self._chain),
            ALWAYS: _always(self._chain, deeper),
            UNTIL_REPEATED: _always(self._chain, until_repeated),
        }
        for method, gate in gates.items():
            # A branch that failed must end the run: its draft would be counted as a saving.
            policies[method] = think_just_enough(self._chain, deeper=deeper, gate=gate, on_branch_error="raise")
        return {name: self._ask(label(name), policy, questions) for name, policy in policies.items()}

    def _ask(self, name: str, chain: Chain, questions: Sequence[Question]) -> list[Answer]:
        return self._survey.ask(name, chain, questions, lambda question: {"question": question.question})


def _always(chain: Chain, deeper: Runnable[Any, Any]) -> Chain:
    """The paper's baseline: the draft and every step of its refinement, whatever the draft is like."""

    def answer(question: dict[str, str], config: RunnableConfig) -> AIMessage:
        draft = chain.invoke(question, config)
        refined: AIMessage = deeper.invoke(question, config, draft=draft)
        return refined

    return RunnableLambda(answer, name="always_deeper")


def _record(draft: Answer, deeper: Answer, *, deeper_tokens: int) -> CalibrationRecord:
    return CalibrationRecord(
        id=draft.question.id,
        correct=_right(draft),
        tokens=draft.output_tokens,
        sequence=_logprobs(draft),
        deeper_correct=_right(deeper),
        deeper_tokens=deeper_tokens,
    )


def _right(answer: Answer) -> bool:
    return is_right(answer.question, answer.output.text)


def _outcome(answer: Answer, policy: str) -> Outcome:
    route = answer.output.response_metadata.get("tje", {}).get("route")
    return answer.outcome(correct=_right(answer), accepted=policy == NEVER or route == "final")


def _logprobs(answer: Answer) -> SequenceLogprobs:
    try:
        return parse_logprobs(answer.output)
    except UnreadableLogprobs as error:
        raise no_logprobs(error) from error
