"""The risk alarm: whether feedback shows that more of the accepted drafts are wrong than was promised."""

from __future__ import annotations

from math import inf, log, log1p

from ...calibration.profile import Alarm
from .monitor import e_value


def risk_e_value(wrong: int, right: int, limit: float) -> float:
    """Evidence that the share of wrong drafts is above a limit; it may be looked at after every draft.

    The likelihood ratio of a share p against the limit p0, (p/p0)^wrong ((1-p)/(1-p0))^right, averaged over p
    uniform on (p0, 1). While the next draft is wrong with probability at most p0, each is a supermartingale, and so
    is their average: it ever reaches 1 / alpha with probability at most alpha (Ville's inequality).

    Args:
        wrong: Accepted drafts that were wrong, out of all that were graded, or of a random sample.
        right: Accepted drafts that were right, likewise.
        limit: p0, between 0 and 1.

    Raises:
        ValueError: a negative count, or a limit that is no share.
    """
    if min(wrong, right) < 0:
        raise ValueError(f"counts are not negative: {wrong} wrong, {right} right")
    if not 0 < limit < 1:
        raise ValueError(f"the limit is a share between 0 and 1, not {limit}")
    from scipy.special import betainc, betaln  # noqa: PLC0415 (for those who have feedback)

    above = float(betainc(right + 1, wrong + 1, 1 - limit))
    mass = float(betaln(wrong + 1, right + 1)) + (log(above) if above > 0 else -inf)
    evidence = mass - wrong * log(limit) - (right + 1) * log1p(-limit)
    return e_value(evidence)


def risk_alarm(wrong: int, right: int, limit: float, alpha: float) -> Alarm | None:
    """The alarm, where the evidence of :func:`risk_e_value` has reached 1 / alpha.

    Raises:
        ValueError: a count, limit or level that is none.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is a probability between 0 and 1, not {alpha}")
    evidence = risk_e_value(wrong, right, limit)
    if evidence < 1 / alpha:
        return None
    graded = wrong + right
    detail = (
        f"{wrong} of {graded} accepted drafts with feedback were wrong ({wrong / graded:.1%}), and at most "
        f"{limit:.1%} were to be; within that limit, such evidence (e-value {evidence:.3g}) would ever come with "
        f"probability at most {alpha:.3g}"
    )
    numbers = {"wrong": wrong, "right": right, "share": wrong / graded, "limit": limit, "e_value": evidence}
    return Alarm("risk", detail, evidence={name: float(value) for name, value in numbers.items()})
