"""scripts/import_cases.py as a process: every file format, invalid rows, a second import."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.backend.conftest import BACKEND, plain_environment
from tests.postgres import Postgres

CASES = [
    {
        "case_id": "14178",
        "title": "当以前的她邂逅现在的他",
        "source_url": "https://m.adquan.example/creative/detail/14178",
        "publish_time": "2018-12-19",
        "main_image": "https://img.example/a b.png",
        "images": '["https://img.example/1.png", "https://img.example/2.png"]',
    },
    {
        "case_id": "2",
        "title": 'He said "hi",\nthen left',
        "source_url": "",
        "publish_time": "",
        "main_image": "",
        "images": "[]",
    },
]
SHOWN = (
    "SELECT string_agg(concat_ws('|', case_id, title, source_url, publish_time, coalesce(main_image, 'null'), images), "
    "E'\\n' ORDER BY case_id) FROM ad_cases"
)


def as_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_objects(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    return [{**row, "case_id": int(row["case_id"]), "images": json.loads(row["images"])} for row in rows]


FORMS = {
    "csv": as_csv(CASES),
    "csv with a byte order mark": b"\xef\xbb\xbf" + as_csv(CASES),
    "csv.gz": gzip.compress(as_csv(CASES)),
    "json array": json.dumps(as_objects(CASES), indent=2).encode(),
    "json lines": "\n".join(json.dumps(each, ensure_ascii=False) for each in as_objects(CASES)).encode(),
    "json lines.gz": gzip.compress("\n".join(json.dumps(each) for each in as_objects(CASES)).encode()),
}


class Import:
    """Runs the script on bytes against one database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def __call__(self, content: bytes, **settings: str) -> subprocess.CompletedProcess[str]:
        file = self.folder / "cases"
        file.write_bytes(content)
        return self.run(str(file), **settings)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, BACKEND / "scripts/import_cases.py", *arguments],
            cwd=self.folder,
            env=plain_environment(**{"DATABASE_URL": self.url, **settings}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def import_cases(postgres: Postgres, cases_database: str, tmp_path: Path) -> Import:
    return Import(postgres.url(cases_database), tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_every_file_format_gives_the_same_rows(
    import_cases: Import, postgres: Postgres, cases_database: str, form: str
) -> None:
    done = import_cases(FORMS[form])

    assert (done.returncode, done.stdout) == (0, "2 cases added, 0 updated, 0 invalid rows skipped.\n"), done.stderr
    images = '["https://img.example/1.png", "https://img.example/2.png"]'
    first = "14178|当以前的她邂逅现在的他|https://m.adquan.example/creative/detail/14178|2018-12-19"
    assert postgres.run(SHOWN, cases_database).splitlines() == [
        '2|He said "hi",',
        "then left||null|[]",
        f"{first}|https://img.example/a b.png|{images}",
    ]


def test_parameters_of_the_database_url_are_obeyed(import_cases: Import) -> None:
    done = import_cases(FORMS["csv"], DATABASE_URL=f"{import_cases.url}?connect_timeout=7&sslmode=disable")

    assert done.returncode == 0, done.stderr


def test_second_import_updates_rows_and_keeps_the_local_url(
    import_cases: Import, postgres: Postgres, cases_database: str
) -> None:
    import_cases(FORMS["csv"])
    postgres.run(
        "UPDATE ad_cases SET main_image_local = '/static/x.png', brand_name = 'kept', source_url = 'https://page.example'",
        cases_database,
    )

    done = import_cases(b"case_id,title,source_url\n2,New,\n14178,New too,https://other.example\n3,Third,\n")

    assert done.stdout.startswith("1 case added, 2 updated")
    shown = postgres.run(
        "SELECT concat_ws('|', case_id, title, source_url, main_image_local, brand_name) FROM ad_cases ORDER BY 1",
        cases_database,
    )
    assert shown.splitlines() == [
        "14178|New too|https://other.example|/static/x.png|kept",
        "2|New|https://page.example|/static/x.png|kept",
        "3|Third|",
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"0,t,,", "case_id must be from 1 to 2147483647"),
        (b"2147483648,t,,", "case_id must be from 1 to 2147483647"),
        (b"x,t,,", "case_id is not a whole number"),
        (b",t,,", "case_id is missing"),
        (b"5,,,", "title is missing"),
        (b"5," + b"x" * 501 + b",,", "title has 501 characters, at most 500 are allowed"),
        (b"5,\xff,,", "title is not in UTF-8"),
        (b"5,a\x00b,,", "title contains a NUL character"),
        ("5,标题,,".encode("gb18030"), "title is not in UTF-8: save the file in that encoding"),
        (b"5,t,1.5,", "score is not a whole number"),
        (b"5,t,1e999,", "score is not a whole number"),
        (b"5,t,,{}", "tags is not a JSON array"),
        (b"5,t,,[", "tags is not JSON"),
        (b"5,t", "2 fields, but the first line names 4"),
        (b'"5"x,t,,', "not CSV"),
    ],
)
def test_invalid_row_is_reported_and_the_others_are_imported(
    import_cases: Import, postgres: Postgres, cases_database: str, row: bytes, why: str
) -> None:
    done = import_cases(b"case_id,title,score,tags\n1,first,,\n" + row + b'\n9,last,7,"[""a""]"\n')

    assert done.returncode == 1
    assert f"line 3: {why}" in done.stderr
    assert done.stdout == "2 cases added, 0 updated, 1 invalid row skipped.\n"
    assert postgres.run("SELECT string_agg(case_id::text, ' ' ORDER BY case_id) FROM ad_cases", cases_database) == "1 9"


