from __future__ import annotations

import pytest

from app.query_string import plain


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (b"a=1&b=2", b"a=1&b=2"),
        (b"a[]=1&a[]=2", b"a=1&a=2"),
        (b"a%5B%5D=1&a%5b%5d=2", b"a=1&a=2"),
        (b"a=&b=1&c", b"b=1"),
        (b"a=[]", b"a=[]"),
        (b"a[0]=1", b"a[0]=1"),
        (b"a=x=y", b"a=x=y"),
        (b"", b""),
        (b"&&=", b""),
    ],
)
def test_query_string_is_normalised(given: bytes, made: bytes) -> None:
    assert plain(given) == made
