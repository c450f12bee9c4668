"""Every error and warning of tje-middleware.

The tree::

    TjeError
    ├── UnreadableLogprobs (ValueError)      a payload of unknown shape, or numbers that are no logprobs
    │   ├── UnknownShape                     nothing in the payload looks like logprobs
    │   └── MissingLogprobs                  a known shape, but the provider sent no logprobs in it
    ├── SignalError (ValueError)             a signal is unknown or cannot be computed from this sequence
    ├── CalibrationError (ValueError)        records that cannot be calibrated, or a profile that cannot be used
    │   └── NoThreshold                      a method has no threshold for these records
    ├── GateError                            a gate with on_missing="raise" met a draft that it cannot judge
    ├── RegistryError                        the store of profiles
    │   ├── RegistryUnavailable              unreachable, read-only, locked or full
    │   ├── RegistryDamaged                  reachable, but what it holds cannot be read
    │   ├── SchemaMismatch                   its tables are those of another release
    │   ├── StalePromotion                   another version is active than the caller saw
    │   ├── UnreadableExport                 a file that cannot be imported; nothing was stored
    │   └── ProfileNotFound (LookupError)    no profile under this key
    ├── LocalModelError                      the embedded model could not be found, verified or started
    └── DemoError                            the demo could not run

    TjeWarning (UserWarning)                 said once per cause, never once per call
"""

from __future__ import annotations


class TjeError(Exception):
    """The root of every error that this library raises on purpose."""


class UnreadableLogprobs(TjeError, ValueError):  # noqa: N818 (a public name fixed by the design)
    """A payload whose shape is unknown, or whose numbers are not log-probabilities."""


class UnknownShape(UnreadableLogprobs):
    """A payload in which nothing looks like logprobs, as opposed to logprobs with something wrong."""


class MissingLogprobs(UnreadableLogprobs):
    """A payload of a known shape in which the provider sent no logprobs."""


class SignalError(TjeError, ValueError):
    """A signal that is unknown, or that cannot be computed from this sequence."""


class CalibrationError(TjeError, ValueError):
    """Records that cannot be calibrated, or a profile that cannot be used as asked."""


class NoThreshold(CalibrationError):  # noqa: N818
    """A threshold method has no answer for these records; the message says what it lacks."""


class GateError(TjeError):
    """A gate with ``on_missing="raise"`` met a draft that it cannot judge."""


class RegistryError(TjeError):
    """The registry of profiles could not do what was asked."""


class RegistryUnavailable(RegistryError):  # noqa: N818
    """The registry cannot be reached or written: down, locked, read-only or full."""


class RegistryDamaged(RegistryError):  # noqa: N818
    """The registry was reached, but what it holds cannot be read."""


class SchemaMismatch(RegistryError):  # noqa: N818
    """The registry's tables are those of another release; the message says whether to migrate or to upgrade."""


class StalePromotion(RegistryError):  # noqa: N818
    """Another version is active than the one that was to be replaced; look again before promoting."""


class UnreadableExport(RegistryError):  # noqa: N818
    """A file that is no export of a registry, or one that was changed; nothing of it was stored."""


class ProfileNotFound(RegistryError, LookupError):  # noqa: N818
    """The registry holds no profile under this key."""


class LocalModelError(TjeError):
    """The embedded model could not be found, verified or started."""


class DemoError(TjeError):
    """The demo could not run; the message says what to do."""


class TjeWarning(UserWarning):
    """Something a user should know and that stops nothing; said once per cause."""


def require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse an option that does not exist.

    Raises:
        ValueError: the message names those that do.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {described(value)}")


def described(value: object) -> str:
    """What was given in the place of something else, for an error: models print their keys, and errors are logged.

    Example:
        >>> described("gpt-4o"), described(print), described({"api_key": "secret"})
        ("'gpt-4o'", 'print', 'a dict')
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else f"a {type(value).__name__}"
