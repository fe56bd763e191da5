"""The words of the demonstration: brands and campaigns, in English and Chinese. None of them exists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bilingual:
    """The same thing in both languages."""

    english: str
    chinese: str


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand that does not exist."""

    name: Bilingual
    industry: Bilingual


def _brands(industry: Bilingual, *names: tuple[str, str]) -> tuple[Brand, ...]:
    return tuple(Brand(Bilingual(*each), industry) for each in names)


BRANDS: tuple[Brand, ...] = (
    *_brands(Bilingual("Food", "食品"), ("Oatwick", "麦栖"), ("Brinepear", "盐梨"), ("Plumhollow", "梅谷"),
             ("Noodle & Moon", "面与月"), ("Saltwillow", "盐柳")),
    *_brands(Bilingual("Drinks", "饮料"), ("Tarnmoss", "苔湖"), ("Fizzlark", "汽雀"), ("Lowtide Tea", "低潮茶"),
             ("Ambergrove", "琥林"), ("Dewkettle", "露壶")),
    *_brands(Bilingual("Travel", "旅行"), ("Wanderloam", "漫壤"), ("Quietrail", "静轨"), ("Harborlune", "月港"),
             ("Sixmile Sky", "六里天"), ("Driftory", "漂记")),
    *_brands(Bilingual("Home", "家居"), ("Lumenfold", "折光"), ("Hearthbee", "炉蜂"), ("Soft Corner", "软角"),
             ("Tidewren", "汐鹪"), ("Nestuary", "巢湾")),
    *_brands(Bilingual("Sport", "运动"), ("Kestride", "隼步"), ("Upfell", "登岗"), ("Nine Laps", "九圈"),
             ("Velostone", "轮石"), ("Brightheel", "亮跟")),
    *_brands(Bilingual("Technology", "科技"), ("Pixelmere", "像湖"), ("Humline", "嗡线"), ("Ohmbird", "欧鸟"),
             ("Cloudthimble", "云顶针"), ("Kindbyte", "善字节")),
    *_brands(Bilingual("Culture", "文化"), ("Paper Orchard", "纸果园"), ("Inkpillow", "墨枕"), ("Museo Fern", "蕨馆"),
             ("Slow Cinema Club", "慢影社"), ("Quillowby", "羽柳")),
    *_brands(Bilingual("Beauty", "美妆"), ("Petalune", "瓣月"), ("Mossglow", "苔光"), ("Veilberry", "纱莓"),
             ("Snowsilk & Co", "雪丝"), ("Honeydusk", "蜜暮")),
)  # fmt: skip

CAMPAIGNS: tuple[Bilingual, ...] = tuple(
    Bilingual(*each)
    for each in (
        ("A Slower Morning", "慢一点的早晨"),
        ("Letters to Tomorrow", "写给明天的信"),
        ("The Long Way Home", "绕远路回家"),
        ("Small Lights", "小小的光"),
        ("Before the Rain", "下雨之前"),
        ("Made of Summer", "夏天做的"),
        ("Hello, Neighbour", "你好，邻居"),
        ("Half Past Blue", "蓝色过半"),
        ("Every Window Sings", "每扇窗都在唱"),
        ("Borrowed Sunshine", "借来的阳光"),
        ("The Last Leaf Waits", "最后一片叶子在等"),
        ("Soft Is Strong", "柔软即力量"),
        ("Room for One More", "还能再坐一位"),
        ("Ten Good Minutes", "十分钟好时光"),
        ("Where Rivers Rest", "河流歇脚处"),
        ("Look Up More", "多抬头看看"),
        ("Sunday, All Week", "一周都是星期天"),
        ("Grandmother's Map", "外婆的地图"),
        ("The Quiet Parade", "安静的游行"),
        ("First Snow, Again", "又见初雪"),
        ("Louder Than Grey", "比灰色更响亮"),
        ("Keep the Kettle On", "水一直热着"),
        ("Made by Many Hands", "许多双手"),
        ("Night Garden", "夜间花园"),
        ("A Table by the Sea", "海边的一张桌子"),
        ("Tiny Victories", "微小的胜利"),
        ("Follow the Orange", "跟着橙色走"),
        ("What Trees Know", "树知道的事"),
        ("One Stop Further", "再多坐一站"),
        ("Moon on a String", "牵着月亮"),
        ("Twelve Doors", "十二扇门"),
        ("Come as the Weather", "像天气一样来"),
        ("Postcards, Unsent", "没寄出的明信片"),
        ("Begin with Bread", "从面包开始"),
        ("The Colour of Wind", "风的颜色"),
        ("Bring Your Shadow", "带上你的影子"),
        ("Almost Spring", "快到春天"),
        ("A Song for Stairs", "楼梯之歌"),
        ("Gentle Machines", "温柔的机器"),
        ("Stay for the Stars", "留下来看星星"),
    )
)

CITIES: tuple[Bilingual, ...] = (
    Bilingual("Shanghai", "上海"),
    Bilingual("Chengdu", "成都"),
    Bilingual("Hangzhou", "杭州"),
    Bilingual("Guangzhou", "广州"),
    Bilingual("Xiamen", "厦门"),
    Bilingual("Beijing", "北京"),
)

KINDS: tuple[Bilingual, ...] = (
    Bilingual("Film", "影片"),
    Bilingual("Poster", "平面"),
    Bilingual("Event", "活动"),
    Bilingual("Packaging", "包装"),
    Bilingual("Digital", "数字营销"),
)
