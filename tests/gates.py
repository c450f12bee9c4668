"""Gates for tests of what stands around one: their threshold is exactly 1."""

from functools import cache

from tje_middleware import CalibrationProfile, CalibrationRecord, EntropyGate, ProfileKey, calibrate

#: The model that their profile is of.
MODEL = "standin"


def make_gate(model: str = MODEL, signal: str = "mean_entropy", **policies: object) -> EntropyGate:
    """A gate with its threshold at exactly 1: of mean entropy, drafts up to 1 bit a token are accepted.

    Tests ask the same again and again, which no stream of drafts like the profile's does: drift is not looked for.
    """
    return EntropyGate(_profile(model, signal), **{"on_drift": "ignore", **policies})


@cache
def _profile(model: str, signal: str) -> CalibrationProfile:
    values = [(0.75 + 0.5 * (i % 2), True) for i in range(20)] + [(3.0 + 0.5 * (i % 2), False) for i in range(20)]
    records = [CalibrationRecord(correct=right, signals={signal: bits}) for bits, right in values]
    return calibrate(records, key=ProfileKey(model=model, task="t", signal=signal, temperature=0.0))
