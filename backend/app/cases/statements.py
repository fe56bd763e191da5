"""SQL statements and their arguments for each request. Pure; values are always arguments, never part of the SQL.

A column that the table lacks reads as NULL, decided anew at every execution: in the LATERAL subquery a name means the
table's column if it exists, otherwise the column of `absent`. Columns that are not named here, such as vectors of other
programs, are never read. The casts cost nothing on the table that database/init.sql creates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app.cases.model import Facet, OptionsRequest, Search, SortBy, SortOrder

MOST_GROUPS = 1000

_TYPES = {
    "source_url": "text",
    "title": "text",
    "description": "text",
    "author": "text",
    "publish_time": "date",
    "main_image": "text",
    "main_image_local": "text",
    "images": "jsonb",
    "video_url": "text",
    "brand_name": "text",
    "brand_industry": "text",
    "activity_type": "text",
    "location": "text",
    "tags": "jsonb",
    "score": "bigint",
    "score_decimal": "text",
    "favourite": "bigint",
    "company_name": "text",
    "company_logo": "text",
    "agency_name": "text",
}
_ABSENT = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _TYPES.items())
_PRESENT = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _TYPES.items())
_CASES = (
    "(SELECT present.* "  # noqa: S608  all constants, here and wherever _CASES is used below
    f"FROM (SELECT {_ABSENT}) AS absent, LATERAL (SELECT case_id, {_PRESENT} FROM ad_cases) AS present) AS cases"
)
_PICTURE = "COALESCE(NULLIF(main_image_local, ''), main_image)"
_CASE = ", ".join(
    ["case_id", f"{_PICTURE} AS main_image", "to_char(cases.publish_time, 'YYYY-MM-DD') AS publish_time"]
    + [name for name in _TYPES if name not in {"main_image", "main_image_local", "publish_time"}]
)
_ORDERS = {SortOrder.ASCENDING: "ASC NULLS LAST", SortOrder.DESCENDING: "DESC NULLS LAST"}


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and the values of its parameters $1, $2 ..."""

    sql: str
    arguments: tuple[object, ...] = ()


@dataclass(slots=True)
class _Arguments:
    """Collects values and returns their placeholders."""

    values: list[object] = field(default_factory=list)

    def add(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


def count(search: Search) -> Statement:
    """Return the statement that counts the cases of a search: one row, `total`."""
    arguments = _Arguments()
    where = _where(search, arguments)
    return Statement(f"SELECT count(*) AS total FROM {_CASES} WHERE {where}", tuple(arguments.values))  # noqa: S608  as above


def page(search: Search) -> Statement:
    """Return the statement for one page of a search: cases in a total order, so that pages never overlap."""
    arguments = _Arguments()
    where = _where(search, arguments)
    order = _order(search, arguments)
    limit = arguments.add(search.page_size)
    offset = arguments.add((search.page - 1) * search.page_size)
    sql = f"SELECT {_CASE} FROM {_CASES} WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {offset}"  # noqa: S608  as above
    return Statement(sql, tuple(arguments.values))


def case(case_id: int) -> Statement:
    """Return the statement for one case: one row or none."""
    return Statement(f"SELECT {_CASE} FROM {_CASES} WHERE case_id = $1", (case_id,))  # noqa: S608  as above


def options(request: OptionsRequest) -> Statement:
    """Return the statement for the values of a facet: rows `value`, `count`, the most frequent first."""
    column = request.field.value
    sql = (
        f"SELECT {column} AS value, count(*) AS count FROM {_CASES} "  # noqa: S608  a facet is a constant too
        f"WHERE {column} <> '' AND {column} ILIKE $1 GROUP BY {column} ORDER BY count DESC, value LIMIT $2"
    )
    return Statement(sql, (_containing(request.keyword), request.limit))


TOTALS = Statement(
    "SELECT count(*) AS total, to_char(max(publish_time), 'YYYY-MM-DD') AS latest, "  # noqa: S608  as above
    f"to_char(min(publish_time), 'YYYY-MM-DD') AS oldest FROM {_CASES}"
)


def _groups(name: str, source: str) -> Statement:
    order = "COALESCE(main_image_local, '') <> '' DESC, publish_time DESC NULLS LAST, case_id DESC"  # held ones first
    image = f"(array_agg({_PICTURE} ORDER BY {order}) FILTER (WHERE {_PICTURE} <> ''))"
    return Statement(
        f"SELECT {name} AS name, count(*) AS count, {image}[1] AS image FROM {source} "  # noqa: S608  as above
        f"WHERE {name} <> '' GROUP BY {name} ORDER BY count DESC, name LIMIT {MOST_GROUPS}"
    )


INDUSTRIES = _groups("brand_industry", _CASES)
TAGS = _groups(
    "tag",
    f"{_CASES}, LATERAL (SELECT DISTINCT jsonb_array_elements_text("
    "CASE WHEN jsonb_typeof(tags) = 'array' THEN tags ELSE '[]' END) AS tag) AS tagged",
)


def _where(search: Search, arguments: _Arguments) -> str:
    conditions = ["true"]
    if query := search.query.strip():
        pattern = arguments.add(_containing(query))
        conditions.append(f"(title ILIKE {pattern} OR description ILIKE {pattern} OR brand_name ILIKE {pattern})")
    conditions += [
        f"{facet.value} = ANY({arguments.add(values)}::text[])" for facet in Facet if (values := search.values(facet))
    ]
    if search.tags:
        # `tags @> '["a", "b"]'`, which an index on tags answers
        conditions.append(f"tags @> to_jsonb({arguments.add(search.tags)}::text[])")
    if search.start_date is not None:
        conditions.append(f"publish_time >= {arguments.add(search.start_date)}::date")
    if search.end_date is not None:
        conditions.append(f"publish_time <= {arguments.add(search.end_date)}::date")
    if search.min_score is not None:
        conditions.append(f"score >= {arguments.add(search.min_score)}::float8")
    return " AND ".join(conditions)


def _order(search: Search, arguments: _Arguments) -> str:
    direction = _ORDERS[search.sort_order]
    # With their table's name: `publish_time` alone would mean the text in the answer.
    newest = f"cases.publish_time {_ORDERS[SortOrder.DESCENDING]}, cases.case_id DESC"
    query = search.query.strip()
    match search.sort_by:
        case SortBy.SCORE | SortBy.FAVOURITE as column:
            return f"cases.{column.value} {direction}, {newest}"
        case SortBy.RELEVANCE if query:
            return f"{_relevance(query, arguments)} {direction}, {newest}"
        case _:
            return f"cases.publish_time {direction}, cases.case_id {search.sort_order.value.upper()}"


def _relevance(query: str, arguments: _Arguments) -> str:
    """Return an expression that ranks matches: the title counts most, then the brand, then the description."""
    escaped = _escaped(query)
    whole, start, within = (arguments.add(pattern) for pattern in (escaped, f"{escaped}%", f"%{escaped}%"))
    return (
        f"CASE WHEN title ILIKE {whole} THEN 5 WHEN title ILIKE {start} THEN 4 WHEN title ILIKE {within} THEN 3 "
        f"WHEN brand_name ILIKE {whole} THEN 2 WHEN brand_name ILIKE {within} THEN 1 ELSE 0 END"
    )


def _containing(text: str) -> str:
    return f"%{_escaped(text)}%"


def _escaped(text: str) -> str:
    """Return text as a LIKE pattern that matches only itself."""
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
