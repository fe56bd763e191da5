"""The case API over real HTTP against a real PostgreSQL, as the front end uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.backend.conftest import BACKEND, Api, serving
from tests.pictures import picture
from tests.postgres import Postgres

from app.faults import CHINESE
from rehost.model import Format

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nowhere"  # nothing listens on port 1

CASES = """
INSERT INTO ad_cases (case_id, title, description, source_url, main_image, main_image_local, images, brand_name,
    brand_industry, activity_type, location, tags, score, score_decimal, favourite, publish_time) VALUES
(1, 'Coffee at dawn', 'A film', 'https://a.example/1', 'https://img.example/1.png', '/static/images/1/main_image.png',
    '["https://img.example/1a.png", "https://img.example/1b.png"]', 'Bean', 'Food', 'Film', '上海', '["春", "film"]',
    8, '8.1', 5, '2020-01-01'),
(2, 'coffee 100% pure', NULL, '', 'https://img.example/2.png', NULL, '[]', 'Bean', 'Food', 'Poster', '北京', '["film"]',
    9, '9.5', 1, '2021-06-30'),
(3, '咖啡_广告', 'COFFEE in the text', '', NULL, NULL, '[]', 'Cup', 'Drinks', 'Film', '上海', '["春", "film", "夏"]',
    NULL, NULL, 0, '2019-05-05'),
(4, 'Tea', 'hot', '', 'https://img.example/4.png', '', '{}', 'Coffee & Co', 'Drinks', NULL, NULL, NULL,
    7, '7', 9, NULL),
(5, 'Back\\slash', NULL, '', 'https://img.example/5.png', '/static/images/5/main_image.jpg', NULL, NULL, '', 'Film',
    '广州', '"film"', 1, '1', 3, '2022-12-31')
