import pytest

from rehost.http.errors import AddressRefused, ConnectFailed, HttpError, printable


@pytest.mark.parametrize("kind", [HttpError, AddressRefused, ConnectFailed])
def test_text_of_an_error_is_short_whatever_it_quotes(kind):
    assert str(kind("x" * 500)) == "x" * 500
    assert str(kind("x" * 100_000)) == "x" * 497 + "..."


def test_quoted_text_is_one_short_printable_line():
    assert printable("caf\u00e9 \x1b[1m\nsecond line") == r"caf\xe9 \x1b[1m"
    assert len(printable("x" * 1000)) == 120
