"""How a draft is asked for, and what its model's refusals mean for the next request."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from tests.samples import draft, profile
from tje_middleware import EntropyGate, GateDecision, Route, TjeWarning, TokenUsage
from tje_middleware.calls.request import DraftRequest, LogprobsCapabilities
from tje_middleware.gate.delivery import watch_for
from tje_middleware.gate.stopping.watch import DraftStopped, raise_if_rejected


class BadRequest(Exception):  # noqa: N818
    """As clients raise it."""

    status_code = 400


NO_LOGPROBS = BadRequest("logprobs are not supported by this model")
NO_LOGPROBS_STREAMED = BadRequest("logprobs are not supported with stream=true")
NO_TOOLS_STREAMED = BadRequest("tools are not supported with stream=true")
REJECTED = GateDecision(Route.DEEPER, "uncertain", "stream of logprobs", "mean_entropy", "mean", tokens=3)


class Strict(BaseModel, extra="forbid"):
    """A client's model of a request that knows no logprobs."""


STOPPED = DraftStopped(REJECTED, TokenUsage())


@pytest.fixture
def capabilities():
    return LogprobsCapabilities()


@pytest.fixture
def request_of(capabilities):
    def make(model="m", **more):
        return DraftRequest(capabilities, model, **more)

    return make


def may_ask(request):
    return request.may_ask(), request.may_ask(streamed=True)


def refused(request, error, **how):
    """A request that fails so, and is answered when it is made again for less."""
    request.note_refusal(error, **how)
    request.answered("the answer")


def refused_stream(request, error):
    request.note_refused_stream(error)
    request.answered("the answer")


class TestARequest:
    def test_asks_while_nothing_is_known(self, request_of):
        assert may_ask(request_of()) == (True, True)

    def test_that_is_refused_is_not_made_again_to_that_model(self, request_of, capabilities):
        refused(request_of(), NO_LOGPROBS)
        assert may_ask(request_of()) == (False, False)
        assert may_ask(request_of(has_tools=True)) == (False, False)
        assert may_ask(request_of("other")) == (True, True)
        assert "not supported by this model" in capabilities.refusal("m")

    def test_that_a_client_does_not_know_is_refused_too(self, request_of):
        refused(request_of(), TypeError("create() got an unexpected keyword argument 'logprobs'"))
        assert may_ask(request_of()) == (False, False)

    def test_whose_stream_is_refused_for_anything_else_than_being_one_is_refused_whole(self, request_of):
        refused(request_of(), NO_LOGPROBS, streamed=True)
        assert may_ask(request_of()) == (False, False)

    def test_whose_stream_is_refused_for_being_one_is_made_whole(self, request_of):
        refused(request_of(), NO_LOGPROBS_STREAMED, streamed=True)
        assert may_ask(request_of()) == (True, False)

    @pytest.mark.parametrize("told", ["With stream=true, logprobs are not supported", "No logprobs: it is a stream"])
    def test_whose_stream_is_refused_for_being_one_in_a_sentence_of_several_clauses_is_made_whole(
        self, request_of, told
    ):
        refused(request_of(), BadRequest(f"Sorry. {told}. In {{'logprobs': true}}"), streamed=True)
        assert may_ask(request_of()) == (True, False)

    def test_whose_stream_is_refused_by_an_error_that_quotes_it_is_refused_whole(self, request_of):
        refused(request_of(), BadRequest("Logprobs are not supported. In {'stream': true}"), streamed=True)
        assert may_ask(request_of()) == (False, False)

    def test_whose_stream_with_tools_is_refused_is_streamed_without(self, request_of):
        refused(request_of(has_tools=True), NO_LOGPROBS_STREAMED, streamed=True)
        assert may_ask(request_of(has_tools=True)) == (True, False)
        assert may_ask(request_of()) == (True, True)

    @pytest.mark.parametrize("error", [BadRequest("the prompt is too long"), OSError("logprobs"), STOPPED])
    def test_that_fails_for_another_reason_fails(self, request_of, error):
        request = request_of()
        with pytest.raises(type(error)) as raised:
            request.note_refusal(error)
        assert raised.value is error
        assert may_ask(request) == may_ask(request_of()) == (True, True)

    def test_that_looks_refused_is_made_again_without(self, request_of):
        request = request_of()
        request.note_refusal(NO_LOGPROBS)
        assert may_ask(request) == (False, False)

    def test_that_looks_refused_says_nothing_of_the_next_until_it_is_answered_without(self, request_of, capabilities):
        request = request_of()
        request.note_refusal(NO_LOGPROBS)
        assert may_ask(request_of()) == (True, True)
        assert capabilities.any_refusal() is None
        assert request.answered("the answer") == "the answer"
        assert may_ask(request_of()) == (False, False)


