import os
import subprocess
import sys

import pytest

from rehost.cli.main import VERBS, find_command, main
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
    assert done.stderr == "rehost: There is no source named nope. Sources: cases; rehost.toml can define more.\n"


def test_one_of_several_sources_must_be_chosen(tmp_path):
    keys = 'table="t"\nkey="id"\nlink="photo"\nlocal="l"\n'
    (tmp_path / "rehost.toml").write_text(f'[source.a]\n{keys}path="a/{{key}}"\n[source.b]\n{keys}', encoding="utf-8")

    done = rehost("plan", "--base", str(tmp_path), env={"DATABASE_URL": "sqlite:///none.db"})

    assert done.returncode == 2
    assert done.stderr == "rehost: There are several sources: choose one with --source (a, b).\n"


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
