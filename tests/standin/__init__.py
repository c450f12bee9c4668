"""A stand-in for an OpenAI-compatible provider: real HTTP on 127.0.0.1, answers with known entropies.

What the last user message says decides the answer, so that a test states in one line what it needs::

    "... bits=0.5 tokens=8 ..."     every token has an entropy of 0.5 bits, and there are 8

The words of the question language, in any order:

``bits=0.5``            entropy of every token over 20 alternatives (above 0, below 4.32 bits; default 0.5)
``bits=0.2,3.0,0.1``    token i has the i-th entropy, and the last repeats
``tokens=8``            how many tokens the answer has (default 4): ``w0 w1 ...``
``says=yes``            the answer is exactly this word; ``says="two words"`` (a JSON string), a token a word
``says_model``          every token names the model that answers (``deep-0 deep-1 ...``), as do the strings of JSON
``call=NAME``           where the request offers tools, first call NAME; the answer follows when the tool has answered
``args={"a": 1}``       arguments of the call (default ``{}``, or what the tool's schema needs where a call is forced)
``calls=2``             rounds of calls before the answer (default 1)
``call_bits=2.0``       entropies of the tokens of a call, like ``bits`` (default: those of ``bits``)
``pace=0.01``           seconds before each streamed token (default 0)

A request decides the rest. ``response_format`` with a JSON schema is answered by small JSON that satisfies it. A
``tool_choice`` of one function calls it; ``required`` calls the tool that ``call=`` names, then the first one that
was not called since the question, at last the last one: an agent comes to an end, since its structured answer is the
last. Usage comes with a stream only when ``stream_options.include_usage`` asks for it, as OpenAI does it. More than
four stop words are refused with status 400, as by OpenAI.
``/v1/responses`` and ``/v1/completions`` answer like ``/v1/chat/completions``, in forms of their own.

Models: any name answers, under its own name, except

``refuses-logprobs``    status 400 to requests for logprobs, as OpenAI's reasoning models
``like-llama-cpp``      status 400 to requests for logprobs that are streamed and offer tools
``ignores-logprobs``    answers without logprobs
``whole-only``          gives logprobs, but none with streams
``streams-only``        gives logprobs with streams alone
``at-most-5``           status 400 to requests for more than 5 alternatives
``reasons``             status 400 to ``max_tokens`` and to temperatures but 1; counts 7 tokens that it thought
``broken``              status 500 to every request
``flaky-2``             status 500 to the first 2 requests, any number
``dated``               answers under the name of a snapshot, ``dated-2026-01-01``
``top5``                at most 5 alternatives whatever was asked, any number; a cut of the same 20
``...-echoing``         any name that ends so quotes the request in its errors of status 400
``...-toollogprobs``    any name that ends so gives logprobs of calls too, as vLLM does; the others, like OpenAI, none
"""

from .answers import distribution
from .server import StandIn, StreamRecord

__all__ = ["StandIn", "StreamRecord", "distribution"]