class Told(BadRequest):
    """As OpenAI's client raises it, with what the provider said apart from the request."""

    def __init__(self, status, body):
        super().__init__(f"Error code: {status} - {body}")
        self.status_code, self.body = status, body


FORBIDDEN = Told(403, {"message": "You are not allowed to request logprobs from this model", "param": None})


class TestWhatIsRememberedOfARefusal:
    @pytest.fixture
    def said(self, request_of, capabilities):
        def remembered(error):
            refused(request_of(), error)
            return capabilities.refusal("m").removeprefix("the provider refused to give logprobs ")

        return remembered

    @pytest.mark.parametrize(
        "clause",
        [
            "logprobs are not supported with reasoning models",
            "'logprobs' is not supported with gpt-4.1",
            "This model doesn't support logprobs",
            "Invalid 'logprobs'",
            "Unknown name \"responseLogprobs\" at 'generation_config'",
        ],
    )
    @pytest.mark.parametrize(
        "text",
        [
            "Error code: 400 - {{'error': {{'message': \"{}.\", 'type': 'bad'}}}}",
            "logprobs: {}, said of {{'logprobs': True, 'messages': ['Ada is ill']}}",
            "{}\nAda is ill",
        ],
    )
    def test_is_the_clause_that_refuses(self, said, clause, text):
        assert said(BadRequest(text.format(clause))) == f"(BadRequest): {clause}"

    def test_is_no_more_than_the_kind_of_error_where_no_clause_refuses(self, said):
        assert said(BadRequest("{'messages': ['Ada is ill: logprobs?'], 'logprobs': true}")) == "(BadRequest)"

    def test_is_never_long(self, said):
        assert len(said(BadRequest("no logprobs " + "and so on " * 100))) < 140

    def test_is_the_whole_sentence_of_a_provider_that_keeps_it_apart(self, said):
        assert said(FORBIDDEN) == "(Told): You are not allowed to request logprobs from this model"
        assert said(Told(501, "logprobs is not implemented")) == "(Told): logprobs is not implemented"

    def test_is_what_a_clients_own_model_of_a_request_says(self, said):
        with pytest.raises(ValidationError) as refusing:
            Strict(response_logprobs=True)
        assert said(refusing.value) == "(ValidationError): response_logprobs: Extra inputs are not permitted"

    @pytest.mark.parametrize(
        ("body", "limit"),
        [
            ({"message": "Requested sample logprobs of 20, which is greater than max allowed: 5"}, 5),
            ({"error": "top_logprobs must be between 0 and 8"}, 8),
            ({"message": "20 is greater than the maximum of 1 - 'logprobs'"}, 1),
            ({"detail": [{"loc": ["body", "top_logprobs"], "msg": "Input should be less than or equal to 5"}]}, 5),
        ],
    )
    def test_is_the_limit_that_a_provider_names(self, request_of, capabilities, body, limit):
        refused(request_of(), Told(400, body))
        assert capabilities.refusal("m").startswith(f"the provider gives at most {limit} alternatives a position")
        assert capabilities.refusal("m").endswith(f"calibrate and gate with top_k={limit}")

    def test_is_all_that_a_clients_signature_says(self, said):
        error = TypeError("f() got unexpected keyword arguments: logprobs, top_logprobs")
        assert said(error) == f"(TypeError): {error}"


