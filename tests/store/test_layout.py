import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.errors import Permanent, SettingsError
from rehost.model import Format, Link, Reason
from rehost.store.layout import LONGEST_SEGMENT, Layout, is_key

DIGEST = "0123456789abcdef" * 4
TEMPLATES = ["{key}/main_image", "{key}", "{key}/{position}", "{position}-{key}", "brand.logos/{key}_{position}/file"]

row_keys = st.text(max_size=120) | st.text(alphabet="./=%\\\0 ~aA0-", max_size=400)


def link(row_key, position=0):
    return Link("cases", row_key, position, "https://origin.example/x", None, None)


def test_number_is_used_as_it_is():
    assert Layout().key(link("297041"), Format.PNG, DIGEST) == "297041/main_image.png"


@pytest.mark.parametrize("template", TEMPLATES)
@given(row_key=row_keys, position=st.integers(0, 200), picture=st.sampled_from(Format))
def test_key_is_parsed_to_what_it_was_made_of(template, row_key, position, picture):
    layout = Layout(template)
    position = position if "{position}" in template else 0

    key = layout.key(link(row_key, position), picture, DIGEST)

    assert layout.parse(key) == (row_key, position, picture)


@given(row_key=row_keys)
def test_key_is_a_safe_path_of_short_names(row_key):
    key = Layout().key(link(row_key), Format.JPEG, DIGEST)

    assert is_key(key)
    assert key.isascii()
    assert all(len(name) <= LONGEST_SEGMENT + 1 for name in key.split("/"))


@given(row_key=row_keys)
def test_key_is_found_from_its_url(row_key):
    layout = Layout(url_prefix="/static/images/")
    key = layout.key(link(row_key), Format.WEBP, DIGEST)

    url = layout.url(key)

    assert "%" not in url  # no proxy can decode it twice
    assert layout.key_of_url(url) == layout.key_of_url(f"{url}?v=0123456789abcdef") == key


@given(first=row_keys, second=row_keys)
def test_two_row_keys_never_share_a_key(first, second):
    layout = Layout("{key}-{position}")

    same = layout.key(link(first, 1), Format.GIF, DIGEST) == layout.key(link(second, 1), Format.GIF, DIGEST)

    assert same == (first == second)


@pytest.mark.parametrize(
    ("key", "picture"),
    [
        ("297041/main_image.jpeg", Format.JPEG),
        ("297041/main_image.jpe", Format.JPEG),
        ("297041/main_image.JPG", Format.JPEG),
        ("297041/main_image.tif", Format.TIFF),
        ("297041/main_image.heif", Format.HEIC),
        ("297041/main_image.webp", Format.WEBP),
    ],
)
def test_other_extensions_of_a_format_are_accepted(key, picture):
    assert Layout().parse(key) == ("297041", 0, picture)


@pytest.mark.parametrize(
    "key",
    [
        "297041/main_image",
        "297041/main_image.html",
        "297041/main_image.png.part",
        "297041/other.png",
        "297041/x/main_image.png",
        "main_image.png",
        "/main_image.png",
        "../main_image.png",
        "=41/main_image.png",  # A needs no escape: otherwise two names would mean one row
        "=2f/main_image.png",
        "=FF/main_image.png",
        "=/main_image.png",
        "a=/b/main_image.png",  # split without need
        ".hidden/main_image.png",
        "案例/main_image.png",
    ],
)
def test_text_that_is_not_a_key_is_not_parsed(key):
    assert Layout().parse(key) is None


@pytest.mark.parametrize(
    "url",
    [
        "/static/images",
        "/static/images/",
        "/static/imagesx/1/main_image.png",
        "https://elsewhere.example/static/images/1/main_image.png",
        "/static/images/../secret.png",
        "/static/images/%2e%2e/secret.png",
        "/static/images/1/%2Fetc/passwd",
        "/static/images//1/main_image.png",
        "/static/images/.rehost/lock",
        "/static/images/1%5C..%5Cx.png",
        "/static/images/1%00.png",
        "",
    ],
)
def test_url_that_is_not_ours_has_no_key(url):
    assert Layout().key_of_url(url) is None


