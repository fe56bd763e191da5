"""Problem documents: their types, their language, and the page that lists them."""

from __future__ import annotations

import json
import string

import pytest

from rehost.server.api.problems import Problem, ProblemError, Texts, prefers_chinese, problem_response


@pytest.mark.parametrize("problem", Problem, ids=lambda problem: problem.name)
def test_texts_of_both_languages_name_the_same_values(problem):
    names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in problem.details]

    assert names[0] == names[1]
    assert any("\u4e00" <= each <= "\u9fff" for each in problem.titles[1])


@pytest.mark.parametrize(
    ("accepted", "is_chinese"),
    [
        ("", False),
        ("zh", True),
        ("zh-CN,zh;q=0.9,en;q=0.8", True),
        ("en-GB,en;q=0.9,zh;q=0.8", False),
        ("en;q=0.5, zh-TW;q=0.6", True),
        ("zh, en", True),
        ("en, zh", False),
        ("fr, zh;q=0.1", True),
        ("zh;q=0", False),
        ("zh;q=x", False),
        ("*", False),
        (";;,,q=1", False),
    ],
)
def test_language_follows_accept_language(accepted, is_chinese):
    assert prefers_chinese(accepted) == is_chinese


@pytest.mark.parametrize(
    ("accepted", "language", "detail"), [("", "en", "limit: is empty."), ("zh-CN", "zh-CN", "limit：为空。")]
)
def test_document_is_written_in_that_language(accepted, language, detail):
    error = ProblemError(Problem.INVALID_PARAMETER, {"x-more": "1"}, name="limit", fault=Texts("is empty", "为空"))

    response = problem_response(error, accepted)

    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert (response.headers["content-language"], response.headers["x-more"]) == (language, "1")
    document = json.loads(response.body)
    assert document["type"] == "urn:rehost:problem:invalid-parameter"
    assert (document["status"], document["parameter"]) == (400, "limit")
    assert document["detail"] == document["error"] == detail
