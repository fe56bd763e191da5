import io
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from rehost.cli.main import VERBS, find_command, main
from rehost.cli.output.tables import Style, width
from rehost.errors import OperatorError


def rehost(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "rehost", *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_help_lists_every_verb_and_the_exit_statuses(capsys):
    status = main(["--help"])

    text = capsys.readouterr().out
    assert status == 0
    assert all(f"  {verb} " in text for verb in VERBS)
    assert all(word in text for word in ("Exit status", "130", "143"))


def test_help_imports_only_click():
    script = (
        "import sys; from rehost.cli.main import main; main(['--help']);"
        "heavy = {'sqlalchemy', 'brotli', 'PIL', 'tqdm', 'asyncio', 'rehost.settings'} & set(sys.modules);"
        "sys.exit(sorted(heavy).__repr__() if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_examples_and_exit_statuses(verb, capsys):
    status = main([verb, "--help"])

    text = capsys.readouterr().out
    assert status == 0
    assert "Examples:" in text
    assert "Exit status:" in text
    assert f"rehost {verb}" in text


def test_help_uses_the_name_of_a_program_that_is_one_verb(capsys):
    status = main(["run", "-h"], called="python scripts/download_all_images.py")

    text = capsys.readouterr().out
    assert status == 0
    assert "Usage: python scripts/download_all_images.py [OPTIONS]" in text
    assert "python scripts/download_all_images.py --retry all" in text
    assert "rehost run" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_repeats_their_short_help(verb):
    assert VERBS[verb] == find_command(verb).get_short_help_str(limit=200)


@pytest.mark.parametrize("verb", ["run", "status", "plan", "origins"])
def test_reporting_verbs_can_print_json(verb, capsys):
    main([verb, "--help"])

    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["flee"],
        ["run", "--nonsense"],
        ["run", "--retry", "boredom"],
        ["run", "--workers", "0"],
        ["run", "--concurrency", "x"],
        ["undo", "nope"],
        ["undo", "0"],
    ],
)
def test_wrong_usage_is_status_2_with_a_message(arguments, capsys):
    status = main(arguments)

    text = capsys.readouterr().err
    assert status == 2
    assert text
    assert "Traceback" not in text


@pytest.mark.parametrize("number", ["nope", "0", "1.5"])
def test_a_run_that_is_no_number_is_named(number, capsys):
    main(["undo", number])

    assert f"{number!r} is not a run number." in capsys.readouterr().err


def test_an_unknown_source_is_named_and_the_others_are_listed(tmp_path):
    done = rehost("plan", "--base", str(tmp_path), "--source", "nope", env={"DATABASE_URL": "sqlite:///none.db"})

    assert done.returncode == 2
    more = f"{tmp_path}/rehost.toml can define more."
    assert done.stderr == f"rehost: There is no source named nope. Sources: cases; {more}\n"


