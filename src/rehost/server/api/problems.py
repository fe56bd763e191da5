"""The API's errors as problem documents (RFC 9457): a type that never changes, and text in English or Chinese.

To add an error, add a member to `Problem`; docs/reference/problems.md and the OpenAPI document use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_URI = "urn:rehost:problem:"


class Problem(Enum):
    """Each kind of error: status, then title and detail in English and in Chinese."""

    UNKNOWN_PARAMETER = (
        *(400, "Unknown parameter", "未知参数"),
        "There is no parameter {name} here. Known ones: {known}.",
        "此接口没有参数 {name}。可用参数：{known}。",
    )
    REPEATED_PARAMETER = (
        *(400, "Repeated parameter", "参数重复"),
        "{name}: given more than once.",
        "{name}：重复出现。",
    )
    INVALID_PARAMETER = (400, "Invalid parameter", "参数无效", "{name}: {fault}.", "{name}：{fault}。")
    BODY_NOT_ALLOWED = (
        *(400, "No body is allowed", "不接受请求体"),
        "This operation takes parameters in its URL and no body, so nothing was done.",
        "此接口只接受 URL 中的参数，不接受请求体，因此未执行任何操作。",
    )
    NOTHING_CHOSEN = (
        *(400, "No links chosen", "未指定链接"),
        "Choose the links by exactly one of row_key (with position), reason and all=true.",
        "请用 row_key（可加 position）、reason、all=true 之一指定链接。",
    )
    TOKEN_NEEDED = (
        *(401, "Token needed", "需要令牌"),
        "Send the token: Authorization: Bearer REHOST_TOKEN.",
        "请发送令牌：Authorization: Bearer REHOST_TOKEN。",
    )
    READ_ONLY = (
        *(403, "Read-only server", "服务器为只读"),
        "This server is read-only: REHOST_TOKEN is not set, so actions are not available.",
        "服务器未设置 REHOST_TOKEN，只能读取，不能执行操作。",
    )
    FOREIGN_SITE = (
        *(403, "Request from another website", "请求来自其他网站"),
        "Actions are accepted only from rehost's own page or from a program, not from another website.",
        "只接受来自 rehost 页面或程序的操作，不接受其他网站的请求。",
    )
    FOREIGN_ORIGIN = (
        *(403, "Origin and Host differ", "Origin 与 Host 不一致"),
        (
            "Actions are accepted only from rehost's own page or from a program. This request's Origin is {origin}, "
            "its Host is {host}. If both are this server, a proxy between them changes Host: make it pass the name on "
            "(nginx: proxy_set_header Host $http_host;)."
        ),
        (
            "只接受来自 rehost 页面或程序的操作。此请求的 Origin 为 {origin}，Host 为 {host}。如果两者都指向本服务器，"
            "则说明中间的代理改写了 Host：请让代理原样转发（nginx：proxy_set_header Host $http_host;）。"
        ),
    )
    UNKNOWN_PATH = (
        *(404, "Not found", "不存在"),
        "There is nothing at this address; /docs lists all operations.",
        "此地址不存在；/docs 列出了所有接口。",
    )
    UNKNOWN_SOURCE = (404, "Unknown source", "未知数据源", "There is no source {source}.", "没有数据源 {source}。")
    UNKNOWN_LINK = (
        *(404, "Unknown link", "未知链接"),
        "The ledger has no link for row {row_key} of {source}.",
        "账本中没有 {source} 的行 {row_key} 的链接。",
    )
    UNKNOWN_RUN = (404, "Unknown run", "未知任务", "There is no run {run}.", "没有任务 {run}。")
    UNKNOWN_TAKEDOWN = (
        404,
        "Unknown takedown",
        "未知下架",
        "There is no takedown {takedown}.",
        "没有下架记录 {takedown}。",
    )
    NOT_FROZEN = (
        *(404, "Not frozen", "未冻结"),
        "The origin {origin} is not frozen, so there is nothing to decide.",
        "源站 {origin} 未被冻结，无需决定。",
    )
    METHOD_NOT_ALLOWED = (
        *(405, "Method not allowed", "不支持此请求方法"),
        "This address allows only {allow}.",
        "此地址只支持 {allow}。",
    )
    RUN_IN_PROGRESS = (
        *(409, "A run is in progress", "任务正在运行"),
        "A run that was started here is still in progress.",
        "由此服务器启动的任务仍在运行。",
    )
    RUN_NOT_IN_PROGRESS = (
        *(409, "The run is not in progress", "任务未在运行"),
        "Run {run} is not in progress.",
        "任务 {run} 未在运行。",
    )
    MANY_COPIES = (
        *(409, "Many copies", "副本较多"),
        "This removes {copies} copies for good, so nothing was done. Send sure=true to go on.",
        "此操作将彻底删除 {copies} 个副本，因此未执行。如确认，请加上 sure=true。",
    )
    UNKNOWN_HOST = (
        *(421, "Unknown host name", "未知主机名"),
        (
            "The Host header of the request does not name this server. If that name is right, add it to "
            "API_ALLOWED_HOSTS. A proxy in front should pass the name on (nginx: proxy_set_header Host "
            "$http_host;)."
        ),
        (
            "请求的 Host 不在本服务器允许的主机名之列。如果它确实指向本服务器，请将其加入 API_ALLOWED_HOSTS。"
            "前置代理应原样转发该名称（nginx：proxy_set_header Host $http_host;）。"
        ),
    )
    TOO_MANY_WRONG_TOKENS = (
        *(429, "Too many wrong tokens", "错误令牌过多"),
        "Too many wrong tokens came from your address: try again in {seconds} s.",
        "来自你的地址的错误令牌过多：请在 {seconds} 秒后重试。",
    )
    NO_STORE = (
        *(503, "The store is not there", "找不到存储"),
        "The folder of the copies is missing, not mounted, or another one; rehost's log says more.",
        "图片存储目录不存在、未挂载，或已换成另一个目录；详情见 rehost 的日志。",
    )
    UNAVAILABLE = (
        *(503, "Not available", "暂不可用"),
        "The database or the store cannot be used at the moment; rehost's log says why.",
        "数据库或存储暂时不可用；原因见 rehost 的日志。",
    )
    STOPPED = (503, "Not available", "暂不可用", "{cause}", "{cause}")
    TOO_MANY_STREAMS = (
        *(503, "Too many streams", "实时连接过多"),
        "Too many streams are open already.",
        "已打开的实时连接过多。",
    )

    def __init__(self, status: int, title: str, chinese_title: str, detail: str, chinese_detail: str) -> None:
        self.status = status
        self.titles = (title, chinese_title)
        self.details = (detail, chinese_detail)

    @property
    def uri(self) -> str:
        """Return the type of the problem documents (RFC 9457, section 3.1.1)."""
        return _URI + self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """An error. `type` says which one and never changes; title and detail are text for people."""

    type: str
    title: str
    status: int
    detail: str
    error: str  # the same as `detail`, for clients from before problem documents
    parameter: str | None = None  # the one that is wrong


@dataclass(frozen=True, slots=True)
class Texts:
    """A text within a detail, in English and in Chinese."""

    english: str
    chinese: str


class ProblemError(Exception):
    """An operation cannot do what was asked."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None, **values: object) -> None:
        """Take the kind of problem, headers of the response, and the values that its detail names."""
        super().__init__(problem.name)
        self.problem = problem
        self.headers = headers or {}
        self.values = values


