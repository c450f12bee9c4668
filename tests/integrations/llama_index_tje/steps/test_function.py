"""Functions that call LLMs, gated by all that they call."""

import asyncio
import functools
import inspect
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import pytest
from llama_index.core.llms import LLM, ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from llama_index_tje import ask_logprobs, capture_entropy, think_just_enough
from llama_index_tje.capture import blocks as strays
from workflows.errors import WorkflowCancelledByUser

from tests.gates import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision, GateError, TjeWarning

from ..query.engines import Engines

CERTAIN, UNSURE = "bits=0.5", "bits=2.5"
Make = Callable[..., LLM]


def decided(call: Callable[[], Any]) -> tuple[Any, GateDecision]:
    """What a call gives, and what was decided in it."""
    with capture_entropy() as seen:
        answer = call()
    (decision,) = seen.decisions
    return answer, decision


class TestWhatItIs:
    def test_a_plain_function(self, asked: LLM, gate: EntropyGate) -> None:
        @think_just_enough(gate=gate, deeper=lambda _: "deeper")
        def answer(question: str) -> str:
            return asked.complete(question).text.strip()

        assert (answer(CERTAIN), answer(UNSURE)) == ("w0 w1 w2 w3", "deeper")

    async def test_an_asynchronous_function(self, asked: LLM, gate: EntropyGate) -> None:
        async def deepen(question: str) -> str:
            return "deeper"

        @think_just_enough(gate=gate, deeper=deepen)
        async def answer(question: str) -> str:
            return (await asked.acomplete(question)).text.strip()

        assert (await answer(CERTAIN), await answer(UNSURE)) == ("w0 w1 w2 w3", "deeper")

    def test_a_method_whose_deeper_branch_is_another_method(self, asked: LLM, gate: EntropyGate) -> None:
        class Service:
            style = "polite"

            def deepen(self, question: str, *, draft: str) -> str:
                return f"{self.style} {draft}"

            @think_just_enough(gate=gate, deeper=deepen)
            def answer(self, question: str) -> str:
                return asked.complete(question).text.strip()

        assert Service().answer(UNSURE) == "polite w0 w1 w2 w3"

    def test_a_static_method_with_the_decorator_next_to_the_function(self, asked: LLM, gate: EntropyGate) -> None:
        class Service:
            @staticmethod
            @think_just_enough(gate=gate, deeper=lambda _: "deeper")
            def answer(question: str) -> str:
                return asked.complete(question).text

        assert Service().answer(UNSURE) == "deeper"

    def test_an_object_that_is_called_and_a_partial_function(self, asked: LLM, gate: EntropyGate) -> None:
        class Answer:
            async def __call__(self, question: str) -> str:
                return (await asked.acomplete(question)).text

        def answer(llm: LLM, question: str) -> str:
            return llm.complete(question).text

        called = think_just_enough(Answer(), gate=gate, deeper=lambda _: "deeper")
        partial = think_just_enough(functools.partial(answer, asked), gate=gate, deeper=lambda _: "deeper")
        assert asyncio.run(called(UNSURE)) == partial(UNSURE) == "deeper"

    def test_it_stays_what_it_was_to_whoever_looks_at_it(self, gate: EntropyGate) -> None:
        def answer(question: str, *, times: int = 1) -> str:
            """Answers."""
            return question * times

        async def aanswer(question: str) -> str:
            return question

        gated = think_just_enough(answer, gate=gate, deeper=answer)
        assert (gated.__name__, gated.__doc__, gated.__annotations__) == (
            "answer",
            "Answers.",
            answer.__annotations__,
        )
        assert inspect.signature(gated) == inspect.signature(answer)
        assert not inspect.iscoroutinefunction(gated)
        assert inspect.iscoroutinefunction(think_just_enough(aanswer, gate=gate, deeper=answer))

    def test_a_function_of_a_module_is_pickled_by_its_name(self) -> None:
        assert pickle.loads(pickle.dumps(of_a_module)) is of_a_module


