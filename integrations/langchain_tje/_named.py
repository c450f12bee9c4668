"""Chat models by name, where langchain is installed."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel


def named_model(name: str, role: str) -> BaseChatModel:
    """The model that a name such as ``"openai:gpt-4o"`` stands for.

    Args:
        name: As ``init_chat_model`` takes it.
        role: The argument that it was given for, for the error.

    Raises:
        ImportError: langchain, or the provider's package, is not installed.
        ValueError: no such provider.
        TypeError: the name alone makes no model.
    """
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 (langchain-core is enough otherwise)
    except ImportError as error:
        raise ImportError(f"{role}={name!r} needs langchain: pip install langchain") from error
    model = init_chat_model(name)
    if not isinstance(model, BaseChatModel):
        raise TypeError(f"{role}={name!r} is no model by itself: give a name such as 'openai:gpt-4o', or the model")
    return model