def problem_response(error: ProblemError, accept_language: str) -> Response:
    """Return a problem as a response, in Chinese if the request prefers that to English."""
    problem, index = error.problem, int(prefers_chinese(accept_language))
    texts = {name: _text(value, index) for name, value in error.values.items()}
    detail = problem.details[index].format(**texts)
    document = ProblemDocument(problem.uri, problem.titles[index], problem.status, detail, detail, texts.get("name"))
    members = {name: value for name, value in asdict(document).items() if value is not None}
    retry = {"retry-after": "10"} if problem.status == Problem.UNAVAILABLE.status else {}
    language = {"content-language": ("en", "zh-CN")[index], "vary": "accept-language"}
    headers = {"cache-control": "no-store", **language, **retry, **error.headers}
    body = json.dumps(members, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, problem.status, headers, MEDIA_TYPE)


def prefers_chinese(accept_language: str) -> bool:
    """Return whether an Accept-Language (RFC 9110, section 12.5.4) prefers Chinese to English."""
    weights = {"zh": 0.0, "en": 0.0}
    for number, part in enumerate(accept_language.lower().split(",")):
        tag, _, weight = part.strip().partition(";")
        language = tag.partition("-")[0].strip()
        if language in weights:
            quality = weight.strip().removeprefix("q=") or "1"
            known = float(quality) if quality.replace(".", "", 1).isdigit() else 0.0
            weights[language] = max(weights[language], known - number / 1e6 if known else 0.0)  # earlier ones first
    return weights["zh"] > weights["en"]


def _text(value: object, index: int) -> str:
    return (value.english, value.chinese)[index] if isinstance(value, Texts) else str(value)
