"""The size of chunks, by how many responses are being sent."""

from __future__ import annotations

import pytest

from rehost.server.files.send import ALL_CHUNKS_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, chunk_bytes


@pytest.mark.parametrize(
    ("responses", "expected"),
    [(1, MAX_CHUNK_BYTES), (4, MAX_CHUNK_BYTES), (16, 65_536), (64, MIN_CHUNK_BYTES), (300, MIN_CHUNK_BYTES)],
)
def test_chunks_become_smaller_the_more_responses_there_are(responses, expected):
    assert chunk_bytes(responses) == expected
    assert expected * min(responses, 64) <= ALL_CHUNKS_BYTES