@pytest.mark.parametrize(
    "day", ["2020-06-28", "2020/6/28", "2020.06.28", "2020年6月28日", "2020-06-28T10:00:00+08:00", "2020/6/28 10:00"]
)
def test_dates_are_read_as_spreadsheets_write_them(
    import_cases: Import, postgres: Postgres, cases_database: str, day: str
) -> None:
    done = import_cases(f"case_id, title, publish_time\n1,t,{day}\n".encode())

    assert done.returncode == 0, done.stderr
    assert postgres.run("SELECT publish_time FROM ad_cases", cases_database) == "2020-06-28"


def test_row_that_only_the_table_refuses_is_reported(
    import_cases: Import, postgres: Postgres, cases_database: str
) -> None:
    postgres.run("ALTER TABLE ad_cases ADD CHECK (title <> 'unwanted')", cases_database)

    done = import_cases(b"case_id,title\n1,a\n2,unwanted\n3,c\n")

    assert done.returncode == 1
    assert "line 3: new row" in done.stderr
    assert done.stdout == "2 cases added, 0 updated, 1 invalid row skipped.\n"


def test_later_of_two_rows_with_the_same_case_id_wins(
    import_cases: Import, postgres: Postgres, cases_database: str
) -> None:
    import_cases(b"case_id,title,score\n1,first,5\n1,second,\n")

    assert postgres.run("SELECT title, score FROM ad_cases", cases_database) == "second|"


def test_column_that_the_table_lacks_is_skipped_and_reported(
    import_cases: Import, postgres: Postgres, cases_database: str
) -> None:
    postgres.run("ALTER TABLE ad_cases DROP COLUMN brand_name", cases_database)

    done = import_cases(b"case_id,title,brand_name,colour\n1,t,b,red\n")

    assert done.returncode == 0
    assert "lacks these columns, which were skipped: brand_name" in done.stdout


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(FORMS["csv"] * 100)[:-30], "cut short"),
        (b"", "case_id"),
        (b"name,title\n1,t\n", "case_id"),
        (b"case_id;title\n1;t\n", "case_id but 'case_id;title'"),
        (b'"case_id"x,title\n1,t\n', "The first line is not CSV"),
        (b'case_id,title\n1,t\n2,"t\n3,t\n', "Line 3: a quotation mark is never closed"),
        ("case_id\ttitle\n1\tt\n".encode("utf-16"), "is in UTF-16: save it as UTF-8"),
        (b'[{"case_id": 1, "title": "t"}, {"case_id": 2, oops', "Line 1"),
        (b'[{"case_id": 1, "title": "t"}', "does not end"),
        (b'[{"case_id": 1, "title": "t"} {', "the rest is not read"),
    ],
)
def test_file_that_breaks_off_is_status_3(import_cases: Import, content: bytes, why: str) -> None:
    done = import_cases(content)

    assert done.returncode == 3
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_before_a_fault_are_imported(import_cases: Import, postgres: Postgres, cases_database: str) -> None:
    import_cases(b'[{"case_id": 1, "title": "t"}, {"case_id": 2, oops')

    assert postgres.run("SELECT count(*) FROM ad_cases", cases_database) == "1"


def test_missing_file_and_unreachable_database_are_reported(import_cases: Import) -> None:
    missing = import_cases.run("no-such-file")
    unreachable = import_cases(FORMS["csv"], DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")

    assert (missing.returncode, unreachable.returncode) == (3, 3)
    assert missing.stderr == "no-such-file cannot be read: No such file or directory\n"
    assert unreachable.stderr.startswith("The database server at 127.0.0.1:1 cannot be reached (Connect call failed")
    assert "DB_HOST" in unreachable.stderr
    assert ".env" not in unreachable.stderr


def test_missing_table_is_reported(postgres: Postgres, postgres_database: str, tmp_path: Path) -> None:
    done = Import(postgres.url(postgres_database), tmp_path)(FORMS["csv"])

    assert (done.returncode, done.stderr) == (
        3,
        "The database has no table ad_cases: run database/init.sql first\n",
    )


def test_help_lists_the_file_formats(import_cases: Import) -> None:
    done = import_cases.run("--help")

    assert done.returncode == 0
    assert "JSON Lines" in done.stdout


def test_memory_does_not_grow_with_the_file(import_cases: Import, tmp_path: Path) -> None:
    """100 MB of text pass through a process that never has that much."""
    program = (
        "import sys; sys.argv[0] = 'import_cases.py'; sys.path.insert(0, sys.argv.pop(1));"
        "import checkout; checkout.enter(); import importing.command; status = importing.command.main();"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]); sys.exit(status)"
    )
    file = tmp_path / "large.jsonl.gz"
    with gzip.open(file, "wt", compresslevel=1) as lines:
        for number in range(1, 50_001):
            lines.write(json.dumps({"case_id": number, "title": "t", "description": "x" * 2000}) + "\n")

    done = subprocess.run(
        [sys.executable, "-c", program, BACKEND, file],
        env=plain_environment(DATABASE_URL=import_cases.url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 100 * 1024  # KiB


def test_the_real_catalogue_is_imported_completely(
    import_cases: Import, postgres: Postgres, cases_database: str, shared: Path
) -> None:
    done = import_cases.run(str(shared / "catalogue/adquan_cases.csv.gz"))

    assert done.stdout == "11133 cases added, 0 updated, 0 invalid rows skipped.\n"
    counts = postgres.run(
        "SELECT count(main_image), sum(jsonb_array_length(images)), count(*) FILTER (WHERE source_url = '') "
        "FROM ad_cases",
        cases_database,
    )
    assert counts == "8446|36791|1893"
