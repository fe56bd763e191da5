import re
from random import Random
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.hotlink.decoys import SeenDigests, control_urls
from rehost.hotlink.referers import Target

ORIGIN = "https://oss.adquan.com"


RANDOM = Random(3)


@pytest.fixture
def seen():
    return SeenDigests()


def test_bytes_under_a_second_link_are_suspect(seen):
    assert seen.add(ORIGIN, "d", Target(f"{ORIGIN}/1.png", "https://page/1")) is None
    assert seen.add(ORIGIN, "d", Target(f"{ORIGIN}/2.png", None)) == (f"{ORIGIN}/1.png", "https://page/1")
    assert seen.add(ORIGIN, "d", Target(f"{ORIGIN}/3.png", None)) == (f"{ORIGIN}/1.png", "https://page/1")


@pytest.mark.parametrize(
    ("origin", "digest", "url"),
    [
        (ORIGIN, "d", f"{ORIGIN}/1.png"),
        (ORIGIN, "other", f"{ORIGIN}/2.png"),
        ("https://file.adquan.com", "d", "https://file.adquan.com/1.png"),
    ],
)
def test_same_link_or_other_bytes_or_another_origin_are_not_suspect(seen, origin, digest, url):
    seen.add(ORIGIN, "d", Target(f"{ORIGIN}/1.png", None))

    assert seen.add(origin, digest, Target(url, None)) is None


def test_genuine_bytes_are_not_suspect_until_the_origin_changes(seen):
    seen.add(ORIGIN, "d", Target(f"{ORIGIN}/1.png", None))
    seen.add_genuine(ORIGIN, "d")
    assert seen.is_genuine(ORIGIN, "d")
    assert seen.add(ORIGIN, "d", Target(f"{ORIGIN}/2.png", None)) is None

    seen.forget_genuine(ORIGIN)
    assert not seen.is_genuine(ORIGIN, "d")
    assert seen.add(ORIGIN, "d", Target(f"{ORIGIN}/2.png", None)) == (f"{ORIGIN}/1.png", None)


def test_least_recently_seen_digest_is_forgotten_first():
    seen = SeenDigests(most=2)
    for digest in ("a", "b", "a", "c"):
        seen.add(ORIGIN, digest, Target(f"{ORIGIN}/{digest}.png", None))

    assert seen.add(ORIGIN, "a", Target(f"{ORIGIN}/2.png", None)) is not None
    assert seen.add(ORIGIN, "b", Target(f"{ORIGIN}/2.png", None)) is None


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/upload/20200628/159333611702b57de84188551c.png", r"/upload/20200628/[0-9a-f]{26}\.png"),
        ("/1.jpg", r"/\d{18}\.jpg"),
        ("/12345678901234567890123.jpg", r"/\d{18}\.jpg"),
        ("/logo.png", r"/[a-z0-9]{18}\.png"),
        ("/LOGO.PNG", r"/[A-Z0-9]{18}\.PNG"),
        ("/a/b.jpg!w300", r"/a/[a-z0-9]{18}\.jpg!w300"),
        ("/a/archive.tar.jpg", r"/a/[a-z0-9]{18}\.jpg"),
        ("/a/title.4815162342.jpg", r"/a/[a-z0-9]{18}\.jpg"),
        ("/a/title.jpg.webp", r"/a/[a-z0-9]{18}\.jpg\.webp"),
        ("/a/image.4815162342", r"/a/[a-z0-9]{18}"),
        ("/decoys/picture", r"/decoys/[a-z0-9]{18}"),
        ("/", r"/[a-z0-9]{18}"),
        ("/a/", r"/a/[a-z0-9]{18}"),
        ("/.png", r"/[a-z0-9]{18}\.png"),
    ],
)
def test_first_control_has_a_name_of_the_same_shape_in_the_same_folder(path, pattern):
    control, *_ = control_urls(f"{ORIGIN}{path}?x=1", RANDOM)

    assert urlsplit(control)[:2] == urlsplit(ORIGIN)[:2]
    assert urlsplit(control).query == "x=1"
    assert re.fullmatch(pattern, urlsplit(control).path)


@pytest.mark.parametrize(
    ("link", "pattern"),
    [
        ("/upload/20200628/1a2b.png", r"/upload/\d{18}/[0-9a-f]{18}\.png"),
        ("/photo/ab12/title.jpg?v=2", r"/photo/[0-9a-f]{18}/[a-z0-9]{18}\.jpg\?v=\d{18}"),
        ("/?id=3", r"/[a-z0-9]{18}\?id=\d{18}"),
        ("/a.jpg?pic=x3-y&size=big", r"/[0-9a-f]{18}\.jpg\?pic=[a-z0-9]{18}&size=big"),
        ("/a.jpg?x-oss-process=image/resize,w_600", None),
        ("/logos/a.jpg?size=big", None),
    ],
)
def test_second_control_replaces_whatever_else_may_name_the_image(link, pattern):
    _, *far = control_urls(f"{ORIGIN}{link}", RANDOM)

    assert bool(far) is bool(pattern)
    assert all(re.fullmatch(pattern, control.removeprefix(ORIGIN)) for control in far)


def test_second_control_replaces_a_folder_that_may_name_the_image():
    near, far = control_urls("https://mmbiz.qpic.cn/mmbiz_png/Qd3dF0mzyRic7iaG8kPw5eXu/640?wx_fmt=png", RANDOM)

    assert urlsplit(near).path.startswith("/mmbiz_png/Qd3dF0mzyRic7iaG8kPw5eXu/")
    assert urlsplit(far).path.startswith("/mmbiz_png/")
    assert "Qd3dF0mzyRic7iaG8kPw5eXu" not in far
    assert "/640" not in near + far


@given(st.lists(st.text("ab1.%é-_", max_size=12), max_size=5), st.integers())
def test_no_control_url_is_the_link_itself(segments, seed):
    url = f"{ORIGIN}/{'/'.join(segments)}"
    controls = control_urls(url, Random(seed))

    assert url not in controls
    assert len(set(controls)) == len(controls)
    assert {urlsplit(control).netloc for control in controls} == {"oss.adquan.com"}