class TestAStreamThatMayBeStopped:
    def test_is_asked_for_where_streams_are_not_refused(self, request_of):
        gate = EntropyGate(profile())
        assert request_of().may_be_stopped(gate.policies.on_missing)
        refused(request_of(), NO_LOGPROBS_STREAMED, streamed=True)
        assert not request_of().may_be_stopped(gate.policies.on_missing)

    def test_is_not_asked_for_where_the_draft_may_end_in_a_call_that_is_accepted(self, request_of):
        assert request_of(has_tools=True).may_be_stopped("deeper")
        lenient = EntropyGate(profile(), on_missing="final")
        assert not request_of(has_tools=True).may_be_stopped(lenient.policies.on_missing)
        assert request_of().may_be_stopped(lenient.policies.on_missing)

    @pytest.mark.parametrize("refusal", [NO_LOGPROBS_STREAMED, NO_TOOLS_STREAMED])
    def test_is_not_asked_for_again_where_it_was_refused(self, request_of, refusal):
        refused_stream(request_of(), refusal)
        assert may_ask(request_of()) == (True, False)

    def test_that_looks_refused_for_being_one_is_made_whole_with_logprobs(self, request_of):
        request = request_of()
        request.note_refused_stream(NO_LOGPROBS_STREAMED)
        assert may_ask(request) == (True, False)
        assert may_ask(request_of()) == (True, True)

    def test_that_looks_refused_for_its_logprobs_is_made_whole_without(self, request_of):
        request = request_of()
        request.note_refused_stream(NO_LOGPROBS)
        assert may_ask(request) == (False, False)
        assert may_ask(request_of()) == (True, True)

    def test_that_is_refused_for_its_logprobs_is_neither_asked_for_whole(self, request_of):
        refused_stream(request_of(), NO_LOGPROBS)
        assert may_ask(request_of()) == (False, False)

    @pytest.mark.parametrize("error", [BadRequest("too long"), OSError("the stream broke"), STOPPED])
    def test_that_fails_for_another_reason_fails(self, request_of, error):
        with pytest.raises(type(error)) as raised:
            request_of().note_refused_stream(error)
        assert raised.value is error
        assert may_ask(request_of()) == (True, True)


def tokens_until_rejected(watch):
    for number in range(1, 100):
        if watch.add(draft(1.0, tokens=1)) is not None:
            return number
    return None


class TestWhatForeseesARejection:
    """The threshold of 0.5 bits on average is sure to be missed after half of the tokens with 1 bit each."""

    def test_needs_the_largest_limit_that_may_hold(self):
        watch = watch_for(EntropyGate(profile(0.5)), limits=[None, 10, "12", 40, 0, -3], model="m", temperature=None)
        assert tokens_until_rejected(watch) == 21

    def test_is_not_there_without_a_limit_and_says_so_once(self):
        gate = EntropyGate(profile(0.5))
        with pytest.warns(TjeWarning, match="mode='abort' cannot stop drafts, and holds them: .* set max_tokens"):
            assert watch_for(gate, limits=[], model="m", temperature=None) is None
        assert watch_for(gate, limits=[None, 0], model="m", temperature=None) is None  # a second warning would raise

    @pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")
    def test_is_not_there_for_a_profile_that_judges_nothing(self):
        gate = EntropyGate(profile(0.5, verdict="unusable"))
        assert watch_for(gate, limits=[10], model="m", temperature=None) is None

    @pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")
    def test_is_not_there_for_another_model_than_the_profiles(self):
        assert watch_for(EntropyGate(profile(0.5)), limits=[10], model="other", temperature=None) is None


class TestARejectedDraft:
    def test_is_stopped_with_what_it_spent(self):
        with pytest.raises(DraftStopped, match="stopped after 3 tokens") as stopped:
            raise_if_rejected(REJECTED, "abcd")
        assert stopped.value.decision is REJECTED
        assert stopped.value.usage == TokenUsage(output_tokens=3, calls=1, partly_known=1)

    @pytest.mark.parametrize("route", [Route.ABSTAIN, Route.FINAL])
    def test_is_not_one_that_no_other_answer_replaces(self, route):
        raise_if_rejected(GateDecision(route, "hopeless", "", "mean_entropy", "mean"), "abcd")

    def test_is_not_one_about_which_nothing_is_sure(self):
        raise_if_rejected(None, "abcd")