def test_an_operator_error_is_status_3_with_a_message(tmp_path):
    done = rehost("run", "--base", str(tmp_path), env={"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"})

    assert done.returncode == 3
    assert done.stderr.startswith("rehost: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_causes_no_error_message():
    command = [sys.executable, "-m", "rehost", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        complaint = process.stderr.read()

    assert complaint == ""


@pytest.mark.parametrize(
    "command", [["status"], ["plan"], ["run"], ["undo", "1"], ["origins"]], ids=lambda each: each[0]
)
def test_a_wrong_path_of_a_database_is_named_and_no_file_is_created(command, tmp_path):
    settings = {**os.environ, "DATABASE_URL": "sqlite:///mistyped.db"}

    done = rehost(*command, "--base", str(tmp_path), env=settings)

    path = tmp_path / "mistyped.db"
    assert (done.returncode, done.stderr) == (3, f"rehost: The file {path} does not exist: check DATABASE_URL.\n")
    assert not path.exists()


def test_what_an_error_quotes_starts_no_line_and_acts_on_no_terminal(monkeypatch, capsys):
    def fail(**_options):
        raise OperatorError("one row\x85forged\u2028forged\x1b[2J\u202e\nthe next")

    monkeypatch.setattr(find_command("status"), "callback", fail)

    assert main(["status"]) == 3

    assert capsys.readouterr().err == "rehost: one row\\x85forged\\u2028forged\\x1b[2J\\u202e\nrehost: the next\n"


def made(folder, statements, toml=None):
    """A SQLite database in the folder, whose settings are those of the environment."""
    with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.executescript(statements)
    if toml is not None:
        (folder / "rehost.toml").write_text(f'DATABASE_URL = "sqlite:///shop.db"\n{toml}')


SOURCE = '[source.p]\ntable = "goods"\nkey = "sku"\nlink = "photo"\nlocal = "{}"\n'


@pytest.mark.parametrize("command", [["run"], ["plan"]], ids=lambda each: each[0])
def test_a_folder_without_a_description_of_the_table_is_named(command, tmp_path, monkeypatch, capsys):
    made(tmp_path, "CREATE TABLE goods (sku TEXT PRIMARY KEY, photo TEXT, copy TEXT)")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///shop.db")

    assert main([*command, "--base", str(tmp_path)]) == 3

    said = capsys.readouterr().err
    assert "has no table ad_cases" in said
    assert (
        f"rehost: The folder {tmp_path} has neither rehost.toml nor .env, so the table is the default (ad_cases)."
        in said
    )
    assert "name their folder with --base" in said


def test_an_unreachable_database_that_nobody_named_is_one_of_the_defaults(tmp_path, monkeypatch, capsys):
    for name in ("DATABASE_URL", "DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("rehost.settings.loader.parts_url", lambda _parts: "postgresql://nobody@127.0.0.1:9/none")

    assert main(["status", "--base", str(tmp_path)]) == 3

    said = capsys.readouterr().err
    assert (
        f"The folder {tmp_path} has neither rehost.toml nor .env, so the database and the table are the default" in said
    )


def test_a_table_that_rehost_toml_names_is_not_called_the_default(tmp_path, capsys):
    made(tmp_path, "", SOURCE.format("copy"))

    assert main(["plan", "--base", str(tmp_path)]) == 3

    said = capsys.readouterr().err
    assert "has no table goods" in said
    assert "default" not in said


@pytest.mark.parametrize("column", ["photo", "sku"])
def test_a_column_that_is_to_be_read_and_written_is_refused(column, tmp_path, capsys):
    made(tmp_path, "CREATE TABLE goods (sku TEXT PRIMARY KEY, photo TEXT, copy TEXT)", SOURCE.format(column))

    assert main(["run", "--base", str(tmp_path)]) == 2

    assert (
        f"local={column} ({tmp_path}/rehost.toml:6) is not valid; expected a column of its own"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("fastapi", "server", ["serve"]),
        ("starlette", "server", ["serve"]),
        ("granian", "server", ["demo"]),
        ("starlette", "server", ["demo"]),
        ("asyncpg", "postgresql", ["status"]),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(package, extra, arguments, tmp_path):
    program = (
        f"import sys; sys.modules[{package!r}] = None; from rehost.cli.main import main; sys.exit(main({arguments!r}))"
    )
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
        env=environment, cwd=tmp_path,
    )  # fmt: skip

    said = f"rehost: {package} is not installed: run pip install '.[{extra}]' in the clone of rehost.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_demonstration_says_that_its_port_is_taken(tmp_path, capsys):
    (tmp_path / "thesis.txt").touch()  # ends it before it starts
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["demo", "--dir", str(tmp_path), "--port", str(port)]) == 2

    said = capsys.readouterr().out
    assert re.search(rf"^Port {port} is taken, so the page will be at port [0-9]+\.$", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["statuss"], "No such command 'statuss'. Did you mean 'status'?"),
        (["run", "--retry", "timedout"], "'timedout' is not a reason (did you mean timed-out?); use all, or one"),
    ],
)  # fmt: skip
def test_the_nearest_of_what_can_be_written_is_suggested(arguments, said, capsys):
    assert main(arguments) == 2

    assert said in capsys.readouterr().err


def test_complaints_fit_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr("rehost.cli.output.tables.Style.of", lambda _stream: Style(is_on=False, columns=80))

    main(["run", "--retry", "nothing"])
    main(["run", "--base", "/", "--concurrency", "nonsense"])

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 8
    assert max(map(len, lines)) <= 80


CHINESE = {"LANG": "zh_CN.UTF-8", "PATH": os.environ["PATH"], "COLUMNS": "80"}
ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}")
CLOSING = "，。；：？！、）》”"


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("REHOST_LANG", "zh_CN")
    monkeypatch.setenv("COLUMNS", "80")


