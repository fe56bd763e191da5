"""The types of the case API, with the names that the front end uses."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

LARGEST_PAGE = 2**31 - 1  # times 100 fits PostgreSQL's bigint


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError(
            "nul", "Input should not contain a NUL character"
        )  # PostgreSQL cannot store one in text
    return text


Text = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
Texts = Annotated[list[Text], Field(max_length=100)]


class SearchType(StrEnum):
    """How `query` is interpreted; only keyword search is implemented."""

    KEYWORD = "keyword"
    SEMANTIC = "semantic"
    HYBRID = "hybrid"


class SortBy(StrEnum):
    """The sort key of results."""

    RELEVANCE = "relevance"
    TIME = "time"
    SCORE = "score"
    FAVOURITE = "favourite"


class SortOrder(StrEnum):
    """The direction of sorting."""

    ASCENDING = "asc"
    DESCENDING = "desc"


class Facet(StrEnum):
    """A column whose values are offered as a filter."""

    BRAND_NAME = "brand_name"
    BRAND_INDUSTRY = "brand_industry"
    ACTIVITY_TYPE = "activity_type"
    LOCATION = "location"


class Search(BaseModel):
    """A search. All filters must match; a facet matches if any of its values does, tags only if all do."""

    model_config = ConfigDict(frozen=True)

    query: Text = ""
    search_type: SearchType = SearchType.KEYWORD
    sort_by: SortBy = SortBy.RELEVANCE
    sort_order: SortOrder = SortOrder.DESCENDING
    page: int = Field(1, ge=1, le=LARGEST_PAGE)
    page_size: int = Field(20, ge=1, le=100)
    brand_name: Texts = Field(default_factory=list)
    brand_industry: Texts = Field(default_factory=list)
    activity_type: Texts = Field(default_factory=list)
    location: Texts = Field(default_factory=list)
    tags: Texts = Field(default_factory=list)
    start_date: date | None = None
    end_date: date | None = None
    min_score: float | None = Field(None, allow_inf_nan=False)

    def values(self, facet: Facet) -> list[str]:
        """Return the requested values of one facet."""
        values: list[str] = getattr(self, facet.value)
        return values


class OptionsRequest(BaseModel):
    """A request for the values of a facet."""

    model_config = ConfigDict(frozen=True)

    field: Facet
    keyword: Text = ""
    limit: int = Field(20, ge=1, le=1000)


class Case(BaseModel):
    """One advertising case. `main_image` is the local URL if a copy is held, otherwise the original link."""

    case_id: int
    title: str | None
    description: str | None
    source_url: str | None
    main_image: str | None
    images: list[JsonValue]
    video_url: str | None
    brand_name: str | None
    brand_industry: str | None
    activity_type: str | None
    location: str | None
    tags: list[JsonValue]
    score: int | None
    score_decimal: str | None
    favourite: int | None
    publish_time: str | None
    author: str | None
    company_name: str | None
    company_logo: str | None
    agency_name: str | None


class Page(BaseModel):
    """One page of search results."""

    total: int
    page: int
    page_size: int
    total_pages: int
    results: list[Case]


class Option(BaseModel):
    """A value and the number of cases with it."""

    value: str
    count: int


class Options(BaseModel):
    """The values of one facet, the most frequent first."""

    field: Facet
    options: list[Option]


class Group(BaseModel):
    """The number of cases with an industry or a tag, and a picture of the latest one."""

    name: str
    count: int
    image: str | None = None


class Stats(BaseModel):
    """Counts of the whole library."""

    total_cases: int
    industries: list[Group]
    tags: list[Group]
    latest_case_date: str | None = None
    oldest_case_date: str | None = None