@pytest.mark.parametrize("prefix", ["", "/", "https://cdn.example/pictures"])
def test_key_is_found_from_its_url_with_any_prefix(prefix):
    layout = Layout(url_prefix=prefix)

    assert layout.key_of_url(layout.url("1/main_image.png")) == "1/main_image.png"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "main_image",
        "{key}/{key}",
        "{key}{position}",
        "{key}1{position}",
        "{position}/{position}/{key}",
        "/{key}",
        "{key}/",
        "a//{key}",
        "../{key}",
        ".{key}",
        "a/.{key}",
        "{key}/{name}",
        "{key}/=",
        "{key}\\x",
        "{key}/\0",
        "图/{key}",
    ],
)
def test_template_with_colliding_or_unsafe_keys_is_refused(template):
    with pytest.raises(SettingsError, match="path template"):
        Layout(template)


def test_position_is_refused_if_the_template_has_none():
    with pytest.raises(ValueError, match="position"):
        Layout().key(link("1", position=2), Format.PNG, DIGEST)


@pytest.mark.parametrize(
    ("layout", "row_key", "evidence"),
    [
        (Layout(), "x" * 5000, "its file's name would have 5,064 bytes, not 2,000"),
        (Layout(), "广" * 250, "its file's name would have 2,288 bytes, not 2,000"),
        (Layout(longest=(255, 50)), "x" * 45, "its file's name would have 61 bytes, not 50"),
        (Layout("{key}" + "t" * 60), "x" * 200, "a name in its file's path would have 265 bytes, not 255"),
        (Layout("t" * 60 + "{key}/i"), "x" * 201, "a name in its file's path would have 261 bytes, not 255"),
        (Layout("{key}", longest=(143, 2000)), "x" * 139, "a name in its file's path would have 144 bytes, not 143"),
    ],
)
def test_row_key_too_long_for_a_path_is_refused_before_its_format_is_known(layout, row_key, evidence):
    with pytest.raises(Permanent) as caught:
        layout.check(link(row_key))

    assert (caught.value.reason, caught.value.evidence) == (Reason.KEY_TOO_LONG, evidence)


@pytest.mark.parametrize("layout", [Layout(), Layout("{key}"), Layout("a-{key}-b"), Layout(longest=(255, 300))])
def test_a_row_key_that_is_not_refused_has_a_key_of_every_format(layout):
    for length in range(1, 2000):
        try:
            layout.check(link("x" * length))
        except Permanent:
            break
        keys = [layout.key(link("x" * length), format_, DIGEST) for format_ in Format]
        assert all(len(key) <= layout.longest[1] for key in keys)
        assert all(len(name) <= layout.longest[0] for key in keys for name in key.split("/"))


def test_versioned_url_carries_the_first_digits_of_the_digest():
    layout = Layout(url_prefix="https://cdn.example/pictures/", is_versioned=True)

    url = layout.url("1/main_image.png", "0123456789abcdef" * 4)

    assert url == "https://cdn.example/pictures/1/main_image.png?v=0123456789abcdef"
    assert layout.key_of_url(url) == "1/main_image.png"
    assert layout.key_of_url("/pictures/1/main_image.png") is None


def test_a_key_with_a_digest_is_no_key_without_one_and_the_other_way_round():
    with_digest = Layout(has_digest=True)
    key = with_digest.key(link("297041"), Format.PNG, DIGEST)

    assert key == "297041/main_image.0123456789abcdef.png"
    assert with_digest.parse(key) == ("297041", 0, Format.PNG)
    assert Layout().parse(key) is None
    assert with_digest.parse("297041/main_image.png") is None
    assert Layout(has_digest=True, is_versioned=True).url(key, DIGEST) == f"/static/images/{key}"
