"""What differs between two versions."""

from __future__ import annotations

import json

import pytest

from tests.samples import KEY, profile
from tje_middleware import ProfileNotFound
from tje_middleware.calibration.settings import CalibrationSettings


def changed(registry):
    found = registry.diff(KEY, 1, 2)
    return {change.name: change for change in found.changes}


def test_names_what_changed_and_by_how_much(registry):
    registry.put(profile(0.4))
    registry.put(profile(0.5, verdict="weak"))
    changes = changed(registry)
    assert (changes["thresholds.mean"].before, changes["thresholds.mean"].after) == (0.4, 0.5)
    assert changes["thresholds.mean"].difference == pytest.approx(0.1)
    assert changes["thresholds.mean"].relative == pytest.approx(0.25)
    assert (changes["verdict"].before, changes["verdict"].after) == ("usable", "weak")
    assert "auroc" not in changes


def test_of_the_same_nothing_differs_but_where_it_comes_from(registry):
    registry.put(profile(), by="ana", source="calibrated")
    registry.put(profile(), by="bob", source="recalibrated")
    assert set(changed(registry)) == {"put_at", "put_by", "source"}


def test_settings_are_compared_one_by_one(registry):
    made = profile()
    registry.put(made.model_copy(update={"settings": CalibrationSettings(alpha=0.05)}))
    registry.put(made.model_copy(update={"settings": CalibrationSettings(alpha=0.1)}))
    change = changed(registry)["settings.alpha"]
    assert (change.before, change.after, change.relative) == (0.05, 0.1, pytest.approx(1.0))
    assert "settings.delta" not in changed(registry)


def test_from_zero_there_is_no_share(registry):
    registry.put(profile(0.0))
    registry.put(profile(0.5))
    assert (changed(registry)["thresholds.mean"].difference, changed(registry)["thresholds.mean"].relative) == (
        0.5,
        None,
    )


def test_as_plain_data_it_is_json(registry):
    registry.put(profile(0.4))
    registry.put(profile(0.5))
    plain = registry.diff(KEY, 1, 2).as_dict()
    assert (plain["key"], plain["before"], plain["after"]) == (str(KEY), 1, 2)
    assert plain["changes"][0]["name"] == "thresholds.mean"
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_a_version_that_is_not_there_is_named(registry):
    registry.put(profile())
    with pytest.raises(ProfileNotFound, match="no version 2"):
        registry.diff(KEY, 1, 2)
