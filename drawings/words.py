"""What can be said of a face: its traits, and sentences about some of them in English and Chinese."""

import re
from difflib import get_close_matches

import numpy as np

from drawings import faces

# Each trait and the values that it can have. A face has those that can be told: one who is neither
# young nor old has no age here.
TRAITS = {
    "sex": ("woman", "man"),
    "age": ("young", "old"),
    "skin": ("light", "dark"),
    "hair": ("black", "brown", "red", "blond", "grey", "pink", "blue", "green", "purple"),
    "length": ("short", "long"),
    "shape": ("straight", "wavy", "curly"),
    "style": ("bald", "mohawk", "spiky", "afro", "bob", "bun", "pigtails"),
    "fringe": ("no", "yes"),
    "glasses": ("no", "yes"),
    "frame": ("round", "square", "dark"),
    "beard": ("no", "stubble", "full", "goatee", "moustache"),
    "smile": ("no", "yes"),
}
SELDOM = 0.3  # how often "no" is said, beside 1 for what there is to see
TOPS = {"spikes": {"style": "spiky"}, "curls": {"shape": "curly"}, "afro": {"style": "afro"}}
BACKS = {"long": ("long", "straight"), "wavy": ("long", "wavy"), "ringlets": ("long", "curly")}
CELEBA = {  # a name of CelebA's that a face has or lacks: what it is called here, then and otherwise
    "Male": ("sex", "man", "woman"), "Young": ("age", "young", "old"),
    "Pale_Skin": ("skin", "light", None), "Black_Hair": ("hair", "black", None),
    "Brown_Hair": ("hair", "brown", None), "Blond_Hair": ("hair", "blond", None),
    "Gray_Hair": ("hair", "grey", None), "Straight_Hair": ("shape", "straight", None),
    "Wavy_Hair": ("shape", "wavy", None), "Bangs": ("fringe", "yes", "no"),
    "Eyeglasses": ("glasses", "yes", "no"), "No_Beard": ("beard", "no", None),
    "5_o_Clock_Shadow": ("beard", "stubble", None), "Mustache": ("beard", "moustache", None),
    "Goatee": ("beard", "goatee", None), "Smiling": ("smile", "yes", "no"),
    "Bald": ("style", "bald", None),
}  # fmt: skip

