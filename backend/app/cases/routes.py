"""The case API under /api/v1/cases."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, HTTPException, Query

from app.answers import Answer, Refusal
from app.cases.model import Case, Options, OptionsRequest, Page, Search, SearchType, Stats

if TYPE_CHECKING:
    from app.cases.collection import Library


def case_routes(library: Library) -> APIRouter:
    """Return the routes over a library."""
    routes = APIRouter(prefix="/api/v1/cases", tags=["cases"])

    @routes.get("/search", responses={HTTPStatus.NOT_IMPLEMENTED: {"model": Refusal}})
    async def search(search: Annotated[Search, Query()]) -> Answer[Page]:
        """Find cases; `query` is a substring of title, description or brand name, in upper or lower case."""
        if search.search_type is not SearchType.KEYWORD:
            raise HTTPException(HTTPStatus.NOT_IMPLEMENTED, "Semantic search is not implemented here: use keyword")
        return Answer(data=await library.search(search))

    @routes.get("/filter-options")
    async def filter_options(request: Annotated[OptionsRequest, Query()]) -> Answer[Options]:
        """Return the values that a filter can take, the most frequent first."""
        return Answer(data=await library.options(request))

    @routes.get("/stats", response_model_exclude_none=True)
    async def stats() -> Answer[Stats]:
        """Return counts of the whole library."""
        return Answer(data=await library.stats())

    # Last: the names above would be read as a case_id.
    @routes.get("/{case_id}", responses={HTTPStatus.NOT_FOUND: {"model": Refusal}})
    async def case(case_id: int) -> Answer[Case]:
        """Return one case."""
        found = await library.case(case_id)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no case {case_id}")
        return Answer(data=found)

    return routes
