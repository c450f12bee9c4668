"""What stands between backticks is a name, and no text opens an element."""

from hypothesis import given
from hypothesis import strategies as st

from tje_middleware.evaluation.report.page import environment

prose = environment().get_template("macros.html.jinja").module.prose


def test_prose_marks_names():
    assert prose("by `mean` < 2") == "by <code>mean</code> &lt; 2"


def test_prose_does_not_break_a_percentage():
    assert prose("95 % interval") == "95\N{NO-BREAK SPACE}% interval"


@given(st.text())
def test_prose_lets_no_text_open_an_element(text):
    assert "<" not in prose(text).replace("<code>", "").replace("</code>", "")
