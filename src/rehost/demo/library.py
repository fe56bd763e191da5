"""The catalogue of the demonstration: a table ad_cases in SQLite, with the columns that the first operator has."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from rehost.demo.cases import Case

_TABLE = """
CREATE TABLE ad_cases (
    id INTEGER PRIMARY KEY,
    case_id INTEGER UNIQUE NOT NULL CHECK (case_id > 0),
    source_url TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT,
    author TEXT,
    publish_time TEXT,
    main_image TEXT,
    images TEXT DEFAULT '[]',
    video_url TEXT,
    brand_name TEXT,
    brand_industry TEXT,
    activity_type TEXT,
    location TEXT,
    tags TEXT DEFAULT '[]',
    score INTEGER,
    score_decimal TEXT,
    favourite INTEGER DEFAULT 0,
    company_name TEXT,
    company_logo TEXT,
    agency_name TEXT,
    created_at TEXT DEFAULT CURRENT_TIMESTAMP,
    updated_at TEXT DEFAULT CURRENT_TIMESTAMP,
    main_image_local TEXT
)
"""
_COLUMNS = (
    "case_id", "source_url", "title", "description", "publish_time", "main_image", "brand_name", "brand_industry",
    "activity_type", "location", "tags", "score", "score_decimal",
)  # fmt: skip


def make(file: Path, cases: Sequence[Case]) -> None:
    """Make the database with these cases; it must not be there."""
    marks = ", ".join("?" * len(_COLUMNS))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(_TABLE)
        database.executemany(
            f"INSERT INTO ad_cases ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - names from above
            map(_row, cases),
        )


def local_urls(file: Path) -> dict[int, str | None]:
    """Return the local URL of every case that has a link."""
    with closing(sqlite3.connect(file)) as database:
        found: Iterable[tuple[int, str | None]] = database.execute(
            "SELECT case_id, main_image_local FROM ad_cases WHERE main_image IS NOT NULL"
        )
        return dict(found)


def _row(case: Case) -> tuple[str | int | None, ...]:
    return (
        case.case_id,
        case.page,
        f"{case.title.chinese} {case.title.english}",
        f"{case.brand.name.english}: {case.title.english}. {case.brand.name.chinese}《{case.title.chinese}》",
        case.published.isoformat(),
        case.link,
        f"{case.brand.name.chinese} {case.brand.name.english}",
        case.brand.industry.chinese,
        case.kind.chinese,
        case.city.chinese,
        json.dumps([case.brand.industry.chinese, case.kind.chinese], ensure_ascii=False),
        case.score,
        f"{case.score / 10:.1f}",
    )
