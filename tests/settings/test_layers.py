import pytest
from tests.settings.reading import error_of, from_dotenv, from_toml


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("IMAGE_STORAGE_DIR=pictures", "pictures"),
        ("IMAGE_STORAGE_DIR=data/pictures          # 图片存储目录", "data/pictures"),
        ("  export IMAGE_STORAGE_DIR = pictures", "pictures"),
        ("IMAGE_STORAGE_DIR='my pictures # 1'  # quoted", "my pictures # 1"),
        ('IMAGE_STORAGE_DIR="my \\"pictures\\""', 'my "pictures"'),
        ("IMAGE_STORAGE_DIR=a#b", "a#b"),
        ("IMAGE_STORAGE_DIR=   # nothing", "data/images"),
        ("IMAGE_STORAGE_DIR=", "data/images"),
        ("# IMAGE_STORAGE_DIR=no", "data/images"),
        ("IMAGE_STORAGE_DIR=a\nIMAGE_STORAGE_DIR=b", "b"),
        ("NOTE='a\nIMAGE_STORAGE_DIR=inside\n'\nIMAGE_STORAGE_DIR=outside", "outside"),
    ],
)
def test_dotenv_line_is_parsed(tmp_path, line, folder):
    assert tmp_path / folder == from_dotenv(tmp_path, line).storage_dir


@pytest.mark.parametrize(
    "encoded",
    [
        "\ufeffIMAGE_DOWNLOAD_RETRY=7\r\nDB_NAME=x\r\n".encode(),
        "\ufeffIMAGE_DOWNLOAD_RETRY=7\r\n".encode("utf-16-le"),
        "IMAGE_DOWNLOAD_RETRY=7  # 下载重试次数\n".encode("gbk"),
    ],
    ids=["BOM and CRLF", "UTF-16", "GBK in a comment"],
)
def test_dotenv_files_of_other_editors_are_read(tmp_path, encoded):
    assert from_dotenv(tmp_path, encoded).retry == 7


def test_toml_values_of_every_type_are_accepted(tmp_path):
    settings = from_toml(
        tmp_path, 'IMAGE_ROBOTS=true\nIMAGE_ALLOW_NETWORKS=["127.0.0.1", "::1"]\nIMAGE_DOWNLOAD_TIMEOUT=1.5'
    )

    assert settings.robots is True
    assert len(settings.allow_networks) == 2
    assert settings.timeout_seconds == 1.5


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / ".env").mkdir()

    assert f"{tmp_path}/.env cannot be read (" in error_of(tmp_path)


def test_a_toml_file_with_a_syntax_error_is_named(tmp_path):
    (tmp_path / "rehost.toml").write_text("a = = b")

    assert f"{tmp_path}/rehost.toml is not valid TOML" in error_of(tmp_path)


def test_the_place_of_an_invalid_value_in_a_file_is_its_line(tmp_path):
    (tmp_path / ".env").write_text("# one\nIMAGE_DOWNLOAD_RETRY=x\n")
    (tmp_path / "rehost.toml").write_text('[source.a]\ntable="t"\n\n[origin."x.com"]\nreferer = "nonsense"\n')

    message = error_of(tmp_path)

    assert f"({tmp_path}/.env:2)" in message
    assert f"({tmp_path}/rehost.toml:5)" in message
    assert f'[source."a"] ({tmp_path}/rehost.toml:1) has no `key`' in message  # all errors are reported at once


def test_the_archive_has_a_section_of_its_own(tmp_path):
    archive = "https://web.archive.example/{date}im_/{url}"

    assert archive == from_toml(tmp_path, f'[rescue]\narchive = "{archive}"').rescue_archive


@pytest.mark.parametrize("hook", ["/usr/local/bin/purge --host 'a b'", "https://cdn.example/purge?it's"])
def test_the_hook_has_a_section_of_its_own(tmp_path, hook):
    assert hook == from_toml(tmp_path, f'[hooks]\nafter_forget = "{hook}"').after_forget


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[rescue]\narchives = "https://a.example/{url}"', "the section [rescue] can only have the keys archive."),
        ("rescue = 1", "the section [rescue] can only have the keys archive."),
        ("[rescue]\narchive = { a = 1 }", "rescue.archive must be a text."),
        ('[rescue]\narchive = "ftp://a.example/{url}"', "rehost.toml:2) is not valid; expected an http(s) URL with"),
        ('[hooks]\nafter_forget = "purge \'cdn"', "expected an http(s) URL, or a command with its arguments"),
        ('[hooks]\nafter_run = "purge"', "the section [hooks] can only have the keys after_forget."),
        ('[rescue]\narchive = "https://a.example/"', "expected an http(s) URL with {url} and optionally {date}"),
        ('[rescue]\narchive = "https://a.example/{url}{day}"', "expected an http(s) URL with {url} and optionally"),
    ],
)
def test_a_section_with_what_it_cannot_have_is_an_error(tmp_path, text, said):
    (tmp_path / "rehost.toml").write_text(text)

    assert said in error_of(tmp_path)
