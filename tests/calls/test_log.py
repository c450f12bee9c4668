"""What model calls said of themselves: which evidence speaks for a call, what is kept of it, and what it spent."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tje_middleware import MissingLogprobs, SequenceLogprobs, SignalError, TokenUsage, UnreadableLogprobs
from tje_middleware.calls.log import CallLog, ModelCall, pooled_entropy
from tje_middleware.calls.scope import QuietLock
from tje_middleware.calls.usage import SpendingLog
from tje_middleware.logprobs.evidence import StreamedEvidence, read

ONCE = TokenUsage(input_tokens=10, output_tokens=2, calls=1)


def position(token, alternatives=2):
    """A token that was one of equally likely alternatives."""
    logprob = -math.log(alternatives)
    texts = [token, *(f"x{i}" for i in range(1, alternatives))]
    return {
        "token": token,
        "logprob": logprob,
        "top_logprobs": [{"token": text, "logprob": logprob} for text in texts],
    }


def message(*tokens, alternatives=2, content=None, tool_calls=()):
    logprobs = {"content": [position(token, alternatives) for token in tokens]} if tokens else None
    text = "".join(tokens) if content is None else content
    return {"content": text, "response_metadata": {"logprobs": logprobs}, "tool_calls": list(tool_calls)}


def finished(log, run_id, *tokens, alternatives=2, parent=None):
    log.start(run_id, parent)
    log.end(run_id, message(*(tokens or ("a", "b")), alternatives=alternatives), input_tokens=10, output_tokens=2)


class TestModelCall:
    CALL = ModelCall("r", read(message("a", "b", alternatives=4)), ONCE)
    SILENT = ModelCall("r", read(message()), ONCE)

    def test_measures_any_signal_of_its_tokens(self):
        assert self.CALL.mean_entropy == pytest.approx(2.0)
        assert self.CALL.signal("total_entropy") == pytest.approx(4.0)

    def test_without_logprobs_measures_nothing_and_says_why(self):
        assert self.SILENT.mean_entropy is None
        assert isinstance(self.SILENT.logprobs, MissingLogprobs)

    def test_a_signal_that_these_tokens_do_not_have_is_none(self):
        assert self.CALL.signal("number_entropy") is None

    @pytest.mark.parametrize("call", [CALL, SILENT], ids=["measured", "silent"])
    def test_a_signal_that_does_not_exist_is_an_error_in_any_case(self, call):
        with pytest.raises(SignalError, match="no signal 'entropy'"):
            call.signal("entropy")

    def test_the_entropy_of_several_weighs_every_token_alike(self):
        short = ModelCall("s", read(message("a", alternatives=2)), ONCE)
        long = ModelCall("l", read(message("a", "b", "c", alternatives=4)), ONCE)
        assert pooled_entropy([short, self.SILENT, long]) == pytest.approx((1 * 1 + 3 * 2) / 4)
        assert pooled_entropy([self.SILENT]) is None


def of_stream(chunks, whole):
    evidence = StreamedEvidence()
    for chunk in chunks:
        evidence.add(chunk)
    return evidence.of(whole)


class TestEvidence:
    def test_of_an_answer_that_was_not_streamed_is_its_own(self):
        assert of_stream([], message("a", "b")).tokens == ("a", "b")

    def test_of_a_stream_is_what_its_chunks_brought_where_the_merged_answer_has_the_last_alone(self):
        whole = {**message("."), "content": "A."}  # too short for the last token to look implausible
        assert of_stream([message("A"), message(".")], whole).tokens == ("A", ".")

    def test_that_only_the_merged_answer_has_is_taken(self):
        assert of_stream([message(content="a"), message(content="b")], message("a", "b")).tokens == ("a", "b")

    def test_with_a_hole_in_the_stream_is_none_though_most_of_it_is_there(self):
        chunks = [message("all "), message("but "), message(content="one ")]
        merged = message("all ", "but ", content="all but one ")
        assert isinstance(read(merged), SequenceLogprobs)
        found = of_stream(chunks, merged)
        assert isinstance(found, UnreadableLogprobs)
        assert "4 characters" in str(found)

    def test_with_a_hole_in_the_stream_is_the_merged_answer_s_where_that_spells_all(self):
        assert of_stream([message("a"), message(content="b")], message("a", "b")).tokens == ("a", "b")

    def test_of_a_chunk_that_cannot_be_read_is_the_reason(self):
        broken = {"content": "b", "response_metadata": {"logprobs": {"content": [{"token": "b", "logprob": 5.0}]}}}
        found = of_stream([message("a"), broken], message(content="ab"))
        assert isinstance(found, UnreadableLogprobs)
        assert not isinstance(found, MissingLogprobs)

    def test_of_a_stream_that_is_less_than_the_answer_is_none(self):
        found = of_stream([message("a")], message(content="a whole answer"))
        assert isinstance(found, UnreadableLogprobs)
        assert "cover 1 of 14" in str(found)

    def test_of_the_words_before_a_streamed_tool_call_is_none(self):
        found = of_stream([message("Sure. ")], message(content="Sure. ", tool_calls=[{"name": "wire"}]))
        assert isinstance(found, MissingLogprobs)
        assert "tool call" in str(found)

    @given(st.lists(st.text(alphabet="abc ", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
    def test_is_never_of_a_part_of_a_stream(self, tokens, data):
        silent = data.draw(st.sets(st.integers(0, len(tokens) - 1)))
        chunks = [message(content=text) if i in silent else message(text) for i, text in enumerate(tokens)]
        kept = [text for i, text in enumerate(tokens) if i not in silent]
        found = of_stream(chunks, {**message(*kept), "content": "".join(tokens)})
        assert isinstance(found, UnreadableLogprobs if silent else SequenceLogprobs)


class Payload(dict):
    """A dict that can be weakly referred to."""


@pytest.mark.parametrize("of", [message("a", "b"), message(), {"response_metadata": {"logprobs": {"content": [7]}}}])
def test_nothing_of_a_payload_outlives_the_call(of):
    log = CallLog()
    payload, chunk = Payload(of), Payload(of)
    seen = [weakref.ref(payload), weakref.ref(chunk)]
    for run_id in "12":
        log.start(run_id)
    log.chunk("1", chunk)
    log.end("1", payload)
    log.end("2", payload)
    del payload, chunk
    gc.collect()
    assert len(log) == 2
    assert [each() for each in seen] == [None, None]


class TestCallLog:
    def test_keeps_the_calls_in_the_order_in_which_they_ended(self):
        log = CallLog()
        log.start("slow", model="m", temperature=0.5)
        finished(log, "fast")
        log.end("slow", message("a"), message_id="id")
        assert [call.run_id for call in log] == ["fast", "slow"]
        slow = log.get("slow")
        assert (slow.model, slow.temperature, slow.message_id) == ("m", 0.5, "id")

    def test_takes_the_reason_why_there_are_no_logprobs_for_an_answer(self):
        log, reason = CallLog(), MissingLogprobs("nobody told of them")
        log.start("r")
        log.end("r", reason)
        assert log.get("r").logprobs is reason

    @pytest.mark.parametrize(("asked", "known"), [(None, "answering"), ("asked", "asked")])
    def test_knows_the_model_by_the_answer_where_the_start_did_not_say(self, asked, known):
        log = CallLog()
        log.start("r", model=asked)
        log.end("r", message("a"), model="answering")
        assert log.get("r").model == known

    def test_lets_go_of_the_oldest_calls_and_counts_them(self):
        log = CallLog(max_calls=2)
        for run_id in range(5):
            finished(log, run_id)
        assert [call.run_id for call in log] == [3, 4]
        assert log.dropped == 3
        assert log.usage.calls == 5

    def test_that_would_keep_nothing_is_refused(self):
        with pytest.raises(ValueError, match="max_calls must be at least 1, not 0"):
            CallLog(max_calls=0)

    def test_forgets_calls_but_not_what_they_spent(self):
        log = CallLog()
        finished(log, "r")
        log.forget()
        assert (len(log), log.usage) == (0, ONCE)

    def test_tells_of_each_call_as_it_ends(self):
        told = []
        log = CallLog(on_call=lambda call: told.append((call.run_id, len(log))))
        finished(log, "a")
        finished(log, "b")
        assert told == [("a", 1), ("b", 2)]

    def test_a_call_that_was_not_seen_to_start_is_kept_all_the_same(self):
        log = CallLog()
        log.end("r", message("a", "b"))
        assert log.get("r").mean_entropy == pytest.approx(1.0)

    def test_what_was_never_said_to_end_does_not_pile_up(self):
        log = CallLog()
        for run_id in range(10_100):
            log.enter(("chain", run_id))
            log.start(run_id)
        assert (log.in_flight, log.runs_open) == (10_000, 10_000)
        assert log.usage.calls == 10_100

    def test_threads_may_share_one(self):
        log, barrier = CallLog(), threading.Barrier(8)

        def work(thread):
            barrier.wait()
            for i in range(50):
                finished(log, (thread, i))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(log) == len({call.run_id for call in log}) == 400
        assert log.usage == TokenUsage(input_tokens=4000, output_tokens=800, calls=400)


class TestRuns:
    def test_a_call_belongs_to_every_run_around_it(self):
        log = CallLog()
        log.enter("chain")
        log.enter("tool", "chain")
        finished(log, "in tool", parent="tool")
        finished(log, "in chain", parent="chain")
        finished(log, "elsewhere")
        log.leave("tool")
        log.leave("chain")
        assert [call.run_id for call in log.within("chain")] == ["in tool", "in chain"]
        assert [call.run_id for call in log.within("tool")] == ["in tool"]
        assert [call.run_id for call in log.within("elsewhere")] == ["elsewhere"]
        assert log.get("in tool").ancestors == ("tool", "chain")
        assert log.get("in chain").parent_run_id == "chain"
        assert log.runs_open == 0

    def test_that_are_said_to_be_their_own_parents_end(self):
        log = CallLog()
        log.enter("a", "b")
        log.enter("b", "a")
        finished(log, "r", parent="a")
        assert log.get("r").ancestors == ("a", "b")

    def test_that_end_before_what_was_started_in_them_are_around_it_all_the_same(self):
        log = CallLog()
        log.enter("query")
        log.enter("answer", "query")
        log.outlive("query")
        finished(log, "r", parent="answer")
        log.outlive("answer")
        assert log.get("r").ancestors == ("answer", "query")
        assert log.runs_open == 0

    def test_that_are_left_cancel_what_is_open_in_them_and_those_that_it_outlives_do_not(self):
        log = CallLog()
        for run_id, end in (("left", log.leave), ("outlived", log.outlive)):
            log.enter(run_id)
            log.start(f"in {run_id}", run_id)
            end(run_id)
        assert log.in_flight == 1
        log.end("in outlived", message("a"))
        assert [call.run_id for call in log] == ["in outlived"]


class TestACallThatOnlyCallsOthers:
    def test_is_a_run_and_no_call(self):
        log = CallLog()
        log.enter("agent")
        log.start("outer", "agent")
        log.chunk("outer", message("a", "b"))
        log.only_calls_others("outer")
        finished(log, "inner", parent="outer")
        assert [call.run_id for call in log.within("outer")] == ["inner"]
        assert log.get("inner").ancestors == ("outer", "agent")
        assert (log.usage, log.in_flight, log.runs_open) == (ONCE, 0, 2)
        log.outlive("outer")
        assert log.runs_open == 1

    def test_is_none_to_the_scope_around_either(self):
        outermost = CallLog()
        log = CallLog(parent=outermost)
        log.start("outer")
        log.only_calls_others("outer")
        finished(log, "inner", parent="outer")
        assert (outermost.usage, outermost.in_flight) == (ONCE, 0)
        assert [call.run_id for call in outermost] == ["inner"]

    def test_that_is_over_stays_what_it_was(self):
        log = CallLog()
        finished(log, "r")
        log.only_calls_others("r")
        assert (log.usage, len(log), log.runs_open) == (ONCE, 1, 0)


class TestQuietLock:
    def test_a_thread_that_holds_one_may_not_wait_for_another(self):
        lock = QuietLock()
        assert QuietLock.may_wait()
        with lock, QuietLock():
            assert not QuietLock.may_wait()
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(QuietLock.may_wait).result()
        assert QuietLock.may_wait()

    def test_lets_one_thread_in_at_a_time(self):
        lock, count = QuietLock(), [0]

        def work(_):
            for _ in range(200):
                with lock:
                    before = count[0]
                    time.sleep(0)
                    count[0] = before + 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert count == [800]

    def test_is_held_wherever_a_log_is_changed_or_added_up(self):
        # The log of the spending has a plain lock: what the collector runs must see that its thread is in there.
        seen = []

        class Watched(dict):
            def pop(self, *args):
                seen.append(QuietLock.may_wait())
                return super().pop(*args)

            def values(self):
                seen.append(QuietLock.may_wait())
                return super().values()

        log = CallLog()
        log._spending._written = Watched()
        log._spending._settled = Watched()
        log.start("a")
        log.end("a", message("a"))
        log.start("b")
        log.fail("b")
        assert log.usage.calls == 2
        assert len(seen) > 4
        assert not any(seen)


class TestSpending:
    def test_of_a_failed_call_is_what_came_of_it(self):
        log = CallLog()
        log.start("r")
        log.chunk("r", message("a", "b"))
        log.chunk("r", message(content="no logprobs here"))
        log.chunk("r", message(content=""), tokens=0)
        log.fail("r", input_tokens=7)
        assert log.usage == TokenUsage(input_tokens=7, output_tokens=3, calls=1, partly_known=1)
        assert (len(log), log.in_flight) == (0, 0)

    def test_of_a_running_call_is_a_lower_bound_until_it_ends(self):
        log = CallLog()
        log.start("r")
        log.chunk("r", message("a"))
        assert log.usage == TokenUsage(output_tokens=1, calls=1, partly_known=1)
        log.end("r", message("a", "b"), input_tokens=10, output_tokens=2)
        assert log.usage == ONCE

    def test_that_the_provider_does_not_tell_is_what_was_seen(self):
        log = CallLog()
        log.end("r", message("a", "b"), input_tokens=10)
        assert log.usage == TokenUsage(input_tokens=10, output_tokens=2, calls=1, partly_known=1)

    def test_counts_a_run_once_however_often_it_is_told(self):
        log = SpendingLog()
        assert [log.settle("r", ONCE), log.settle("r", ONCE)] == [True, False]
        assert log.usage == ONCE

    def test_counts_a_run_that_is_started_again(self):
        log = SpendingLog()
        for _ in range(2):
            log.start("r")
            log.end("r", input_tokens=10, output_tokens=2)
        assert log.usage == ONCE + ONCE


class TestScopesWithinScopes:
    @pytest.mark.parametrize("told", ["outer first", "inner first", "inner alone"])
    def test_the_outer_one_counts_each_call_once(self, told):
        outer = CallLog()
        inner = CallLog(parent=outer)
        logs = {"outer first": [outer, inner], "inner first": [inner, outer], "inner alone": [inner]}[told]
        for log in logs:
            log.start("good")
            log.start("bad")
        for log in logs:
            log.end("good", message("a", "b"), input_tokens=10, output_tokens=2)
            log.fail("bad", input_tokens=3)
        for log in (inner, outer):
            assert [call.run_id for call in log] == ["good"]
            assert log.usage == ONCE + TokenUsage(input_tokens=3, calls=1, partly_known=1)
            assert log.in_flight == 0

    def test_the_outer_one_knows_the_runs_that_the_inner_one_was_opened_in(self):
        outer = CallLog()
        outer.enter("chain")
        outer.enter("step", "chain")
        inner = CallLog(parent=outer)
        finished(inner, "r", parent="step")
        assert inner.get("r").ancestors == ("step",)
        assert outer.get("r").ancestors == ("step", "chain")

    def test_spending_is_passed_on_through_any_number(self):
        outermost = SpendingLog()
        inner = SpendingLog(SpendingLog(outermost))
        inner.start("a")
        inner.end("a", input_tokens=10, output_tokens=2)
        inner.start("b")
        inner.fail("b")
        assert outermost.usage == inner.usage == ONCE + TokenUsage(calls=1, partly_known=1)
