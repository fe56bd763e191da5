"""The nouns of the case API, as the front end spells them."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

LARGEST_PAGE = 2**31 - 1  # times 100 fits PostgreSQL's bigint


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "Input should hold no NUL character")  # PostgreSQL's text cannot hold one
    return text


Text = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
Texts = Annotated[list[Text], Field(max_length=100)]


class SearchType(StrEnum):
    """How `query` is understood; only keyword is answered here."""

    KEYWORD = "keyword"
    SEMANTIC = "semantic"
    HYBRID = "hybrid"


class SortBy(StrEnum):
    """What results are sorted by."""

    RELEVANCE = "relevance"
    TIME = "time"
    SCORE = "score"
    FAVOURITE = "favourite"


class SortOrder(StrEnum):
    """Which end comes first."""

    ASCENDING = "asc"
    DESCENDING = "desc"


class Facet(StrEnum):
    """A column whose values are offered as a filter."""

    BRAND_NAME = "brand_name"
    BRAND_INDUSTRY = "brand_industry"
    ACTIVITY_TYPE = "activity_type"
    LOCATION = "location"


class Search(BaseModel):
    """A search: all filters must match; of one facet any value, of tags every one."""

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
        """Return the values asked for of one facet."""
        values: list[str] = getattr(self, facet.value)
        return values


class OptionsRequest(BaseModel):
    """Which values of a facet are asked for."""

    model_config = ConfigDict(frozen=True)

    field: Facet
    keyword: Text = ""
    limit: int = Field(20, ge=1, le=1000)


class Case(BaseModel):
    """One advertising case. `main_image` is the local URL where a copy is held, otherwise the original link."""

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
    """A value and how many cases have it."""

    value: str
    count: int


class Options(BaseModel):
    """The values of one facet, the most frequent first."""

    field: Facet
    options: list[Option]


class Group(BaseModel):
    """How many cases share an industry or a tag, with a picture of the latest of them."""

    name: str
    count: int
    image: str | None = None


class Stats(BaseModel):
    """The library in figures."""

    total_cases: int
    industries: list[Group]
    tags: list[Group]
    latest_case_date: str | None = None
    oldest_case_date: str | None = None