# What people say, with | between words for the same. A place for what else is said of it: {}
SAID = {
    "en": {
        "woman": "woman|lady", "man": "man|gentleman", "": "person|someone",
        "young woman": "young woman|young lady|girl", "young man": "young man|young gentleman|boy",
        "old woman": "old woman|old lady|elderly woman|grandmother|granny",
        "old man": "old man|elderly man|old gentleman|grandfather|grandpa",
        "young": "young person", "old": "old person|elderly person",
        "skin light": "light skin|pale skin|fair skin", "skin dark": "dark skin",
        "hair black": "black", "hair brown": "brown|chestnut", "hair red": "red|ginger|auburn",
        "hair blond": "blond|blonde|golden", "hair grey": "grey|gray|silver|white",
        "hair pink": "pink", "hair blue": "blue", "hair green": "green",
        "hair purple": "purple|violet", "length short": "short", "length long": "long",
        "shape straight": "straight", "shape wavy": "wavy", "shape curly": "curly",
        "hair": "{} hair", "haired": "{}-haired", "curls": "{} curls", "curls or not": "curls|",
        "style bald": "no hair|a bald head",
        "style mohawk": "a {} mohawk", "style spiky": "spiky {} hair|{} spikes",
        "style afro": "a {} afro", "style bob": "a {} bob|{} hair in a bob",
        "style bun": "a {} bun|{} hair in a bun|{} hair tied in a bun",
        "style pigtails": "{} pigtails|{} hair in pigtails", "fringe yes": "a fringe|bangs",
        "fringe no": "no fringe|no bangs", "glasses no": "no glasses|no sunglasses",
        "glasses yes": "glasses|spectacles",
        "frame round": "round glasses|round spectacles", "frame dark": "sunglasses|dark glasses",
        "frame square": "square glasses|rectangular glasses", "beard no": "no beard|no moustache",
        "beard stubble": "stubble|a stubbly chin", "beard full": "a full beard|a beard|a big beard",
        "beard goatee": "a goatee", "beard moustache": "a moustache|a mustache",
        "smile yes": "a smile|a big smile", "smile no": "a serious face|a serious look",
    },
    "zh": {
        "woman": "女人|女士|女子", "man": "男人|男士|男子", "": "人",
        "young woman": "年轻女人|年轻女士|女孩|姑娘", "young man": "年轻男人|年轻男士|男孩|小伙子",
        "old woman": "老妇人|老奶奶|老太太|年老的女士", "old man": "老爷爷|老先生|老头|年老的男士",
        "young": "年轻人", "old": "老人|上了年纪的人",
        "skin light": "皮肤白皙|皮肤白|肤色浅|白皮肤", "skin dark": "皮肤黝黑|皮肤黑|肤色深|黑皮肤",
        "hair black": "黑色", "hair brown": "棕色|褐色", "hair red": "红色",
        "hair blond": "金色|金黄色", "hair grey": "灰色|银色|白色|花白", "hair pink": "粉色|粉红色",
        "hair blue": "蓝色", "hair green": "绿色", "hair purple": "紫色",
        "length short": "短", "length long": "长", "shape straight": "直", "shape wavy": "波浪",
        "shape curly": "卷", "hair": "留着{}发|有一头{}发|有{}发|{}发",
        "colour": "留着{}头发|有{}的头发|{}头发",
        "one letter of it": "{}发|有{}发|留着{}发|{}头发|||",
        "style bald": "剃着光头|没有头发|顶着光头|光头", "style mohawk": "留着{}莫西干头|梳着{}莫西干发型",
        "style spiky": "留着{}刺猬头|顶着{}刺猬头", "style afro": "留着{}爆炸头|顶着{}爆炸头",
        "style bob": "留着{}波波头|剪了{}波波头", "style bun": "扎着{}丸子头|梳着{}发髻",
        "style pigtails": "扎着{}双马尾|扎着{}辫子|梳着{}双马尾", "fringe yes": "有刘海|留着刘海",
        "fringe no": "没有刘海|不留刘海",
        "glasses no": "没戴眼镜|不戴眼镜|没戴墨镜", "glasses yes": "戴着眼镜|戴眼镜",
        "frame round": "戴着圆框眼镜|戴圆框眼镜|戴圆眼镜|戴着圆形眼镜",
        "frame dark": "戴着墨镜|戴墨镜|戴着太阳镜|戴太阳镜",
        "frame square": "戴着方框眼镜|戴方框眼镜|戴方眼镜|戴着方形眼镜",
        "beard no": "没有胡子|不留胡子|没有大胡子|没有小胡子",
        "beard stubble": "有胡茬|留着胡茬", "beard full": "留着络腮胡|留着大胡子|有大胡子|有胡子|留着胡子",
        "beard goatee": "留着山羊胡|有山羊胡", "beard moustache": "留着八字胡|留着小胡子",
        "smile yes": "面带微笑|微笑着|笑着|微笑", "smile no": "表情严肃|没有笑",
    },
}  # fmt: skip
BEFORE = {  # what may stand before an English noun, or after it, instead of in the list behind "with"
    "skin dark": "dark-skinned|black", "skin light": "light-skinned|pale|white", "style bald": "bald",
    "smile yes": "smiling|happy|cheerful", "smile no": "serious", "beard full": "bearded",
    "beard no": "clean-shaven",
}  # fmt: skip
AFTER = {
    "glasses yes": "in glasses|wearing glasses", "glasses no": "without glasses|without sunglasses",
    "frame round": "in round glasses|wearing round glasses",
    "frame square": "in square glasses|wearing square glasses",
    "frame dark": "in sunglasses|wearing sunglasses", "smile no": "without a smile",
    "beard no": "without a beard|without a moustache", "smile yes": "who smiles|who is smiling|smiling",
    "fringe no": "without a fringe|without bangs",
}  # fmt: skip
# Any frame with any link: 52 patterns in English, 31 in Chinese
FRAMES = {
    "en": "{}|{}|{}|a portrait of {}|a picture of {}|a drawing of {}|the face of {}|draw {}|please draw "
    "{}|show me {}|this is {}|here is {}|there is {}|I see {}|imagine {}",
    "zh": "{}|{}|画{}|请画{}|这是{}|图中是{}|照片里有{}|我看见{}|想象{}|给我看{}",
}
LINKS = {
    "en": " with {}| with {}| who has {}|, {}|. {they} {have} {}",
    "zh": "{}的{}|{}，{}|{}。{}{}",
}
OF_A_FACE = "{}的肖像|{}的画像|{}的脸|{}的照片"
ALSO = {  # what no sentence here says, but a person may, and what is read instead
    "dark hair": "black hair", "(white|grey|gray) beard": "beard", "without hair": "with no hair",
    "no smile": "a serious face", "没有戴": "没戴", "小姑娘": "姑娘", "小女孩": "女孩", "小男孩": "男孩",
    "黑人": "皮肤黑的人", "白人": "皮肤白的人", "不笑": "没有笑",
}  # fmt: skip
PRONOUNS = {"woman": ("she", "has", "她"), "man": ("he", "has", "他"), "": ("they", "have", "这人")}


