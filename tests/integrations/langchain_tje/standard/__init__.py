"""LangChain's standard suites for chat models: plain ChatOpenAI, and a gated pair of them in every mode and route.

The gated model passes whatever ChatOpenAI passes against the same stand-in; what that itself fails is marked,
strictly.
"""
