"""What the demonstration's page says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from rehost.demo.hosts import Manner
from rehost.demo.words import Bilingual

TEXTS: Mapping[str, Bilingual] = {
    "title": Bilingual("Broken pictures, made whole", "让裂图重新完整"),
    "lead": Bilingual(
        "These cases link to pictures on hosts that refuse hot-linking. On the left is what a reader sees when a page "
        "links to them directly, asked for by your browser just now; on the right the copy that rehost holds.",
        "这些案例的图片放在禁止盗链的主机上。左边是页面直接引用时读者看到的样子，由您的浏览器此刻请求；"
        "右边是 rehost 保存的副本。",
    ),
    "before": Bilingual("shown when linked directly", "直接引用时能显示"),
    "after": Bilingual("shown by the copies", "由副本显示"),
    "of": Bilingual("of", "/"),
    "direct": Bilingual("direct", "直接引用"),
    "held": Bilingual("held", "已保存"),
    "no-copy": Bilingual("no copy", "没有副本"),
    "no-link": Bilingual("without a picture", "没有图片"),
    "rule": Bilingual("Learned Referer", "学到的 Referer"),
    "made-up": Bilingual(
        "Brands, campaigns, hosts and pictures are made up. This machine plays the hosts, as such hosts behave.",
        "品牌，案例，主机和图片均为虚构。这些主机由本机扮演，行为与真实的同类主机一致。",
    ),
    "other-language": Bilingual("中文", "English"),
    "no-host": Bilingual("Cells that hold no URL, or nothing", "没有链接，或内容不是链接"),
}

MANNERS: Mapping[Manner, Bilingual] = {
    Manner.OPEN: Bilingual("Answers whoever asks; a few of its links are dead.", "谁来都给；有几条链接已经失效。"),
    Manner.NO_FOREIGN: Bilingual(
        "403 for a foreign Referer; none at all is fine.", "带外站 Referer 返回 403; 不带则正常。"
    ),
    Manner.OWN_SITE: Bilingual("403 unless the Referer is a page of its own site.", "Referer 不是本站页面就返回 403。"),
    Manner.PAGE_WALL: Bilingual(
        "200 and an HTML page instead of the picture, unless the Referer is its www site.",
        "Referer 不是 www 主站时，状态 200，内容却是 HTML 页面。",
    ),
    Manner.DECOY_WALL: Bilingual(
        "200 and a notice picture, the same for every link, unless the Referer is of its own site.",
        "Referer 不是本站时，状态 200，所有链接都给同一张提示图。",
    ),
    Manner.REDIRECT: Bilingual(
        "Redirects to a notice picture unless the Referer is of its own site.", "Referer 不是本站时，跳转到提示图。"
    ),
    Manner.LAPSED: Bilingual(
        "Nothing but a notice picture any more, for everybody: refused, never held.",
        "对所有人都只给提示图：拒绝，决不保存。",
    ),
    Manner.SLOW: Bilingual("Takes its time.", "很慢。"),
    Manner.BUSY: Bilingual("429 with Retry-After to its first callers.", "先返回 429 和 Retry-After。"),
    Manner.FLAKY: Bilingual("503 now and then; the next attempt works.", "偶尔返回 503; 再试就好。"),
}