@think_just_enough(gate=make_gate(), deeper=str.upper)
def of_a_module(question: str) -> str:
    return question


class TestDeeper:
    def test_it_is_given_the_draft_and_the_decision_where_it_names_them(self, asked: LLM, gate: EntropyGate) -> None:
        def revise(question: str, draft: str, decision: GateDecision) -> str:
            return f"{question}|{draft.strip()}|{decision.reason}"

        answer = think_just_enough(lambda question: asked.complete(question).text, gate=gate, deeper=revise)
        assert answer(UNSURE) == "bits=2.5|w0 w1 w2 w3|uncertain"

    def test_what_the_function_itself_is_called_with_by_such_a_name_stays(
        self, asked: LLM, gate: EntropyGate
    ) -> None:
        def review(draft: str) -> str:
            return asked.complete(draft).text

        answer = think_just_enough(review, gate=gate, deeper=lambda draft: f"deeper than {draft}")
        assert answer(UNSURE) == answer(draft=UNSURE) == "deeper than bits=2.5"

    def test_a_branch_that_takes_other_arguments_is_a_mistake_and_no_failure(
        self, asked: LLM, gate: EntropyGate
    ) -> None:
        def deepen() -> str:
            return "deeper"

        answer = think_just_enough(lambda question: asked.complete(question).text, gate=gate, deeper=deepen)
        with pytest.raises(TypeError, match=r"deepen is called with what .* is called with: too many positional"):
            answer(UNSURE)

    async def test_a_plain_function_under_an_asynchronous_one_runs_in_a_thread(
        self, asked: LLM, deep: LLM, gate: EntropyGate
    ) -> None:
        async def answer(question: str) -> ChatResponse:
            return await asked.achat([ChatMessage(question)])

        def deepen(question: str) -> ChatResponse:
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            return deep.chat([ChatMessage(question)])

        response = await think_just_enough(answer, gate=gate, deeper=deepen)(UNSURE)
        usage = response.message.additional_kwargs["tje"]["deeper_usage"]
        assert (usage["calls"], usage["output_tokens"]) == (1, 4)

    async def test_a_lambda_around_an_asynchronous_function(self, asked: LLM, gate: EntropyGate) -> None:
        async def answer(question: str) -> CompletionResponse:
            return await asked.acomplete(question)

        gated = think_just_enough(answer, gate=gate, deeper=lambda _: asked.acomplete("says=deeper"))
        assert (await gated(UNSURE)).text.strip() == "deeper"

    def test_an_asynchronous_branch_of_a_plain_function_is_refused_at_once(self, gate: EntropyGate) -> None:
        async def deepen(question: str) -> str:
            return question

        with pytest.raises(TypeError, match=r"deepen is asynchronous and .*lambda.* is not"):
            think_just_enough(lambda question: question, gate=gate, deeper=deepen)

    def test_a_branch_that_fails_leaves_the_draft(self, asked: LLM, llm: Make, gate: EntropyGate) -> None:
        broken = llm("broken")
        answer = think_just_enough(asked.complete, gate=gate, deeper=broken.complete)
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            response = answer(UNSURE)
        assert response.text.strip() == "w0 w1 w2 w3"
        assert response.additional_kwargs["tje"]["reason"] == "branch_failed"

    def test_a_branch_that_fails_raises_where_that_is_wanted(self, asked: LLM, gate: EntropyGate) -> None:
        def deepen(question: str) -> str:
            raise LookupError("no")

        with pytest.raises(LookupError):
            think_just_enough(asked.complete, gate=gate, deeper=deepen, on_branch_error="raise")(UNSURE)


