"""tje-middleware for LlamaIndex.

The core reads LlamaIndex's responses as they are, so a gate can be asked about one directly; what wraps LLMs, query
engines and workflows is to come here.

Example:
    >>> response = llm.chat(messages, logprobs=True, top_logprobs=20)   # doctest: +SKIP
    >>> gate.decide(response).route                                      # doctest: +SKIP
    <Route.FINAL: 'final'>
"""

__all__: list[str] = []
