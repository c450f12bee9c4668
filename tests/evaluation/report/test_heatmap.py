"""Drafts token by token."""

import numpy as np
import pytest

from tje_middleware import CalibrationRecord, SequenceLogprobs
from tje_middleware.errors import CalibrationError
from tje_middleware.evaluation.report import DraftText
from tje_middleware.evaluation.report.page import environment
from tje_middleware.gate.decision import Route

from ...samples import draft, profile

MACROS = environment().get_template("heatmap.html.jinja").module


def with_texts(bits=1.0, texts=("a", "b", "c", "d"), **fields):
    sequence = draft(bits, tokens=len(texts))
    return CalibrationRecord(correct=True, sequence=SequenceLogprobs(sequence.top_logprobs, tokens=texts), **fields)


class TestDraftText:
    def test_of_a_record_has_its_tokens_entropies_and_signal(self):
        made = DraftText.of_record(with_texts(bits=1.5, id="q1"), profile())
        assert (made.id, made.correct, made.tokens) == ("q1", True, ("a", "b", "c", "d"))
        assert made.entropies == pytest.approx((1.5,) * 4)
        assert made.signal == pytest.approx(1.5)

    def test_takes_the_recorded_signal_where_there_is_one(self):
        assert DraftText.of_record(with_texts(signals={"mean_entropy": 0.7}), profile()).signal == 0.7

    def test_needs_the_texts(self):
        record = CalibrationRecord(id="q7", correct=True, sequence=draft(1.0))
        with pytest.raises(CalibrationError, match="'q7' has no logprobs with token_texts"):
            DraftText.of_record(record, profile())

    def test_refuses_an_entropy_too_few(self):
        with pytest.raises(CalibrationError, match="2 tokens but 1 entropies"):
            DraftText("q", True, ("a", "b"), (0.1,))

    def test_refuses_what_is_not_finite(self):
        with pytest.raises(CalibrationError, match="not finite"):
            DraftText("q", True, ("a",), (np.nan,))


class TestHeatMap:
    def test_says_what_the_draft_is_and_where_it_would_go(self):
        made = MACROS.heat_map(DraftText("q1", False, ("a",), (0.0,), 0.25), Route.DEEPER)
        assert "q1" in made
        assert "✗ wrong" in made
        assert "signal 0.25" in made
        assert ">deeper</span>" in made

    def test_shades_by_entropy_and_gives_it_in_bits(self):
        made = MACROS.heat_map(DraftText("q", True, ("a", "b", "c"), (0.0, 1.0, 9.0)), Route.FINAL)
        assert 'class="token h0" title="0.00 bits">a<' in made
        assert 'class="token h4" title="1.00 bits">b<' in made
        assert 'class="token h7" title="9.00 bits">c<' in made

    def test_cuts_a_long_draft_and_says_so(self):
        made = MACROS.heat_map(DraftText("q", True, ("a",) * 1500, (0.0,) * 1500), Route.FINAL)
        assert made.count('class="token h0"') == 1200
        assert "300 more tokens" in made

    def test_of_an_empty_draft_says_so(self):
        assert "no tokens" in MACROS.heat_map(DraftText(None, True, (), ()), Route.DEEPER)

    def test_has_a_legend_with_every_shade(self):
        assert [f"h{shade}" in MACROS.heat_legend() for shade in range(8)] == [True] * 8


class TestLegible:
    @pytest.mark.parametrize(
        ("text", "seen"),
        [
            ("word", "word"),
            (" word", " word"),
            ("  ", "··"),
            ("\n", "↵"),
            ("\t", "⇥"),
            ("", "empty"),
            ("<0xE2>", ">E2<"),
            ("a\\xe2b", ">E2<"),
            ("\ufffd", ">byte<"),
            ("\u202e", ">202E<"),
            ("\x00", ">0000<"),
            ("\ud83d", ">D83D<"),
            ("<script>", "&lt;script&gt;"),
            ("中é", "中é"),
        ],
    )
    def test_shows_what_is_there(self, text, seen):
        assert seen in MACROS.token_text(text)

    def test_never_writes_a_character_that_cannot_be_seen(self):
        made = MACROS.token_text("a\u202eb\u200bc\x00\ud83d")
        assert not {"\u202e", "\u200b", "\x00", "\ud83d"} & set(made)