class TestEvidence:
    @pytest.mark.parametrize(
        ("aggregate", "bits", "reason"),
        [("worst", 2.5, "uncertain"), ("last", 0.5, "confident"), ("pooled", 1.5, "uncertain")],
    )
    def test_several_calls_are_judged_by_the_rule(
        self, asked: LLM, gate: EntropyGate, aggregate: Any, bits: float, reason: str
    ) -> None:
        @think_just_enough(gate=gate, deeper=lambda: "deeper", aggregate=aggregate)
        def answer() -> str:
            return "".join(asked.complete(question).text for question in (UNSURE, CERTAIN))

        _, decision = decided(answer)
        assert (decision.signal_value, decision.reason) == (pytest.approx(bits), reason)
        assert "2 model calls" in decision.detail

    def test_calls_on_threads_count(self, asked: LLM, gate: EntropyGate) -> None:
        @think_just_enough(gate=gate, deeper=lambda: "deeper")
        def answer() -> str:
            with ThreadPoolExecutor() as pool:
                asking = [
                    pool.submit(copy_context().run, asked.complete, question)
                    for question in (CERTAIN, UNSURE, CERTAIN)
                ]
                return " ".join(each.result().text for each in asking)

        answered, decision = decided(answer)
        assert (answered, decision.signal_value) == ("deeper", pytest.approx(2.5))

    @pytest.mark.filterwarnings("ignore:a draft for:tje_middleware.TjeWarning")
    def test_a_call_on_a_bare_thread_leaves_the_draft_unjudged(self, asked: LLM, gate: EntropyGate) -> None:
        @think_just_enough(gate=gate, deeper=lambda: "deeper")
        def answer() -> str:
            asked.complete(CERTAIN)
            with ThreadPoolExecutor() as pool:
                return pool.submit(asked.complete, UNSURE).result().text

        answered, decision = decided(answer)
        assert (answered, decision.reason) == ("deeper", "no_logprobs")
        assert "run the thread in contextvars.copy_context()" in decision.detail

    @pytest.mark.filterwarnings("ignore:a draft for:tje_middleware.TjeWarning")
    async def test_so_does_one_in_the_event_loops_executor_and_to_thread_counts(
        self, asked: LLM, gate: EntropyGate
    ) -> None:
        @think_just_enough(gate=gate, deeper=lambda *_, decision: decision)
        async def answer(on_thread: Callable[..., Any]) -> str:
            await asked.acomplete(CERTAIN)
            return str(await on_thread(asked.complete, UNSURE))

        in_executor = functools.partial(asyncio.get_running_loop().run_in_executor, None)
        assert (await answer(in_executor)).reason == "no_logprobs"
        assert (await answer(asyncio.to_thread)).signal_value == pytest.approx(2.5)

    @pytest.mark.filterwarnings("ignore:a draft for:tje_middleware.TjeWarning")
    @pytest.mark.parametrize("watched", [False, True], ids=["alone", "in a block"])
    async def test_so_does_one_by_a_worker_that_was_begun_in_an_earlier_draft(
        self, watched: bool, asked: LLM, gate: EntropyGate
    ) -> None:
        questions: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()
        workers: list[asyncio.Task[None]] = []

        async def work() -> None:
            while True:
                question, answer = await questions.get()
                answer.set_result((await asked.acomplete(question)).text)

        @think_just_enough(gate=gate, deeper=lambda *_, decision: decision.reason)
        async def answer(question: str) -> str:
            await asked.acomplete(CERTAIN)
            if not workers:
                workers.append(asyncio.create_task(work()))
            written: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            await questions.put((question, written))
            return (await written).strip()

        with capture_entropy() if watched else nullcontext():
            answers = [await answer(question) for question in (CERTAIN, UNSURE)]
        workers[0].cancel()
        assert answers == ["w0 w1 w2 w3", "no_logprobs"]

    async def test_drafts_at_the_same_time_are_no_strangers_to_one_another(
        self, llm: Make, asked: LLM, gate: EntropyGate
    ) -> None:
        """Neither are LLMs of another gate."""

        @think_just_enough(gate=gate, deeper=lambda _: "deeper")
        async def answer(question: str) -> str:
            return (await asked.acomplete(question)).text.strip()

        async def elsewhere() -> None:
            await ask_logprobs(llm(), gate=make_gate()).acomplete(CERTAIN)

        *answers, _ = await asyncio.gather(*(answer("bits=0.5 delay=0.2") for _ in range(8)), elsewhere())
        assert answers == ["w0 w1 w2 w3"] * 8

    def test_a_block_of_its_own_on_a_bare_thread_hides_no_call(self, asked: LLM, gate: EntropyGate) -> None:
        def traced() -> str:
            with capture_entropy():
                return asked.complete(UNSURE).text

        @think_just_enough(gate=gate, deeper=lambda: "deeper")
        def answer() -> str:
            asked.complete(CERTAIN)
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(traced).result()

        with pytest.warns(TjeWarning, match="came without this draft's context"):
            assert answer() == "deeper"

    def test_nothing_is_kept_of_a_draft_that_is_over(self, asked: LLM, gate: EntropyGate) -> None:
        @think_just_enough(gate=gate, deeper=lambda: "deeper")
        def fail() -> str:
            asked.complete(CERTAIN)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            fail()
        assert not strays._open

    async def test_calls_in_tasks_count_each_for_its_own_function(self, asked: LLM, gate: EntropyGate) -> None:
        @think_just_enough(gate=gate, deeper=lambda *_, decision: decision.signal_value)
        async def answer(*questions: str) -> float:
            await asyncio.gather(*(asked.acomplete(question) for question in questions))
            return 0.0

        bits = [0.25 + number / 10 for number in range(30)]
        answers = await asyncio.gather(*(answer(f"bits={each}", "bits=0.1") for each in bits))
        assert answers == pytest.approx([0.0 if each <= 1 else each for each in bits])

    def test_query_engines_within_count(self, provider: StandIn, gate: EntropyGate) -> None:
        engines = Engines(provider)
        engine = engines.engine(llm=ask_logprobs(engines.llm(), gate=gate))
        answer = think_just_enough(engine.query, gate=gate, deeper=engines.deep().query)
        certain, unsure = answer(CERTAIN), answer(UNSURE)
        assert certain.metadata["tje"]["answered_by"] == "draft"
        assert unsure.metadata["tje"]["answered_by"] == "deeper"
        assert str(unsure).startswith("deep-0")

    def test_what_a_gate_further_in_rejected_speaks_for_nobody(self, asked: LLM, gate: EntropyGate) -> None:
        inner = think_just_enough(asked.complete, gate=gate, deeper=lambda _: asked.complete(CERTAIN))
        outer = think_just_enough(lambda question: inner(question).text, gate=gate, deeper=lambda _: "deeper")
        with capture_entropy() as seen:
            assert outer(UNSURE).strip() == "w0 w1 w2 w3"
        assert [each.route.value for each in seen.decisions] == ["deeper", "final"]
        assert seen.decisions[-1].draft_usage.calls == 2

    def test_a_response_out_of_a_cache_is_judged_by_its_own_logprobs(self, asked: LLM, gate: EntropyGate) -> None:
        kept = asked.complete(UNSURE)
        answer = think_just_enough(lambda: kept, gate=gate, deeper=lambda decision: decision)
        assert answer().signal_value == pytest.approx(2.5)

    def test_an_llm_that_was_not_asked_is_said_to_be_so(self, llm: Make, gate: EntropyGate) -> None:
        model = llm()
        answer = think_just_enough(model.complete, gate=gate, deeper=lambda _, decision: decision)
        with pytest.warns(
            TjeWarning, match=r"give the function an LLM that asks for them, ask_logprobs\(llm, gate=gate\)"
        ):
            assert answer(CERTAIN).reason == "no_logprobs"

    def test_an_llm_that_refused_is_said_to_have_done_so(self, llm: Make) -> None:
        gate = make_gate("refuses-logprobs")
        model = ask_logprobs(llm("refuses-logprobs"), gate=gate)
        answer = think_just_enough(model.complete, gate=gate, deeper=lambda _, decision: decision.detail)
        with pytest.warns(TjeWarning):
            assert "the provider refused to give logprobs" in answer(CERTAIN)

    def test_a_function_without_a_model_cannot_be_judged(self, gate: EntropyGate) -> None:
        answer = think_just_enough(lambda: "42", gate=gate, deeper=lambda decision: decision.detail)
        with pytest.warns(TjeWarning):
            assert answer() == "no model was called for this answer"

    def test_a_gate_that_raises_raises(self, llm: Make) -> None:
        gate = make_gate(on_missing="raise")
        with pytest.raises(GateError, match="cannot be judged"):
            think_just_enough(llm().complete, gate=gate, deeper=lambda _: "deeper")(CERTAIN)