"""


@pytest.fixture(scope="module")
def database(postgres: Postgres, ready_database: str) -> Iterator[str]:
    name = postgres.create_database(template=ready_database)
    postgres.run(CASES, name)
    yield name
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def api(postgres: Postgres, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    images = tmp_path_factory.mktemp("images")
    with serving({"DATABASE_URL": postgres.url(database), "IMAGE_STORAGE_DIR": str(images)}) as running:
        yield running


def test_case_has_every_field_the_front_end_reads(api: Api) -> None:
    reply = api.get("/api/v1/cases/1")

    assert reply.data == {
        "case_id": 1,
        "title": "Coffee at dawn",
        "description": "A film",
        "source_url": "https://a.example/1",
        "main_image": "/static/images/1/main_image.png",
        "images": ["https://img.example/1a.png", "https://img.example/1b.png"],
        "video_url": None,
        "brand_name": "Bean",
        "brand_industry": "Food",
        "activity_type": "Film",
        "location": "上海",
        "tags": ["春", "film"],
        "score": 8,
        "score_decimal": "8.1",
        "favourite": 5,
        "publish_time": "2020-01-01",
        "author": None,
        "company_name": None,
        "company_logo": None,
        "agency_name": None,
    }


@pytest.mark.parametrize(
    ("case_id", "main_image"),
    [
        (1, "/static/images/1/main_image.png"),
        (2, "https://img.example/2.png"),
        (3, None),
        (4, "https://img.example/4.png"),  # an empty text is no local URL
    ],
)
def test_main_image_is_local_once_held_and_the_link_otherwise(api: Api, case_id: int, main_image: str | None) -> None:
    assert api.get(f"/api/v1/cases/{case_id}").data["main_image"] == main_image
    found = {case["case_id"]: case["main_image"] for case in api.search().data["results"]}
    assert found[case_id] == main_image


@pytest.mark.parametrize(("case_id", "tags", "images"), [(4, [], []), (5, [], [])])
def test_json_that_is_no_array_reads_as_an_empty_array(api: Api, case_id: int, tags: list, images: list) -> None:
    case = api.get(f"/api/v1/cases/{case_id}").data

    assert (case["tags"], case["images"]) == (tags, images)


@pytest.mark.parametrize("case_id", ["6", "0", "-1", "2147483648", "9223372036854775808", "9" * 400])
def test_missing_case_is_404_in_the_envelope(api: Api, case_id: str) -> None:
    reply = api.get(f"/api/v1/cases/{case_id}")

    assert reply.status == 404
    assert reply.json["code"] == 404
    assert reply.json["data"] is None
    assert reply.json["errors"][0]["message"]


# What the front end sends when nothing is filled in: every field, empty.
EMPTY_FORM = (
    "query=&search_type=keyword&sort_by=relevance&sort_order=desc&page=1&page_size=20&brand_name=&brand_industry="
    "&activity_type=&location=&tags=&start_date=&end_date=&min_score="
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {1, 2, 3, 4, 5}),
        (EMPTY_FORM, {1, 2, 3, 4, 5}),
        ("query=COFFEE", {1, 2, 3, 4}),  # title, title, description, brand
        ("query=%20tea%20", {4}),
        ("query=" + quote("咖啡"), {3}),
        ("query=" + quote("100%"), {2}),
        ("query=" + quote("%"), {2}),
        ("query=_", {3}),
        ("query=" + quote("\\"), {5}),
        ("query=nothing", set()),
        ("brand_name=Bean", {1, 2}),
        ("brand_name=Bean&brand_name=Cup", {1, 2, 3}),
        ("brand_name[]=Bean&brand_name[]=Cup", {1, 2, 3}),
        ("brand_name%5B%5D=Bean&brand_name%5b%5d=Cup", {1, 2, 3}),
        ("brand_industry=Food&activity_type=Film", {1}),
        ("location=" + quote("上海"), {1, 3}),
        ("tags=film", {1, 2, 3}),
        ("tags=film&tags=" + quote("春"), {1, 3}),
        ("tags[]=film&tags[]=" + quote("夏"), {3}),
        ("tags=fil", set()),
        ("start_date=2020-01-01", {1, 2, 5}),
        ("end_date=2020-01-01", {1, 3}),
        ("start_date=2020-01-01&end_date=2021-06-30", {1, 2}),
        ("start_date=2022-01-01&end_date=2020-01-01", set()),
        ("min_score=8", {1, 2}),
        ("min_score=8.5", {2}),
        ("query=coffee&brand_name=Bean&tags=film&min_score=9", {2}),
        ("unknown=1", {1, 2, 3, 4, 5}),
    ],
)
def test_search_filters(api: Api, query: str, found: set[int]) -> None:
    reply = api.search(query)

    assert set(reply.results) == found
    assert reply.data["total"] == len(found)


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", [5, 2, 1, 3, 4]),  # newest first, undated last
        ("sort_by=time&sort_order=asc", [3, 1, 2, 5, 4]),
        ("sort_by=score", [2, 1, 4, 5, 3]),  # without a score last, either way
        ("sort_by=score&sort_order=asc", [5, 4, 1, 2, 3]),
        ("sort_by=favourite", [4, 1, 5, 2, 3]),
        ("query=coffee", [2, 1, 4, 3]),  # titles, the newer first; then brand; then description
        ("query=coffee&sort_by=time", [2, 1, 3, 4]),
    ],
)
def test_search_sorts(api: Api, query: str, order: list[int]) -> None:
    assert api.search(query).results == order


def test_pages_cover_every_case_once(api: Api) -> None:
    pages = [api.search(f"page_size=2&page={page}").data for page in (1, 2, 3, 4)]

    assert [case["case_id"] for page in pages for case in page["results"]] == api.search().results
    assert {(page["total"], page["page_size"], page["total_pages"]) for page in pages} == {(5, 2, 3)}
    assert [page["page"] for page in pages] == [1, 2, 3, 4]


def test_a_page_far_past_the_end_is_empty(api: Api) -> None:
    assert api.search("page=2147483647&page_size=100").results == []


def test_semantic_search_is_501(api: Api) -> None:
    reply = api.search("query=x&search_type=semantic")

    assert (reply.status, reply.json["code"], reply.json["data"]) == (501, 501, None)
    assert reply.json["message"] == "Semantic search is not implemented here: use keyword"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"/api/v1/cases/search?query={quote('咖啡')}&search_type=semantic", "此处未实现语义搜索：请使用 keyword"),
        (f"/api/v1/cases/99?x={quote('咖啡')}", "没有案例 99"),
        (f"/api/v1/cases/search?page=0&query={quote('咖啡')}", "请求无效"),
        (f"/nowhere?x={quote('咖啡')}", "不存在"),
    ],
)
def test_errors_of_a_chinese_request_are_in_chinese(api: Api, path: str, message: str) -> None:
    assert api.get(path).json["message"] == message


def test_every_message_of_an_error_has_a_chinese_one() -> None:
    written = "".join(path.read_text(encoding="utf-8") for path in sorted((BACKEND / "app").rglob("*.py")))

    raised = set(re.findall(r'(?:Unavailable|Refusal|NOT_IMPLEMENTED,|message =) ?\(?"([^"{]+)"', written))
    assert len(raised) >= 7
    assert raised <= set(CHINESE)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=99999999999999999999", "page"),
        ("page_size=101", "page_size"),
        ("sort_by=colour", "sort_by"),
        ("sort_order=up", "sort_order"),
        ("search_type=magic", "search_type"),
        ("start_date=2020-13-01", "start_date"),
        ("end_date=yesterday", "end_date"),
        ("min_score=many", "min_score"),
        ("min_score=nan", "min_score"),
        ("min_score=1e999", "min_score"),
        ("query=%00", "query"),
        ("tags=a&tags=b%00", "tags.1"),
        ("query=" + "x" * 1001, "query"),
    ],
)
def test_bad_input_is_422_and_names_the_field(api: Api, query: str, field: str) -> None:
    reply = api.search(query)

    assert (reply.status, reply.json["code"], reply.json["data"]) == (422, 422, None)
    assert [error["field"] for error in reply.json["errors"]] == [field]
    assert reply.json["errors"][0]["message"]


@pytest.mark.parametrize(
    "query",
    [
        "query=%ff%fe",
        "query=%ed%a0%80",  # a lone surrogate
        "query=" + quote("'; DROP TABLE ad_cases; --"),
        "query=" + quote("\u202e\ufeff🂡"),
        "brand_name=" + quote("' OR '1'='1"),
        "tags=" + quote('"], "x": ["'),
        "min_score=-1e308",
        "start_date=0001-01-01&end_date=9999-12-31",
        "&&&==&=&%&%zz=1",
        "&".join(["brand_name=x"] * 100),
    ],
)
def test_odd_input_causes_no_server_error(api: Api, query: str) -> None:
    assert api.search(query).data["total"] >= 0


def test_filter_options_are_counted_and_the_most_frequent_comes_first(api: Api) -> None:
    assert api.get("/api/v1/cases/filter-options?field=brand_name").data == {
        "field": "brand_name",
        "options": [{"value": "Bean", "count": 2}, {"value": "Coffee & Co", "count": 1}, {"value": "Cup", "count": 1}],
    }


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("field=brand_name&keyword=C&limit=1", ["Coffee & Co"]),
        ("field=brand_name&keyword=UP", ["Cup"]),
        ("field=brand_name&keyword=%25", []),
        ("field=brand_industry&keyword=", ["Drinks", "Food"]),  # an empty industry is none
        ("field=activity_type", ["Film", "Poster"]),
        ("field=location&keyword=" + quote("海"), ["上海"]),
    ],
)
def test_filter_options_are_narrowed(api: Api, query: str, values: list[str]) -> None:
    options = api.get(f"/api/v1/cases/filter-options?{query}").data["options"]

    assert [option["value"] for option in options] == values


@pytest.mark.parametrize("query", ["", "field=title", "field=brand_name&limit=0", "field=brand_name&limit=1001"])
def test_filter_options_of_an_unknown_filter_are_422(api: Api, query: str) -> None:
    assert api.get(f"/api/v1/cases/filter-options?{query}").status == 422


def test_stats_count_the_library(api: Api) -> None:
    assert api.get("/api/v1/cases/stats").data == {
        "total_cases": 5,
        "industries": [
            {"name": "Drinks", "count": 2, "image": "https://img.example/4.png"},
            {"name": "Food", "count": 2, "image": "/static/images/1/main_image.png"},
        ],
        "tags": [
            {"name": "film", "count": 3, "image": "/static/images/1/main_image.png"},
            {"name": "春", "count": 2, "image": "/static/images/1/main_image.png"},
            {"name": "夏", "count": 1},
        ],
        "latest_case_date": "2022-12-31",
        "oldest_case_date": "2019-05-05",
    }


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/api/v1/cases", "GET", 404),
        ("/api/v1/cases/search", "POST", 405),
        ("/api/v1/cases/1", "DELETE", 405),
        ("/api/v1/cases/one", "GET", 422),
    ],
)
def test_every_error_has_the_envelope(api: Api, path: str, method: str, status: int) -> None:
    reply = api.get(path, method)

    assert reply.status == status
    assert reply.json["code"] == status
    assert reply.json["data"] is None
    assert reply.json["message"]
    assert reply.json["errors"]


def test_root_and_health_answer(api: Api) -> None:
    assert api.get("/").data["name"] == "rehost backend"
    assert api.get("/health").data == {"status": "ok", "database": "reachable"}


def test_copy_is_served_and_a_missing_one_is_404(postgres: Postgres, cases_database: str, tmp_path: Path) -> None:
    bytes_held = picture(1, Format.PNG)
    (tmp_path / "297041").mkdir()
    (tmp_path / "297041/main_image.png").write_bytes(bytes_held)

    with serving({"DATABASE_URL": postgres.url(cases_database), "IMAGE_STORAGE_DIR": str(tmp_path)}) as api:
        held = api.get("/static/images/297041/main_image.png")
        missing = api.get("/static/images/297042/main_image.png")

    assert (held.status, held.body, held.headers["content-type"]) == (200, bytes_held, "image/png")
    assert missing.status == 404


def test_parameters_of_the_database_url_are_obeyed(postgres: Postgres, cases_database: str) -> None:
    with serving({"DATABASE_URL": f"{postgres.url(cases_database)}?sslmode=disable&connect_timeout=7"}) as api:
        assert api.get("/health").status == 200


def test_backend_starts_without_its_database_and_answers_503() -> None:
    with serving({"DATABASE_URL": UNREACHABLE}) as api:
        health = api.get("/health")
        search = api.search()

        assert (health.status, health.json["code"], health.json["data"]) == (503, 503, None)
        assert "DB_HOST" in health.json["message"]
        assert search.status == 503
        assert api.get("/").status == 200


def test_wrong_password_is_reported(postgres: Postgres, cases_database: str) -> None:
    url = postgres.url(cases_database).replace("postgres@", "guarded:wrong@")

    with serving({"DATABASE_URL": url}) as api:
        reply = api.get("/health")

    assert reply.status == 503
    assert "DB_PASSWORD" in reply.json["message"]


def test_missing_table_is_reported(postgres: Postgres, postgres_database: str) -> None:
    with serving({"DATABASE_URL": postgres.url(postgres_database)}) as api:
        reply = api.search()

    assert reply.status == 503
    assert "database/init.sql" in reply.json["message"]


def test_table_gives_links_before_the_migration_and_local_urls_after_it(
    postgres: Postgres, cases_database: str
) -> None:
    postgres.run("ALTER TABLE ad_cases DROP COLUMN main_image_local", cases_database)
    postgres.run(
        "INSERT INTO ad_cases (case_id, title, source_url, main_image) VALUES (1, 't', '', 'http://o.example/1')",
        cases_database,
    )

    with serving({"DATABASE_URL": postgres.url(cases_database)}) as api:
        before = api.get("/api/v1/cases/1").data["main_image"]
        postgres.run("ALTER TABLE ad_cases ADD COLUMN main_image_local TEXT DEFAULT '/static/x.png'", cases_database)
        after = api.get("/api/v1/cases/1").data["main_image"]

    assert (before, after) == ("http://o.example/1", "/static/x.png")


def test_table_with_other_columns_and_types_is_read(postgres: Postgres, postgres_database: str) -> None:
    postgres.run("CREATE TYPE vectorlike AS (a float4[])", postgres_database)
    postgres.run(
        "CREATE TABLE ad_cases (case_id INTEGER UNIQUE NOT NULL, title VARCHAR(500), main_image TEXT, "
        "publish_time TIMESTAMPTZ, tags JSON, score NUMERIC, title_vector vectorlike);"
        "INSERT INTO ad_cases VALUES (1, 't', 'http://o.example/1', '2020-01-01 12:00+00', '[\"a\"]', 7, ROW('{1}'))",
        postgres_database,
    )

    with serving({"DATABASE_URL": postgres.url(postgres_database)}) as api:
        case = api.get("/api/v1/cases/1").data
        found = api.search("query=t&tags=a&start_date=2020-01-01&end_date=2020-01-01&min_score=7&sort_by=favourite")
        missing = api.search("brand_name=x")
        stats = api.get("/api/v1/cases/stats")

    assert (case["main_image"], case["tags"], case["score"], case["brand_name"]) == (
        "http://o.example/1",
        ["a"],
        7,
        None,
    )
    assert found.results == [1]
    assert missing.results == []
    assert stats.data["total_cases"] == 1
