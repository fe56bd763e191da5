import pytest

from rehost.cli.commands.serve import shown_host


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("images.example", "images.example"),
        ("0.0.0.0", "localhost"),
        ("", "localhost"),
        ("::", "localhost"),
        ("::1", "[::1]"),
    ],
)
def test_the_address_is_one_that_a_browser_can_open(host, shown):
    assert shown == shown_host(host)
