"""The policies in docs/howto/s3.md mean for a real server what the page says."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.s3 import S3Server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "s3.md"


def policies(bucket: str, prefix: str) -> list[str]:
    """The JSON of the page, for a bucket."""
    found = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [each.replace("BUCKET", bucket).replace("PREFIX", prefix) for each in found]


def status(server: S3Server, path: str) -> int:
    """What anybody is answered."""
    try:
        with urlopen(f"{server.endpoint}/{path}", timeout=30) as answer:
            return answer.status
    except HTTPError as error:
        with error:
            return error.code


def test_policies_are_json():
    assert all(json.loads(each)["Statement"] for each in policies("b", "p"))


def test_public_folder_shows_copies_and_nothing_that_is_rehosts_own(s3_server: S3Server):
    bucket = s3_server.create_bucket()
    public = ["copies/pictures/1/main_image.dc336bcf2d4c62ec.png"]
    private = ["copies/.rehost/store-id", "copies/.rehost/quarantine/pictures/1/main_image.png", "pictures/1.png"]
    for key in (*public, *private):
        s3_server.put(bucket, key, b"1")
    assert {status(s3_server, f"{bucket}/{key}") for key in (*public, *private)} == {403}

    s3_server.request("PUT", f"/{bucket}", query={"policy": ""}, body=policies(bucket, "copies")[1].encode())

    end = time.monotonic() + 60
    while {status(s3_server, f"{bucket}/{key}") for key in public} != {200}:
        assert time.monotonic() < end  # the server may apply it a moment later
        time.sleep(0.05)
    assert [status(s3_server, f"{bucket}/{key}") for key in private] == [403, 403, 403]
    assert status(s3_server, f"{bucket}?list-type=2") == 403
    assert all(s3_server.get(bucket, key).body == b"1" for key in (*public, *private))