class TestWhereTheDecisionIs:
    def test_in_responses_with_the_tokens_of_both(self, asked: LLM, deep: LLM, gate: EntropyGate) -> None:
        answer = think_just_enough(
            lambda q: asked.chat([ChatMessage(q)]), gate=gate, deeper=lambda q: deep.chat([ChatMessage(q)])
        )
        certain, unsure = answer(CERTAIN), answer(UNSURE)
        assert certain.message.additional_kwargs["tje"]["answered_by"] == "draft"
        assert unsure.message.additional_kwargs["tje"]["answered_by"] == "deeper"
        assert unsure.additional_kwargs["total_tokens"] == 2 * certain.additional_kwargs["total_tokens"]

    def test_of_a_text_it_is_announced(self, asked: LLM, gate: EntropyGate) -> None:
        answer = think_just_enough(lambda: asked.complete(CERTAIN).text, gate=gate, deeper=str.upper)
        answered, decision = decided(answer)
        assert answered.strip() == "w0 w1 w2 w3"
        assert (decision.answered_by, decision.draft_usage.output_tokens) == ("draft", 4)

    def test_with_annotate_the_draft_is_the_answer_and_says_what_would_have_been_done(
        self, asked: LLM, gate: EntropyGate, provider: StandIn
    ) -> None:
        answer = think_just_enough(asked.complete, gate=gate, deeper=asked.complete, mode="annotate")(UNSURE)
        assert (answer.additional_kwargs["tje"]["route"], answer.additional_kwargs["tje"]["answered_by"]) == (
            "deeper",
            "draft",
        )
        assert len(provider.requests) == 1