def test_a_chinese_locale_gets_chinese_help_and_a_chinese_error():
    asked, wrong = rehost("--help", env=CHINESE), rehost("--helf", env=CHINESE)

    assert asked.stdout.startswith("用法：rehost [OPTIONS] COMMAND")
    assert re.search(r"\n命令：\n  run +下载所有待处理的图片。\n", asked.stdout)
    assert wrong.returncode == 2
    assert "错误：没有选项 '--helf'。" in wrong.stderr


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_chinese_help_is_chinese_and_fits_80_columns(verb, chinese, capsys):
    main([verb, "--help"] if verb else ["--help"])

    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if width(line) > 80 and "http://" not in line]
    assert not [line for line in lines if line.strip()[:1] in CLOSING and line.strip()]
    assert not [line for line in lines if ENGLISH.search(line)]


def test_english_help_reads_no_catalogue():
    script = (
        "import sys; from rehost.cli.main import main; main(['run', '--help']); from rehost import language as l;"
        "sys.exit(l.catalogue.cache_info().currsize > 1 or type(l.catalogue('en')).__name__ != 'NullTranslations')"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_chinese_that_stdout_cannot_show_is_english(chinese, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="iso-8859-1")
    monkeypatch.setattr(sys, "stdout", stream)

    main(["--help"])

    assert stream.buffer.getvalue().startswith(b"Usage: rehost")
    assert os.environ["REHOST_LANG"] == "zh_CN"


def test_a_chinese_locale_in_gbk_prints_gbk():
    done = subprocess.run(
        [sys.executable, "-m", "rehost", "--help"], capture_output=True, timeout=60, check=True,
        env={**CHINESE, "LANG": "zh_CN.GBK", "PYTHONIOENCODING": "gbk"},
    )  # fmt: skip

    assert done.stdout.decode("gbk").startswith("用法：rehost")


@pytest.fixture
def settings(tmp_path):
    """The environment of a command that finds an empty database."""
    sqlite3.connect(tmp_path / "some.db").execute("CREATE TABLE ad_cases (case_id INTEGER)").connection.close()
    return {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/some.db"}


@pytest.mark.parametrize(
    ("redirections", "cause"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"), ("<&- >&-", "")],
)
def test_a_report_that_cannot_be_written_is_status_3_with_a_sentence(redirections, cause, settings, tmp_path):
    command = f"{sys.executable} -m rehost status --base {tmp_path} {redirections}"

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=settings)

    assert done.returncode == 3
    assert re.fullmatch(f"rehost: The output cannot be written: {cause}.*\n", done.stderr)


def test_a_run_whose_summary_cannot_be_written_has_done_its_work(settings, tmp_path):
    columns = ("title", "main_image", "main_image_local", "source_url")
    with closing(sqlite3.connect(tmp_path / "some.db")) as database:
        database.execute("DROP TABLE ad_cases")
        database.execute(f"CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, {' TEXT, '.join(columns)} TEXT)")
        database.execute("INSERT INTO ad_cases (case_id, main_image) VALUES (1, 'no URL')")
        database.commit()
    command = f"{sys.executable} -m rehost run --base {tmp_path} --min-free-bytes 0 >/dev/full 2>{tmp_path}/said"

    done = subprocess.run(["sh", "-c", command], timeout=60, check=False, env=settings)

    assert done.returncode == 3
    assert "rehost: The output cannot be written: No space left on device." in (tmp_path / "said").read_text()
    with closing(sqlite3.connect(tmp_path / "some.db")) as database:
        assert database.execute("SELECT ended_at IS NOT NULL, failed FROM rehost_runs").fetchall() == [(1, 1)]


def test_no_file_gets_the_number_of_a_standard_stream_that_is_closed(settings, tmp_path):
    command = f"{sys.executable} -m rehost status --base {tmp_path} <&- 2>&-"

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=settings)

    assert done.returncode == 0
    assert "cases: no run has recorded a link" in done.stdout


@pytest.mark.parametrize("ledger", [None, "ledger.db"])
@pytest.mark.parametrize("verb", ["status", "origins"])
def test_a_question_where_rehost_never_ran_makes_no_table_and_no_file(verb, ledger, tmp_path, monkeypatch, capsys):
    made(tmp_path, "CREATE TABLE goods (sku TEXT PRIMARY KEY, photo TEXT, copy TEXT)", SOURCE.format("copy"))
    if ledger is not None:
        monkeypatch.setenv("REHOST_LEDGER_URL", f"sqlite:///{ledger}")
    before = (tmp_path / "shop.db").read_bytes()

    assert main([verb, "--base", str(tmp_path)]) == 0

    assert "No run has" in (said := capsys.readouterr().out) or "no run has" in said
    assert (tmp_path / "shop.db").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rehost.toml", "shop.db"]
