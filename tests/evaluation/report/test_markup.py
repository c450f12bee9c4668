"""Markup that nothing put into it can break."""

from hypothesis import given
from hypothesis import strategies as st

from tje_middleware.evaluation.report.markup import bullets, join, paragraphs, prose, tag


class TestTag:
    def test_escapes_what_is_not_markup(self):
        assert tag("p", "a < b & 'c'") == "<p>a &lt; b &amp; &#x27;c&#x27;</p>"

    def test_keeps_what_is_markup(self):
        assert tag("p", tag("b", "x"), " y") == "<p><b>x</b> y</p>"

    def test_escapes_attributes(self):
        assert tag("p", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'

    def test_writes_attributes_as_html_has_them(self):
        assert tag("i", class_="a", data_x=1, hidden=True, open=False) == '<i class="a" data-x="1" hidden></i>'

    @given(st.text())
    def test_lets_no_text_open_an_element(self, text):
        assert "<" not in tag("p", text, title=text)[1:].replace("</p>", "")


class TestProse:
    def test_marks_names(self):
        assert prose("by `mean` < 2") == "by <code>mean</code> &lt; 2"

    def test_does_not_break_a_percentage(self):
        assert prose("95 % interval") == "95\N{NO-BREAK SPACE}% interval"

    def test_leaves_markup_alone(self):
        assert prose(tag("b", "`x`")) == "<b>`x`</b>"

    def test_in_paragraphs_and_lists_leaves_out_what_is_empty(self):
        assert paragraphs("", "a") == "<p>a</p>"
        assert bullets() == ""
        assert join("<", tag("b")) == "&lt;<b></b>"
