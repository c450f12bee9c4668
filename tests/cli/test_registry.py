"""``tje registry``: every command on a SQLite file and on PostgreSQL, as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import delete, update
from sqlalchemy.engine import make_url

from tests.cli.commands import RUN, ok, plain, run, said
from tests.postgres import PASSWORD
from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.calibration.profile import Alarm
from tje_middleware.cli import app
from tje_middleware.cli.registry import versions
from tje_middleware.cli.registry.keys import found_key
from tje_middleware.registry.tables import KEYS, PROFILES

WARM = KEY.model_copy(update={"temperature": 0.7})
DATED, MINI = "gpt-4.1-mini-2025-04-14", ProfileKey(model="gpt-4.1-mini", task="t")


def active(store: CalibrationRegistry, key: ProfileKey = KEY) -> int | None:
    return store.get(key).version


def alarm(version: int) -> Alarm:
    return Alarm("drift", "KS 0.31 where 0.09 is allowed", version=version, evidence={"ks": 0.31})


class TestList:
    def test_shows_what_is_active_what_waits_and_what_is_wrong(self, store):
        store.store_alarm(KEY, alarm(2))
        [one] = json.loads(run(store, "list", "--json").stdout)
        assert one["key"] == KEY.model_dump()
        assert (one["active_version"], one["versions"], one["candidates"]) == (2, [1, 2, 3], [3])
        assert (one["verdict"], one["signal"], one["n"]) == ("weak", "mean_entropy", 20)
        assert (one["method"], one["threshold"], one["auroc"], one["alarms"]) == ("mean", 0.6, 1.0, 1)

    def test_is_a_table_of_one_line_a_key_in_100_columns(self, store):
        store.put(profile(key=MINI))
        shown = run(store, "list").stdout
        assert max(map(len, shown.splitlines())) <= 100
        assert "m / t mean_entropy 2 of 3 weak 20 0.6 1.000" in plain(shown)
        assert "gpt-4.1-mini / t" in plain(shown)

    def test_shows_the_thresholds_of_the_method_that_is_asked_for(self, store):
        bayes = store.get(KEY).thresholds["bayes"].value
        [one] = json.loads(run(store, "list", "--method", "bayes", "--json").stdout)
        assert (one["method"], one["threshold"]) == ("bayes", bayes)
        for command in (["list"], ["history", "m", "t"]):
            shown = ok(run(store, *command, "--method", "bayes"))
            assert "(bayes)" in shown
            assert f"{bayes:.4g}" in shown

    def test_refuses_a_method_that_there_is_not(self, store):
        done = run(store, "list", "--method", "median")
        assert done.exit_code == 2
        assert "none of mean, info, bayes" in plain(done.stderr.replace("│", " "))

    def test_shows_how_old_a_calibration_is(self, url):
        old = profile().model_copy(update={"created_at": datetime.now(timezone.utc) - timedelta(days=40, hours=1)})
        with CalibrationRegistry(url) as store:
            store.put(old)
        assert "40 d" in ok(run(url, "list"))

    def test_a_version_that_was_active_waits_no_more(self, store):
        store.promote(KEY, 3)
        store.rollback(KEY)
        [one] = json.loads(run(store, "list", "--json").stdout)
        assert (one["active_version"], one["candidates"]) == (2, [])

    def test_alarms_about_other_versions_are_not_counted(self, store):
        store.store_alarm(KEY, alarm(1))
        [one] = json.loads(run(store, "list", "--json").stdout)
        assert one["alarms"] == 0

    def test_of_candidates_only_says_that_none_is_active(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile(), candidate=True)
        assert "none of 1" in ok(run(url, "list"))

    def test_a_profile_that_cannot_be_read_hides_no_other(self, store):
        store.put(profile(key=MINI))
        with store.database.writing() as connection:
            connection.execute(update(PROFILES).where(PROFILES.c.version == 2).values(body="{}"))
        done = run(store, "list")
        assert "unreadable" in ok(done)
        assert "gpt-4.1-mini" in done.stdout
        assert "version 2" in plain(done.stderr)

    def test_of_an_empty_registry_says_how_to_fill_it(self, url):
        run(url, "migrate")
        assert ok(run(url, "list")).endswith("holds no profile yet: tje calibrate --registry URL stores one.")
        assert "─" not in run(url, "list").stdout
        assert json.loads(run(url, "list", "--json").stdout) == []

    def test_does_not_make_a_file(self, tmp_path):
        message = said(run(f"sqlite:///{tmp_path}/none.db", "list"))
        assert "no such file" in message
        assert not (tmp_path / "none.db").exists()


class TestTheKey:
    def test_is_found_where_nothing_else_could_be_meant(self, store):
        assert json.loads(run(store, "show", "m", "t", "--json").stdout)["version"] == 2

    def test_is_not_guessed_where_several_could_be(self, store):
        store.put(profile(key=WARM))
        message = said(run(store, "promote", "m", "t", 3))
        assert "2 keys match" in message
        assert str(KEY) in message
        assert str(WARM) in message
        assert active(store) == 2

    @pytest.mark.parametrize(("named", "meant"), [("0.7", WARM), ("none", KEY)])
    def test_is_told_from_others_by_its_settings(self, store, named, meant):
        store.put(profile(key=WARM))
        done = run(store, "show", "m", "t", "--temperature", named, "--json")
        assert json.loads(done.stdout)["profile"]["key"] == meant.model_dump()

    @pytest.mark.parametrize(
        ("option", "other"),
        [
            (["--signal", "varentropy"], {"signal": "varentropy"}),
            (["--top-k", "5"], {"top_k": 5}),
            (["--prompt-fingerprint", "abc"], {"prompt_fingerprint": "abc"}),
        ],
    )
    def test_may_differ_in_any_setting(self, store, option, other):
        key = KEY.model_copy(update=other)
        store.put(profile(key=key))
        assert (
            json.loads(run(store, "show", "m", "t", *option, "--json").stdout)["profile"]["key"] == key.model_dump()
        )

    def test_that_is_not_there_shows_which_are(self, store):
        message = said(run(store, "show", "m", "another"))
        assert "no key matches m / another" in message
        assert str(KEY) in message

    def test_may_be_named_by_an_alias_which_is_told(self, store):
        store.put(profile(key=MINI))
        store.alias(DATED, MINI.model)
        done = run(store, "show", DATED, "t", "--json")
        assert json.loads(done.stdout)["profile"]["key"] == MINI.model_dump()
        assert f"{DATED} is an alias of {MINI.model}" in plain(done.stderr)

    def test_without_an_alias_is_not_found_by_a_dated_name(self, store):
        store.put(profile(key=MINI))
        assert "no key matches" in said(run(store, "show", DATED, "t"))

    def test_with_a_slash_is_not_taken_for_another(self, store):
        keys = [ProfileKey(model="a / b", task="c"), ProfileKey(model="a", task="b / c")]
        for key in keys:
            store.put(profile(key=key))
        for key in keys:
            shown = json.loads(run(store, "show", key.model, key.task, "--json").stdout)
            assert shown["profile"]["key"] == key.model_dump()
        run(store, "delete", keys[0].model, keys[0].task, "--yes")
        assert [one.version for one in store.history(keys[1])] == [1]

    def test_with_a_temperature_that_is_no_number_is_refused(self, store):
        assert run(store, "show", "m", "t", "--temperature", "warm").exit_code == 2


class TestShow:
    def test_shows_the_thresholds_and_where_they_come_from(self, store):
        store.store_alarm(KEY, alarm(2))
        shown = ok(run(store, "show", "m", "t"))
        assert "made weak for a test" in shown
        assert "bayes" in shown
        assert "version 2, active" in shown
        assert "put by ben" in shown
        assert "KS 0.31 where 0.09 is allowed" in shown

    def test_shows_any_version(self, store):
        shown = json.loads(run(store, "show", "m", "t", "--version", 3, "--json").stdout)
        assert (shown["version"], shown["is_active"], shown["put_by"]) == (3, False, "eve")
        assert shown["profile"]["thresholds"]["mean"]["value"] == 0.7

    def test_of_a_version_that_is_not_there_says_which_are(self, store):
        assert "only 1, 2, 3" in said(run(store, "show", "m", "t", "--version", 9))

    def test_of_candidates_only_asks_for_a_version(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile(), candidate=True)
        assert "--version" in said(run(url, "show", "m", "t"))
        assert "not active" in ok(run(url, "show", "m", "t", "--version", 1))


class TestHistory:
    def test_shows_every_version_and_who_put_it(self, store):
        shown = json.loads(run(store, "history", "m", "t", "--json").stdout)
        assert [(one["version"], one["is_active"], one["put_by"], one["source"]) for one in shown] == [
            (1, False, "ada", "calibrated"),
            (2, True, "ben", "calibrated"),
            (3, False, "eve", "recalibrated"),
        ]
        table = run(store, "history", "m", "t").stdout
        assert max(map(len, table.splitlines())) <= 100
        assert "* 2" in plain(table)

    def test_takes_no_brackets_for_a_style(self, store):
        store.put(profile().model_copy(update={"records_fingerprint": "[/red]"}), source="[/b]", by="[/i]")
        shown = ok(run(store, "history", "m", "t"))
        assert all(words in shown for words in ("[/red]", "[/b]", "[/i]"))

    def test_shows_what_was_active_when(self, store):
        store.promote(KEY, 3, by="ada")
        log = json.loads(run(store, "history", "m", "t", "--promotions", "--json").stdout)
        assert [(one["action"], one["from_version"], one["to_version"]) for one in log] == [
            ("put", None, 1),
            ("put", 1, 2),
            ("promote", 2, 3),
        ]
        assert "promote 2 3 ada" in ok(run(store, "history", "m", "t", "--promotions"))


class TestWidth:
    """What is shown in few columns and in many."""

    MODEL, WHO = "meta-llama/Llama-3.3-70B-Instruct-Turbo", "deploy@build-machine-17.example:4231"

    @pytest.fixture
    def long(self, tmp_path):
        key = ProfileKey(model=self.MODEL, task="customer-support", signal="auto", temperature=0)
        with CalibrationRegistry(f"sqlite:///{tmp_path}/long.db") as store:
            long_ago = datetime.now(timezone.utc) - timedelta(days=40, hours=1)
            for verdict, threshold in (("usable", 0.5), ("unusable", 0.25)):
                made = profile(threshold, verdict=verdict, key=key).model_copy(update={"created_at": long_ago})
                reason = " ".join(f"reason-{number}" for number in range(40))
                store.put(made.model_copy(update={"verdict_reason": f"{verdict}: {reason}"}), by=self.WHO)
            store.store_alarm(key, replace(alarm(2), raised_at=long_ago))
            yield store

    @pytest.mark.parametrize("columns", [80, 100, 130, 200])
    @pytest.mark.parametrize("command", ["list", "history", "history --promotions", "alarms", "aliases", "diff"])
    def test_no_word_is_cut(self, long, command, columns):
        long.alias("Llama-3.3-70B-Instruct", self.MODEL)
        name, *options = command.split()
        key = [self.MODEL, "customer-support"] if name in ("history", "diff") else []
        shown = run(long, name, *key, *options, columns=columns).stdout
        wide = run(long, name, *key, *options, columns=500).stdout
        assert max(map(len, shown.splitlines())) <= columns
        assert "…" not in shown
        of_tables_alone = {"Model", "task", "*", "Alias", "When", "(UTC)"}
        words = {word for word in wide.split() if "─" not in word}
        assert words - of_tables_alone <= set(shown.split())

    @pytest.mark.parametrize(("columns", "is_table"), [(80, False), (130, True)])
    def test_a_key_is_a_line_where_it_fits_and_a_block_where_it_does_not(self, long, columns, is_table):
        shown = run(long, "list", columns=columns).stdout
        assert ("─" in shown) == is_table
        assert any(line.split()[:2] == ["Active", "2"] for line in shown.splitlines()) != is_table

    def test_of_a_difference_thresholds_come_first_and_sentences_last_in_full_width(self, long):
        lines = run(long, "diff", self.MODEL, "customer-support", 1, 2, columns=80).stdout.splitlines()
        names = [line.split()[0] for line in lines if line.strip()]
        assert names.index("thresholds.mean") < names.index("verdict") < names.index("verdict_reason")
        reason = lines[lines.index("verdict_reason") + 1 :]
        assert reason[0].startswith("  1  usable: reason-0 reason-1")
        assert max(len(line.rstrip()) for line in reason) > 70


class TestDiff:
    def test_compares_the_active_version_with_the_newest_candidate(self, store):
        found = json.loads(run(store, "diff", "m", "t", "--json").stdout)
        assert (found["before"], found["after"]) == (2, 3)
        assert "thresholds.mean 0.6 0.7 +0.1 (+17%)" in ok(run(store, "diff", "m", "t"))

    def test_compares_with_the_one_before_where_there_is_no_candidate(self, store):
        store.promote(KEY, 3)
        found = json.loads(run(store, "diff", "m", "t", "--json").stdout)
        assert (found["before"], found["after"]) == (2, 3)

    def test_leaves_a_version_that_was_rolled_back_alone(self, store):
        store.promote(KEY, 3)
        store.rollback(KEY)
        found = json.loads(run(store, "diff", "m", "t", "--json").stdout)
        assert (found["before"], found["after"]) == (1, 2)

    def test_compares_a_version_that_is_named_with_the_active_one(self, store):
        found = json.loads(run(store, "diff", "m", "t", 1, "--json").stdout)
        assert (found["before"], found["after"]) == (1, 2)

    def test_of_candidates_only_compares_the_oldest_with_the_newest(self, url):
        with CalibrationRegistry(url) as store:
            for threshold in (0.1, 0.2, 0.3):
                store.put(profile(threshold), candidate=True)
        found = json.loads(run(url, "diff", "m", "t", "--json").stdout)
        assert (found["before"], found["after"]) == (1, 3)

    def test_where_only_a_version_was_rolled_back_asks_which_are_meant(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile(0.1))
            store.put(profile(0.2))
            store.rollback(KEY)
        assert "name two versions (1, 2)" in said(run(url, "diff", "m", "t"))

    def test_compares_any_two(self, store):
        found = json.loads(run(store, "diff", "m", "t", 3, 1, "--json").stdout)
        assert (found["before"], found["after"]) == (3, 1)

    def test_of_one_version_has_nothing_to_compare(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile())
        assert "no other version" in said(run(url, "diff", "m", "t"))


class TestPromote:
    def test_makes_a_version_the_active_one(self, store):
        done = run(store, "promote", "m", "t", 3)
        assert ok(done) == f"{store.url}: version 3 of {KEY} is active now; version 2 was."
        assert "version 2 is active" in plain(done.stderr)
        assert active(store) == 3

    def test_of_the_active_version_changes_nothing_and_says_so(self, store):
        assert "version 2 of" in (shown := ok(run(store, "promote", "m", "t", 2)))
        assert shown.endswith("is active already; nothing was changed.")
        assert len(store.promotions(KEY)) == 2

    @pytest.mark.parametrize("verdict", ["weak", "unusable"])
    def test_of_a_version_that_is_not_usable_warns(self, store, verdict):
        version = store.put(profile(verdict=verdict), candidate=True)
        done = run(store, "promote", "m", "t", version)
        assert f"version {version} of" in ok(done)
        assert f"Warning: version {version} is {verdict}, gates" in plain(done.stderr)
        assert f"made {verdict} for a test" in plain(done.stderr)

    def test_of_a_usable_version_warns_of_nothing(self, store):
        assert "Warning" not in run(store, "promote", "m", "t", 3).stderr

    def test_the_first_of_candidates_replaces_none(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile(), candidate=True)
        assert "none was" in ok(run(url, "promote", "m", "t", 1))

    def test_is_refused_where_another_is_active_than_was_seen(self, store):
        message = said(run(store, "promote", "m", "t", 3, "--replacing", 1)).partition("Error: ")[2]
        assert "version 1" in message
        assert "version 2 is active" in message
        assert active(store) == 2

    @pytest.mark.parametrize("command", [["promote", "m", "t", 2], ["rollback", "m", "t"]])
    def test_is_refused_where_another_is_promoted_meanwhile(self, store, monkeypatch, command):
        def seen_and_overtaken(opened, wanted):
            seen = found_key(opened, wanted)
            store.promote(KEY, 1)
            return seen

        monkeypatch.setattr(versions, "found_key", seen_and_overtaken)
        assert "version 1 is active" in said(run(store, *command))
        assert active(store) == 1

    def test_of_a_version_that_is_not_there_changes_nothing(self, store):
        assert "no version 9" in said(run(store, "promote", "m", "t", 9))
        assert active(store) == 2

    def test_is_taken_back_by_rollback(self, store):
        run(store, "promote", "m", "t", 3)
        shown = ok(run(store, "rollback", "m", "t"))
        assert shown == f"{store.url}: version 2 of {KEY} is active again; version 3 was."
        assert active(store) == 2

    def test_a_rollback_is_refused_where_another_is_active_than_was_seen(self, store):
        said(run(store, "rollback", "m", "t", "--replacing", 1))
        assert active(store) == 2

    def test_a_rollback_without_anything_before_is_told(self, url):
        with CalibrationRegistry(url) as store:
            store.put(profile())
        assert "nothing to go back to" in said(run(url, "rollback", "m", "t"))


class TestNames:
    def test_an_alias_is_made_listed_and_withdrawn(self, store):
        store.put(profile(key=MINI))
        assert ok(run(store, "alias", DATED, MINI.model)) == f"{store.url}: {DATED} is an alias of {MINI.model}."
        assert store.lookup(MINI.model_copy(update={"model": DATED})).profile is not None
        assert json.loads(run(store, "aliases", "--json").stdout) == {DATED: MINI.model}
        assert f"{DATED} {MINI.model}" in ok(run(store, "aliases"))
        assert ok(run(store, "unalias", DATED)) == f"{store.url}: {DATED} is no alias any more."
        assert json.loads(run(store, "aliases", "--json").stdout) == {}
        assert ok(run(store, "aliases")) == f"{store.url} has no alias."

    def test_an_alias_given_the_wrong_way_round_is_told_the_right_one(self, store):
        assert said(run(store, "alias", "m", "m-2026-01-01")).endswith("tje registry alias m-2026-01-01 m")
        assert store.aliases() == {}

    def test_an_alias_of_a_model_without_profiles_warns(self, store):
        done = run(store, "alias", "other", "mm")
        assert "Warning: no profile is of mm" in plain(done.stderr)
        assert store.aliases() == {"other": "mm"}

    def test_an_alias_of_itself_is_refused(self, store):
        assert "alias of itself" in said(run(store, "alias", "m", "m"))

    def test_what_is_no_alias_cannot_be_withdrawn(self, store):
        assert "no alias" in said(run(store, "unalias", "m"))


class TestAlarms:
    def test_are_listed_until_they_are_dismissed(self, store):
        store.store_alarm(KEY, alarm(2))
        [one] = json.loads(run(store, "alarms", "--json").stdout)
        assert (one["key"], one["version"], one["kind"]) == (KEY.model_dump(), 2, "drift")
        assert one["evidence"] == {"ks": 0.31}
        assert "KS 0.31 where 0.09 is allowed" in ok(run(store, "alarms"))
        assert ok(run(store, "dismiss", "m", "t")) == f"{store.url}: 1 alarm about {KEY} dismissed."
        assert ok(run(store, "alarms")) == "There is no alarm."
        assert json.loads(run(store, "alarms", "--json").stdout) == []
        [one] = json.loads(run(store, "alarms", "--dismissed", "--json").stdout)
        assert one["dismissed_at"] is not None

    def test_of_one_model_and_task_can_be_asked_for(self, store):
        store.put(profile(key=MINI))
        store.store_alarm(KEY, alarm(2))
        store.store_alarm(MINI, alarm(1))
        for arguments, keys in ((["m"], [KEY]), (["m", "t"], [KEY]), ([], [MINI, KEY])):
            found = json.loads(run(store, "alarms", *arguments, "--json").stdout)
            assert [one["key"] for one in found] == [key.model_dump() for key in keys]

    def test_of_a_model_can_be_asked_for_by_an_alias(self, store):
        store.put(profile(key=MINI))
        store.store_alarm(KEY, alarm(2))
        store.store_alarm(MINI, alarm(1))
        store.alias(DATED, MINI.model)
        done = run(store, "alarms", DATED, "--json")
        assert [one["key"] for one in json.loads(done.stdout)] == [MINI.model_dump()]
        assert f"{DATED} is an alias of {MINI.model}" in plain(done.stderr)

    @pytest.mark.parametrize("names", [["mm"], ["m", "other"], ["m-2026-01-01", "t"]])
    def test_of_a_key_that_is_not_there_says_which_are(self, store, names):
        store.store_alarm(KEY, alarm(2))
        message = said(run(store, "alarms", *names))
        assert f"no key matches {names[0]}" in message
        assert str(KEY) in message


class TestDelete:
    def test_asks_before(self, store):
        kept = run(store, "delete", "m", "t", input="n\n")
        assert kept.exit_code == 1
        assert "3 versions" in plain(kept.stderr)
        assert active(store) == 2
        assert "3 versions removed" in ok(run(store, "delete", "m", "t", input="y\n"))
        assert not store.list()

    def test_can_be_told_not_to_ask(self, store):
        ok(run(store, "delete", "m", "t", "--yes"))
        assert not store.list()

    def test_removes_what_cannot_be_read(self, store):
        with store.database.writing() as connection:
            connection.execute(update(PROFILES).values(body="{}"))
        ok(run(store, "delete", "m", "t", "--yes"))
        assert json.loads(run(store, "list", "--json").stdout) == []

    def test_a_key_whose_row_is_gone_can_still_be_promoted(self, store):
        with store.database.writing() as connection:
            connection.execute(delete(KEYS))
        ok(run(store, "promote", "m", "t", 3))
        assert active(store) == 3


class TestHelp:
    @pytest.mark.parametrize("command", ["list", "promote", "diff", "history"])
    def test_shows_the_whole_url_in_80_columns(self, command):
        shown = RUN.invoke(app, ["registry", command, "--help"], env={"COLUMNS": "80"}).stdout
        assert "postgresql+psycopg://HOST/DB" in shown
        assert "…" not in shown

    def test_names_all_arguments_in_one_way(self):
        usage = RUN.invoke(app, ["registry", "diff", "--help"], env={"COLUMNS": "100"}).stdout
        assert "[a] [b]" in usage.lower()
        assert "[[" not in usage


class TestSecrets:
    def test_the_url_is_taken_from_the_environment_and_help_does_not_show_it(self, tmp_path):
        secret = f"postgresql+psycopg://tje:{PASSWORD}@127.0.0.1:1/tje"
        for command in ("list", "promote", "doctor"):
            done = RUN.invoke(app, ["registry", command, "--help"], env={"TJE_REGISTRY": secret, "COLUMNS": "100"})
            assert done.exit_code == 0
            assert "TJE_REGISTRY" in done.output
            assert PASSWORD not in done.output
        done = RUN.invoke(app, ["registry", "list"], env={"TJE_REGISTRY": secret})
        assert "tje:***@127.0.0.1:1" in said(done)

    @pytest.mark.parametrize("command", [["list"], ["doctor"], ["migrate"], ["show", "m", "t"], ["export"]])
    def test_a_password_is_in_no_output(self, postgres, command):
        wrong = make_url(postgres.url_with_password("Falsch-19c2")).render_as_string(hide_password=False)
        done = RUN.invoke(app, ["registry", *command, "--registry", wrong])
        assert done.exit_code == 1
        assert "Falsch-19c2" not in done.output

    @pytest.mark.parametrize(
        "url", [f"postgresql:/tje:{PASSWORD}@h/d", f"postgres//tje:{PASSWORD}@h/d", f"mysql://tje:{PASSWORD}@h/d"]
    )
    def test_nor_is_that_of_a_url_that_is_none(self, url):
        assert PASSWORD not in said(run(url, "list"))

    def test_a_traceback_shows_no_variables(self):
        assert not app.pretty_exceptions_show_locals


class TestAsAProcess:
    def tje(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tje_middleware", "registry", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "COLUMNS": "100", **environment},
        )

    def test_promotes_shows_and_rolls_back(self, store, url):
        assert self.tje("promote", "m", "t", "3", TJE_REGISTRY=url).returncode == 0
        shown = self.tje("list", "--json", TJE_REGISTRY=url)
        assert json.loads(shown.stdout)[0]["active_version"] == 3
        assert self.tje("rollback", "m", "t", TJE_REGISTRY=url).returncode == 0
        assert active(store) == 2

    def test_fails_with_one_message(self, store, url):
        done = self.tje("show", "m", "another", "--registry", url)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("Error: no key matches")
        assert "Traceback" not in done.stderr

    def test_help_waits_for_no_database(self):
        code = (
            "import sys\nfrom tje_middleware.cli import app\n"
            "try:\n    app(['registry', 'promote', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
            "print(sorted({'sqlalchemy', 'scipy', 'pydantic', 'alembic'} & sys.modules.keys()))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] in ("[]", "['pydantic']")
