"""Whether texts are in a tagger's language: by their script, and where that is Latin, by their commonest words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

_TEXTS, _LETTERS = 200, 50_000  # looked at
_LEAST_WORDS = 50  # fewer tell no language

# Scripts as Unicode's names of letters begin; languages without an entry are written in Latin letters.
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("ru", "uk", "bg", "mk", "be", "kk", "ky", "tg", "mn", "tt"), ("CYRILLIC",)),
    "sr": ("CYRILLIC", "LATIN"),
    "zh": ("CJK",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL", "CJK"),
    **dict.fromkeys(("ar", "fa", "ur", "ug"), ("ARABIC",)),
    "he": ("HEBREW",),
    **dict.fromkeys(("el", "grc"), ("GREEK",)),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("DEVANAGARI",)),
    "bn": ("BENGALI",), "ta": ("TAMIL",), "te": ("TELUGU",), "ml": ("MALAYALAM",), "kn": ("KANNADA",),
    "gu": ("GUJARATI",), "si": ("SINHALA",), "th": ("THAI",), "hy": ("ARMENIAN",), "ka": ("GEORGIAN",),
    "am": ("ETHIOPIC",), "ti": ("ETHIOPIC",),
}  # fmt: skip

# Words that make up a good tenth of any running text of a language and hardly stand in the others here.
_COMMON: Mapping[str, tuple[str, str]] = {
    "en": ("English", "the of and to is that for was with are this it from which be have not but they you"),
    "de": ("German", "der die und das ist nicht mit den dem ein eine für auf sich auch werden wird von zu als"),
    "fr": ("French", "le la les des et est dans une que pour qui pas sur avec du au ce sont il plus"),
    "es": ("Spanish", "el los las que y es por una con del se para su como más pero fue al lo ha"),
    "it": ("Italian", "il di che della per non una sono con del gli nel anche dei è più si alla da ha"),
    "pt": ("Portuguese", "o os que não uma com do da para em por mais dos das ao foi são na no se"),
    "nl": ("Dutch", "de het een van en niet dat is op te voor met zijn aan ook maar er naar wordt bij"),
    "sv": ("Swedish", "och att det som en på är av för den med inte till har ett om var jag de sig"),
    "da": ("Danish", "og at det som en på er af for den med ikke til har et om var jeg de der"),
    "nb": ("Norwegian", "og at det som en på er av for den med ikke til har et om var jeg de seg"),
    "fi": ("Finnish", "ja on ei että se oli hän mutta ovat joka kun myös tai niin olla sen mukaan ole kuin vain"),
    "pl": ("Polish", "i w na nie się z do to że jest o jak po co ale przez dla od tym był"),
    "cs": ("Czech", "a se na v je že to s z do o i ve jako za by ale jsem po které"),
    "hu": ("Hungarian", "a az és hogy nem is egy ez meg volt van de csak már mint el még ha vagy azt"),
    "ro": ("Romanian", "și de în la a cu nu că pe o mai din este care să un pentru fi ca au"),
    "tr": ("Turkish", "ve bir bu da de için ile çok olarak daha olan gibi var kadar sonra en ama ne o değil"),
    "vi": ("Vietnamese", "và của là các có được cho trong không một người với đã này những để khi từ đến về"),
    "id": ("Indonesian", "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga ke karena ada oleh saya"),
}
_WORD = re.compile(r"[^\W\d_]+")


def other_language(texts: Iterable[str], language: str) -> str | None:
    """Names what texts are written in where that is plainly another language than the given one.

    Args:
        texts: The texts, of which the first 200 are read.
        language: The language as spaCy abbreviates it, like "en"; "xx" is any.

    Returns:
        The English name of the script or language of most texts; None where they may be in `language`.
    """
    if language == "xx":
        return None
    sample = " ".join(text[:2_000] for text in islice(texts, _TEXTS))[:_LETTERS]
    scripts = Counter(unicodedata.name(char, "?").split(" ")[0].split("-")[0] for char in sample if char.isalpha())
    own = _SCRIPTS.get(language, ("LATIN",))
    if sum(scripts[script] for script in own) < 0.5 * scripts.total():
        script = next(name for name, _ in scripts.most_common() if name not in own)
        return "Chinese characters" if script == "CJK" else f"{script.capitalize()} letters"
    if own != ("LATIN",) or language not in _COMMON:
        return None
    words = Counter(_WORD.findall(sample.lower()))
    if words.total() < _LEAST_WORDS:
        return None
    shares = {key: sum(words[word] for word in common.split()) / words.total() for key, (_, common) in _COMMON.items()}
    likeliest = max(shares, key=lambda key: shares[key])
    # English without articles, as in titles and lists, has no rival either; Danish and Norwegian are near to Swedish.
    if shares[likeliest] < 0.15 or shares[likeliest] < 2 * shares[language]:
        return None
    return _COMMON[likeliest][0]


def language_name(language: str) -> str:
    """Gives a language's English name where it is known here, else its abbreviation."""
    return _COMMON[language][0] if language in _COMMON else f"the language {language!r}"