def traits_of_drawn(seed):
    """The traits of faces.draw_face(seed): {name: value}, as TRAITS has them."""
    _, face = faces.paint(seed)
    line, top, back = face.style
    length, shape = BACKS.get(back, ("short" if back in ("", "cloud") else None, None))
    cut = {"length": length, "shape": shape, **TOPS.get(top, {})}
    if line in ("bald", "mohawk"):
        cut = {"style": line}
    elif back in ("bob", "bun", "pigtails"):
        cut = {"style": back}
    elif "style" in cut:
        cut = {"style": cut["style"]}
    traits = {
        "sex": "woman" if face.woman else "man",
        "age": "young" if face.age < 0.4 else "old" if face.age > 0.6 else None,
        "skin": "light" if face.dark < 0.35 else "dark" if face.dark > 0.65 else None,
        "hair": None if line == "bald" else face.hair_word,
        "fringe": None if line in ("bald", "mohawk") else "yes" if line == "fringe" else "no",
        "glasses": "yes" if face.glasses else "no",
        "frame": {"sun": "dark"}.get(face.glasses, face.glasses) or None,
        "beard": None if face.woman else face.beard or "no",
        "smile": "yes" if face.smile > 0.65 else "no" if face.smile < 0.4 else None,
    } | cut
    return {name: traits[name] for name in TRAITS if traits.get(name)}


def traits_of_celeba(attributes):
    """The traits of a face that has these of CelebA's attributes, {name: bool}, any of them."""
    traits = {}
    for name, (trait, *values) in CELEBA.items():
        if name in attributes and (value := values[not attributes[name]]):
            traits[trait] = value
    if traits.get("style") == "bald":
        traits = {name: traits[name] for name in traits if name not in ("hair", "shape", "fringe")}
    if traits.get("sex") == "woman":
        traits.pop("beard", None)
    return {name: traits[name] for name in TRAITS if name in traits}


def some_of(traits, rng, most=6, always=(), evenly=False):
    """One to `most` of the traits, as one names some of what one sees, and those named always.

    rng: NumPy's Generator. evenly: all of them as often; else one says most often who it is, and
    seldom what is not there. Glasses of some form are glasses, too.
    """
    names = list(traits)
    usual = [3.0 if each == "sex" else SELDOM if traits[each] == "no" else 1.0 for each in names]
    usual = np.ones(len(names)) if evenly else np.array(usual)
    count = min(len(names), rng.integers(1, most + 1))
    named = {*rng.choice(names, count, replace=False, p=usual / usual.sum()), *always}
    if "frame" in named:
        named.add("glasses")
    return {name: traits[name] for name in names if name in named}


