"""Every threshold method by its name. A new one is declared in its own file and entered here."""

from __future__ import annotations

from .cost import COST
from .guaranteed import NONINFERIOR, RISK
from .paper import BAYES, INFO, MEAN, UNIVERSAL
from .rule import ThresholdMethod

#: The paper's four, then ours, in the order in which profiles and tables show them.
METHODS: dict[str, ThresholdMethod] = {
    method.name: method for method in (MEAN, INFO, BAYES, UNIVERSAL, RISK, NONINFERIOR, COST)
}
