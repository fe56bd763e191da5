from ipaddress import ip_network

import pytest
from tests.settings.reading import error_of

from rehost.model import Bucket
from rehost.settings import ConnectTo, load, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("64MB", 64 * 10**6),
    ],
)
def test_sizes_are_parsed(tmp_path, text, size):
    assert size == load(tmp_path, {"IMAGE_MAX_BYTES": text}, {}).max_bytes


@pytest.mark.parametrize(("size", "text"), [(64 << 20, "64MiB"), (1 << 30, "1GiB"), (1000, "1000"), (0, "0")])
def test_size_text_can_be_parsed_again(size, text):
    assert text == size_text(size)


@pytest.mark.parametrize("token", ["口令", "tökén", "a\nb"])
def test_a_token_that_no_header_can_contain_is_rejected(tmp_path, token):
    assert "REHOST_TOKEN=(not shown) (the environment) is not valid" in error_of(tmp_path, REHOST_TOKEN=token)


@pytest.mark.parametrize(
    "text",
    [
        "gs://a/b",
        "file:///srv/images",
        "https:/a.example/x",
        "s3:/pics",
        "s3://",
        "s3://p",
        "s3://a b",
        "s3://pics/../x",
    ],
)
def test_a_url_is_no_folder_to_store_in(tmp_path, text):
    sentence = error_of(tmp_path, IMAGE_STORAGE_DIR=text)

    assert f"IMAGE_STORAGE_DIR={text} (the environment) is not valid; expected the path of a folder" in sentence
    assert "s3://BUCKET/PREFIX" in sentence


@pytest.mark.parametrize(
    ("text", "bucket"),
    [
        ("s3://pics", Bucket("pics")),
        ("S3://pics/", Bucket("pics")),
        ("s3://pics/ad/case.images/", Bucket("pics", "ad/case.images")),
    ],
)
def test_a_bucket_may_have_a_prefix(tmp_path, text, bucket):
    assert load(tmp_path, {"IMAGE_STORAGE_DIR": text}, {}).storage_dir == bucket


def test_the_variables_for_s3_come_from_the_environment_and_from_dotenv(tmp_path):
    (tmp_path / ".env").write_text("AWS_REGION=eu-west-1\nAWS_ACCESS_KEY_ID=from-file\nAWS_SECRET_ACCESS_KEY=secret\n")

    settings = load(tmp_path, {"AWS_ACCESS_KEY_ID": "from-environment", "HOME": "/root"}, {})

    assert settings.aws == {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "from-environment",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("text", ["a:b/c", "images:2/x", "/srv/s3:/x", "./s3://x"])
def test_a_path_may_have_a_colon(tmp_path, text):
    assert load(tmp_path, {"IMAGE_STORAGE_DIR": text}, {}).storage_dir == tmp_path / text


def test_networks_are_parsed(tmp_path):
    settings = load(tmp_path, {"IMAGE_ALLOW_NETWORKS": "127.0.0.0/8, fd00::/8 10.0.0.1"}, {})

    assert tuple(map(ip_network, ("127.0.0.0/8", "fd00::/8", "10.0.0.1/32"))) == settings.allow_networks


def test_host_names_are_parsed(tmp_path):
    settings = load(tmp_path, {"API_ALLOWED_HOSTS": "Shop.example., www.shop.example *"}, {})

    assert settings.allowed_hosts == ("shop.example", "www.shop.example", "*")


@pytest.mark.parametrize(
    ("text", "prefix", "path"),
    [
        ("/pictures/", "/pictures", "/pictures"),
        ("https://cdn.example/a/b/", "https://cdn.example/a/b", "/a/b"),
        ("http://cdn.example:8080", "http://cdn.example:8080", "/static/images"),
    ],
)
def test_local_urls_may_begin_with_a_path_or_with_the_address_of_another_server(tmp_path, text, prefix, path):
    settings = load(tmp_path, {"IMAGE_STATIC_URL_PREFIX": text}, {})

    assert (settings.static_url_prefix, settings.static_url_path) == (prefix, path)


def test_connect_to_is_parsed(tmp_path):
    text = "*:443:127.0.0.1:8443, Example.com::[::1]:80 [2001:db8::1]:80:other: ::127.0.0.1:"

    settings = load(tmp_path, {"IMAGE_CONNECT_TO": text}, {})

    assert settings.connect_to == (
        ConnectTo("*", 443, "127.0.0.1", 8443),
        ConnectTo("example.com", None, "::1", 80),
        ConnectTo("2001:db8::1", 80, "other", None),
        ConnectTo("*", None, "127.0.0.1", None),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE_DOWNLOAD_CONCURRENCY", "0"),
        ("IMAGE_DOWNLOAD_CONCURRENCY", "ten"),
        ("IMAGE_DOWNLOAD_CONCURRENCY", "1_0"),
        ("IMAGE_DOWNLOAD_TIMEOUT", "nan"),
        ("IMAGE_DOWNLOAD_TIMEOUT", "-1"),
        ("IMAGE_DOWNLOAD_RETRY", "3.5"),
        ("IMAGE_MAX_BYTES", "64 pages"),
        ("IMAGE_ALLOW_NETWORKS", "10.1.2.3/8"),
        ("IMAGE_CONNECT_TO", "a:b:c:d"),
        ("API_ALLOWED_HOSTS", "http://shop.example"),
        ("API_ALLOWED_HOSTS", "shop.example:443"),
        ("IMAGE_CONNECT_TO", "a:1:b:99999"),
        ("IMAGE_CONNECT_TO", "[nonsense]:1:b:2"),
        ("IMAGE_STATIC_URL_PREFIX", "static"),
        ("IMAGE_STATIC_URL_PREFIX", "/"),
        ("IMAGE_STATIC_URL_PREFIX", "/a/../b"),
        ("IMAGE_STATIC_URL_PREFIX", "//cdn.example/a"),
        ("IMAGE_STATIC_URL_PREFIX", "ftp://cdn.example/a"),
        ("IMAGE_STATIC_URL_PREFIX", "https://user@cdn.example/a"),
        ("IMAGE_STATIC_URL_PREFIX", "https://cdn.example/a?b"),
        ("IMAGE_CACHE_CONTROL", "a\nb"),
        ("IMAGE_VERIFY", "hope"),
        ("IMAGE_REFERER", "ftp://x/"),
        ("IMAGE_USER_AGENT", "a\r\nb"),
        ("IMAGE_ROBOTS", "perhaps"),
        ("API_PORT", "65536"),
        ("IMAGE_STORAGE_DIR", "~nosuchuser/x"),
        ("DB_HOST", "h/x"),
        ("DB_HOST", "h:1"),
    ],
)
def test_the_message_about_an_invalid_value_names_its_place_and_what_is_expected(tmp_path, name, value):
    message = error_of(tmp_path, **{name: value})

    assert message.startswith(
        f"{name}={value.encode('unicode_escape').decode()} (the environment) is not valid; expected "
    )