def describe(traits, rng, language="en"):
    """A sentence that names all of these traits, in "en" or "zh", in one of many ways.

    traits: as traits_of_drawn and some_of give them. rng: NumPy's Generator, or a seed.
    """
    rng, said = np.random.default_rng(rng), SAID[language]
    traits = {name: value for name, value in traits.items() if value}

    def say(name):
        return faces.pick(rng, said[name].split("|"))

    sex, age = traits.get("sex", ""), traits.get("age", "")
    noun, hair = say(f"{age} {sex}".strip()), {"hair", "length", "shape", "style"} & {*traits}
    hair -= {"style"} if traits.get("style") == "bald" else set()  # that is said as a beard is
    listed = [hair_of(traits, say, language)] if hair else []
    rest = {*traits} - {"sex", "age", *hair}
    rest -= {"glasses"} if "frame" in rest else set()
    rest = [f"{name} {traits[name]}" for name in TRAITS if name in rest]
    they, have, _they = PRONOUNS[sex]
    frame, link = (faces.pick(rng, each[language].split("|")) for each in (FRAMES, LINKS))
    if language == "zh":
        listed += [say(each) for each in rest]
        rng.shuffle(listed)
        one = faces.pick(rng, ("一位", "一个"))
        if not listed:
            return frame.format(one + noun) + "。"
        if link == "{}的{}":
            frame = faces.pick(rng, f"{FRAMES['zh']}|{OF_A_FACE}".split("|"))
            said, one = "、".join(listed), faces.pick(rng, (one, ""))
            near_noun = re.fullmatch("[^有没留扎梳剃顶剪、].*[发头]", said)  # as 金发, 光头 may be
            of = "" if near_noun and rng.random() < 0.5 else "的"
            return frame.format(f"{one}{said}{of}{noun}") + "。"
        after = "，".join(listed)
        return (
            frame.format(one + noun) + ("，" if link == "{}，{}" else f"。{_they}") + after + "。"
        )
    before = after = ""
    if hair and "style" not in traits and rng.random() < 0.25:
        before, listed = hair_of(traits, say, language, "haired") + " ", []
    for each in rest:
        place = rng.random()
        if each in BEFORE and not before and place < 0.4:
            before = faces.pick(rng, BEFORE[each].split("|")) + " "
        elif each in AFTER and not after and place > 0.6:
            after = " " + faces.pick(rng, AFTER[each].split("|"))
        else:
            listed.append(say(each))
    rng.shuffle(listed)
    text = frame.format(f"{'' if noun == 'someone' and not before else 'a '}{before}{noun}{after}")
    if listed:
        *first, last = listed
        those = f"{', '.join(first)} and {last}" if first else last
        text += link.format(those, they=they.capitalize(), have=have)
        if noun == "someone" and not before + after and rng.random() < 0.5:
            text = those  # "Red hair and glasses."
    text = an(text)
    return f"{text[0].upper()}{text[1:]}."


def an(text):
    """The text with "an" for each "a" that stands before a vowel."""
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def hair_of(traits, say, language, plain="hair"):
    """What is said of hair, of its colour, length, shape and style.

    say: from a name in SAID to words; plain: the name there of hair without a style.
    """
    words = {
        name: say(f"{name} {traits[name]}")
        for name in ("length", "shape", "hair")
        if name in traits
    }
    style = f"style {traits['style']}" if "style" in traits else plain
    if language == "zh":
        order = "".join(words.get(name, "") for name in ("hair", "length", "shape"))
        if style == "hair" and [*words] == ["hair"]:
            style = "colour"
            if order.endswith("色") and (short := say("one letter of it")):
                return short.format(order[0])  # 金发, not 金色发
        return say(style).format(order)
    if style == "haired" and [*words.values()] in (["blond"], ["blonde"]):
        return words["hair"]  # a blonde woman
    if traits.get("shape") == "curly" and style == "hair" and say("curls or not"):
        words.pop("shape")
        style = "curls"
    return " ".join(say(style).format(" ".join(words.values())).split())


def tokens(text):
    """The words of a text in lower case, and each Chinese character by itself; what is in ALSO as there."""
    text = text.lower()
    for also, said in ALSO.items():
        text = re.sub(rf"\b{also}\b" if also.isascii() else also, said, text)
    return re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+", text)


def vocabulary():
    """All tokens that a description can have, sorted."""
    texts = [*FRAMES.values(), *LINKS.values(), OF_A_FACE, *BEFORE.values(), *AFTER.values()]
    texts += [text for said in SAID.values() for text in said.values()]
    texts += [text for each in PRONOUNS.values() for text in each] + ["an and 一位 一个"]
    return sorted({word for text in texts for word in tokens(text)})


def near(word):
    """Words like this one that are said of faces; else all that can be said in its language."""
    said = SAID["zh" if re.match("[\u4e00-\u9fff]", word) else "en"]
    values = [text.split("|")[0] for name, text in said.items() if name.count(" ") == 1]
    values = [an(re.sub("{} ?", "", value)) for value in values]
    return get_close_matches(word, {*tokens("|".join(said.values()))}, 6, 0.7) or values
