import pytest

from rehost.telemetry.sanitize import field, plain


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("oss.adquan.com", "oss.adquan.com"),
        ("广告门 · façade", "广告门 · façade"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("one\nvisit stored row=1", r"one\nvisit stored row=1"),
        ("a\tb\r", r"a\tb\r"),
        ("\x9b31m", r"\x9b31m"),
        ("left\u202eright", r"left\u202eright"),
        ("line\u2028separator", r"line\u2028separator"),
        ("lone \udc80", r"lone \udc80"),
    ],
)
def test_what_acts_on_a_terminal_is_written_as_an_escape(text, harmless):
    assert harmless == plain(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("404", "404"),
        ("", '""'),
        ("403 at /a b", '"403 at /a b"'),
        ('say "no"', r'"say \"no\""'),
        ("row=1", '"row=1"'),
    ],
)
def test_a_field_is_quoted_where_it_could_be_read_as_two(text, written):
    assert written == field(text)
