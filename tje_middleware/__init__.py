"""tje-middleware: think just enough.

Every public name, imported when it is first used: ``import tje_middleware`` itself loads nothing but this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazily
from ._version import __version__

if TYPE_CHECKING:
    from .calibration.calibration import calibrate
    from .calibration.key import ProfileKey
    from .calibration.profile import CalibrationProfile, Threshold
    from .calibration.settings import Prices
    from .calls.usage import TokenUsage
    from .errors import (
        CalibrationError,
        DemoError,
        GateError,
        LocalModelError,
        MissingLogprobs,
        NoThreshold,
        ProfileNotFound,
        RegistryDamaged,
        RegistryError,
        RegistryUnavailable,
        SchemaMismatch,
        SignalError,
        StalePromotion,
        TjeError,
        TjeWarning,
        UnreadableExport,
        UnreadableLogprobs,
    )
    from .evaluation import replay
    from .evaluation.sample_size import learning_curve
    from .gate.decision import GateDecision, Route
    from .gate.drift import DriftPolicy
    from .gate.gate import EntropyGate
    from .gate.stopping.watch import RejectionWatch
    from .ledger import DecisionLedger
    from .logprobs import LogprobsAccumulator, SequenceLogprobs, parse_logprobs
    from .logprobs.entropy import EntropyAccumulator, mean_entropy, token_entropies
    from .records import read_records, write_records
    from .records.record import CalibrationRecord
    from .registry import CalibrationRegistry
    from .signals import register_signal

_HOMES = {
    "calibration.calibration": ("calibrate",),
    "gate.decision": ("GateDecision", "Route"),
    "gate.drift": ("DriftPolicy",),
    "gate.stopping.watch": ("RejectionWatch",),
    "logprobs.entropy": ("EntropyAccumulator", "mean_entropy", "token_entropies"),
    "errors": (
        "CalibrationError",
        "DemoError",
        "GateError",
        "LocalModelError",
        "MissingLogprobs",
        "NoThreshold",
        "ProfileNotFound",
        "RegistryDamaged",
        "RegistryError",
        "RegistryUnavailable",
        "SchemaMismatch",
        "SignalError",
        "StalePromotion",
        "TjeError",
        "TjeWarning",
        "UnreadableExport",
        "UnreadableLogprobs",
    ),
    "evaluation": ("replay",),
    "gate.gate": ("EntropyGate",),
    "calibration.key": ("ProfileKey",),
    "ledger": ("DecisionLedger",),
    "logprobs": ("LogprobsAccumulator", "SequenceLogprobs", "parse_logprobs"),
    "calibration.profile": ("CalibrationProfile", "Threshold"),
    "records.record": ("CalibrationRecord",),
    "records": ("read_records", "write_records"),
    "registry": ("CalibrationRegistry",),
    "evaluation.sample_size": ("learning_curve",),
    "calibration.settings": ("Prices",),
    "signals": ("register_signal",),
    "calls.usage": ("TokenUsage",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CalibrationError",
    "CalibrationProfile",
    "CalibrationRecord",
    "CalibrationRegistry",
    "DecisionLedger",
    "DemoError",
    "DriftPolicy",
    "EntropyAccumulator",
    "EntropyGate",
    "GateDecision",
    "GateError",
    "LocalModelError",
    "LogprobsAccumulator",
    "MissingLogprobs",
    "NoThreshold",
    "Prices",
    "ProfileKey",
    "ProfileNotFound",
    "RegistryDamaged",
    "RegistryError",
    "RegistryUnavailable",
    "RejectionWatch",
    "Route",
    "SchemaMismatch",
    "SequenceLogprobs",
    "SignalError",
    "StalePromotion",
    "Threshold",
    "TjeError",
    "TjeWarning",
    "TokenUsage",
    "UnreadableExport",
    "UnreadableLogprobs",
    "__version__",
    "calibrate",
    "learning_curve",
    "mean_entropy",
    "parse_logprobs",
    "read_records",
    "register_signal",
    "replay",
    "token_entropies",
    "write_records",
]


if not TYPE_CHECKING:  # a type checker would take any name for a public one
    __getattr__ = lazily(__name__, _HOME_OF, globals())


def __dir__() -> list[str]:
    return __all__