class Rethink(Event):
    decision: GateDecision | None = None


class Answer(StopEvent):
    decision: GateDecision | None = None


async def deepening(self: Workflow, ctx: Context, ev: StartEvent) -> Rethink:
    return Rethink()


class TestStepsOfAWorkflow:
    @pytest.mark.parametrize("above", [True, False])
    async def test_a_step_gives_the_event_of_whichever_answered(
        self, asked: LLM, gate: EntropyGate, above: bool
    ) -> None:
        gated = think_just_enough(gate=gate, deeper=deepening)

        class Ask(Workflow):
            if above:

                @step
                @gated
                async def ask(self, ctx: Context, ev: StartEvent) -> Rethink | Answer:
                    return Answer(result=await asked.acomplete(ev.question))
            else:

                @gated
                @step
                async def ask(self, ctx: Context, ev: StartEvent) -> Rethink | Answer:
                    return Answer(result=await asked.acomplete(ev.question))

            @step
            async def rethink(self, ev: Rethink) -> Answer:
                return Answer(result=None, decision=ev.decision)

        certain, unsure = await Ask().run(question=CERTAIN), await Ask().run(question=UNSURE)
        assert (certain.result.text.strip(), certain.decision.answered_by) == ("w0 w1 w2 w3", "draft")
        assert (unsure.result, unsure.decision.answered_by) == (None, "deeper")

    async def test_a_field_of_the_users_own_by_that_name_is_left_alone(self, asked: LLM, gate: EntropyGate) -> None:
        class Verdict(StopEvent):
            decision: str

        @think_just_enough(gate=gate, deeper=lambda: Verdict(decision="deny"))
        def verdict() -> Verdict:
            return Verdict(result=asked.complete(CERTAIN), decision="approve")

        answer = verdict()
        assert answer.decision == "approve"
        assert answer.result.additional_kwargs["tje"]["answered_by"] == "draft"

    async def test_the_result_of_a_stop_event_has_the_decision(self, asked: LLM, gate: EntropyGate) -> None:
        async def deepen(self: Workflow, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await asked.acomplete("says=deeper"))

        class Ask(Workflow):
            @step
            @think_just_enough(gate=gate, deeper=deepen)
            async def ask(self, ev: StartEvent) -> StopEvent:
                return StopEvent(result=await asked.acomplete(ev.question))

        answer = await Ask().run(question=UNSURE)
        assert (answer.text.strip(), answer.additional_kwargs["tje"]["answered_by"]) == ("deeper", "deeper")

    async def test_a_plain_step_runs_where_llama_index_runs_it(self, asked: LLM, gate: EntropyGate) -> None:
        def rethink(self: Workflow, ev: StartEvent, draft: StopEvent) -> StopEvent:
            return StopEvent(result=f"not {draft.result}")

        class Ask(Workflow):
            @step
            @think_just_enough(gate=gate, deeper=rethink)
            def ask(self, ev: StartEvent) -> StopEvent:
                return StopEvent(result=asked.complete(ev.question).text.strip())

        assert await Ask().run(question=UNSURE) == "not w0 w1 w2 w3"

    async def test_a_deeper_step_may_wait_for_a_human(self, asked: LLM, gate: EntropyGate) -> None:
        async def deepen(self: Workflow, ctx: Context, ev: StartEvent) -> StopEvent:
            reply = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
            return StopEvent(result=reply.response)

        class Ask(Workflow):
            @step
            @think_just_enough(gate=gate, deeper=deepen)
            async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
                return StopEvent(result=(await asked.acomplete(ev.question)).text)

        handler = Ask(timeout=20).run(question=UNSURE)
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                handler.ctx.send_event(HumanResponseEvent(response="so be it"))
        assert await handler == "so be it"

    async def test_a_deeper_branch_that_its_user_cancels_is_cancelled(self, asked: LLM, gate: EntropyGate) -> None:
        class Endless(Workflow):
            @step
            async def wait(self, ev: StartEvent) -> StopEvent:
                await asyncio.sleep(60)
                return StopEvent()

        async def deepen() -> str:
            handler = Endless().run()
            await asyncio.sleep(0.05)
            await handler.cancel_run()
            return await handler

        async def answer() -> str:
            return (await asked.acomplete(UNSURE)).text

        with pytest.raises(WorkflowCancelledByUser):
            await think_just_enough(answer, gate=gate, deeper=deepen)()


