import pytest
from tests.settings.reading import from_toml

from rehost.errors import SettingsError
from rehost.model import Source
from rehost.settings import OriginOverride


def test_a_source_is_parsed(tmp_path):
    settings = from_toml(tmp_path, '[source.goods]\ntable="shop.goods"\nkey="sku"\nlink="photo"\nlocal="photo_local"\n')

    assert settings.sources == (Source("goods", "shop.goods", "sku", "photo", None, "photo_local", "{key}/photo"),)


def test_two_sources_must_not_use_the_same_names_in_the_store(tmp_path):
    section = 'table="t"\nkey="id"\nlink="photo"\nlocal="l"\n'

    with pytest.raises(SettingsError, match="Two sources use path"):
        from_toml(tmp_path, f"[source.a]\n{section}[source.b]\n{section}")


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("table", "the name of the table"),
        ("key", "the name of the column that identifies a row"),
        ("link", "the name of the column with the link"),
        ("local", "the name of the column for the local URL"),
    ],
)
def test_a_missing_key_of_a_source_is_named_with_what_it_means(tmp_path, key, meaning):
    lines = [f'{each}="x"' for each in ("table", "key", "link", "local") if each != key]

    with pytest.raises(SettingsError) as caught:
        from_toml(tmp_path, "\n".join(["[source.a]", *lines]))

    file = tmp_path / "rehost.toml"
    assert str(caught.value) == f'[source."a"] ({file}:1) has no `{key}`: set it to {meaning}.'


@pytest.mark.parametrize(
    "line",
    [
        'cookie = "s3cret"',
        'cookie = { session = "s3cret" }',
        'cookies = "s3cret"',
        'cookies = { "s3cret=1" = "" }',
        'headers = { Authorization = "s3cret\u00e4" }',
        'user_agent = { token = "s3cret" }',
        'pasword = ["s3cret"]',
    ],
)
def test_no_message_shows_a_value_that_may_be_a_secret(tmp_path, line):
    with pytest.raises(SettingsError) as caught:
        from_toml(tmp_path, f'[origin."a.example"]\n{line}\n')

    assert line.split()[0] in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_origin_is_parsed(tmp_path):
    settings = from_toml(
        tmp_path,
        """
        [origin."*.Example.com"]
        referer = "https://example.com/"
        headers = { "Accept-Language" = "zh" }
        cookies = { a = "b" }
        min_delay = 0.5
        daily_budget = 100
        """,
    )

    assert settings.origins == (
        OriginOverride(
            "*.example.com",
            referer="https://example.com/",
            headers=(("Accept-Language", "zh"),),
            cookies=(("a", "b"),),
            min_delay_seconds=0.5,
            daily_budget=100,
        ),
    )


@pytest.mark.parametrize(
    "line",
    [
        'refferer = "auto"',
        'headers = "x"',
        'headers = { "bad name" = "x" }',
        'headers = { a = "x\\r\\nb: y" }',
        "min_delay = -1",
        "referer = [{}]",
    ],
)
def test_an_invalid_line_of_an_origin_is_named(tmp_path, line):
    with pytest.raises(SettingsError, match=rf'\[origin."x.com"\] {line.split()[0]}=.*rehost.toml:2'):
        from_toml(tmp_path, f'[origin."x.com"]\n{line}\n')


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('lnk = "x"', "(did you mean link?)"),
        ('DATABASE_URL = "x"', "settings such as IMAGE_STORAGE_DIR stand above the first section"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_or_its_place(tmp_path, line, said):
    with pytest.raises(SettingsError) as raised:
        from_toml(tmp_path, f'[source.goods]\ntable="t"\nkey="k"\nlink="l"\nlocal="o"\n{line}\n')

    assert said in str(raised.value)
    assert "rehost.toml:6)" in str(raised.value)
