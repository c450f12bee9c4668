"""Drift: whether live drafts differ from the profile's records, with a stated rate of false alarms."""

from .monitor import DriftMonitor, DriftPolicy, DriftState
from .risk import risk_alarm, risk_e_value

__all__ = ["DriftMonitor", "DriftPolicy", "DriftState", "risk_alarm", "risk_e_value"]