class TestPartsAreRefused:
    def test_generators(self, gate: EntropyGate) -> None:
        def parts(question: str):
            yield question

        async def aparts(question: str):
            yield question

        for function in (parts, aparts):
            with pytest.raises(TypeError, match=r"gives its answer in parts.*EntropyGatedLLM"):
                think_just_enough(function, gate=gate, deeper=str.upper)
            with pytest.raises(TypeError, match="gives its answer in parts"):
                think_just_enough(str.upper, gate=gate, deeper=function)

    def test_streams(self, asked: LLM, provider: StandIn, gate: EntropyGate) -> None:
        engine = Engines(provider).engine(streaming=True)
        for function in (asked.stream_complete, engine.query):
            with pytest.raises(TypeError, match="gives its answer in parts"):
                think_just_enough(function, gate=gate, deeper=lambda _: "deeper")(CERTAIN)

    def test_streams_of_the_deeper_branch_are_a_mistake_and_no_failure(self, asked: LLM, gate: EntropyGate) -> None:
        with pytest.raises(TypeError, match="gives its answer in parts"):
            think_just_enough(asked.complete, gate=gate, deeper=asked.stream_complete)(UNSURE)

    def test_coroutines_of_what_is_no_asynchronous_function(self, asked: LLM, gate: EntropyGate) -> None:
        gated = think_just_enough(lambda: asked.acomplete(CERTAIN), gate=gate, deeper=str.upper)
        with pytest.raises(TypeError, match="returned a coroutine, of which nothing has come yet"):
            gated()
