"""What the demonstration's page says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from rehost.demo.hosts import Manner
from rehost.demo.words import Words

TEXTS: Mapping[str, Words] = {
    "title": Words("Broken pictures, made whole", "让裂图重新完整"),
    "lead": Words(
        "These cases link to pictures on hosts that refuse hot-linking. On the left is what a reader sees when a page "
        "links to them directly, asked for by your browser just now; on the right the copy that rehost holds.",
        "这些案例的图片放在禁止盗链的主机上。左边是页面直接引用时读者看到的样子，由您的浏览器此刻请求；"
        "右边是 rehost 保存的副本。",
    ),
    "before": Words("shown when linked directly", "直接引用时能显示"),
    "after": Words("shown by the copies", "由副本显示"),
    "of": Words("of", "/"),
    "direct": Words("direct", "直接引用"),
    "held": Words("held", "已保存"),
    "no-copy": Words("no copy", "没有副本"),
    "no-link": Words("without a picture", "没有图片"),
    "rule": Words("Learned Referer", "学到的 Referer"),
    "made-up": Words(
        "Brands, campaigns, hosts and pictures are made up. This machine plays the hosts, as such hosts behave.",
        "品牌，案例，主机和图片均为虚构。这些主机由本机扮演，行为与真实的同类主机一致。",
    ),
    "other-language": Words("中文", "English"),
    "no-host": Words("Cells that hold no URL, or nothing", "没有链接，或内容不是链接"),
}

MANNERS: Mapping[Manner, Words] = {
    Manner.OPEN: Words("Answers whoever asks; a few of its links are dead.", "谁来都给；有几条链接已经失效。"),
    Manner.NO_FOREIGN: Words(
        "403 for a foreign Referer; none at all is fine.", "带外站 Referer 返回 403; 不带则正常。"
    ),
    Manner.OWN_SITE: Words("403 unless the Referer is a page of its own site.", "Referer 不是本站页面就返回 403。"),
    Manner.PAGE_WALL: Words(
        "200 and an HTML page instead of the picture, unless the Referer is its www site.",
        "Referer 不是 www 主站时，状态 200，内容却是 HTML 页面。",
    ),
    Manner.DECOY_WALL: Words(
        "200 and a notice picture, the same for every link, unless the Referer is of its own site.",
        "Referer 不是本站时，状态 200，所有链接都给同一张提示图。",
    ),
    Manner.REDIRECT: Words(
        "Redirects to a notice picture unless the Referer is of its own site.", "Referer 不是本站时，跳转到提示图。"
    ),
    Manner.LAPSED: Words(
        "Nothing but a notice picture any more, for everybody: refused, never held.",
        "对所有人都只给提示图：拒绝，决不保存。",
    ),
    Manner.SLOW: Words("Takes its time.", "很慢。"),
    Manner.BUSY: Words("429 with Retry-After to its first callers.", "先返回 429 和 Retry-After。"),
    Manner.FLAKY: Words("503 now and then; the next attempt works.", "偶尔返回 503; 再试就好。"),
}
