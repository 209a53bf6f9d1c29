"""Texts in another language than the tagger's are noticed, and English of any kind is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SENTENCES

from selfembed.data.corpus import Corpus
from selfembed.errors import InputError
from selfembed.targets.language import other_language
from selfembed.targets.tagger import load_tagger, require_language
from selfembed.training.plan import make_plan

TEXTS = {
    "ru": "Старый мост в гавани закрыли, потому что его опоры треснули. Установка Python в Linux занимает пять минут.",
    "zh": "港口的理事会在星期二开会讨论那座旧桥。在Linux系统中安装Python只需要五分钟。",
    "hi": "पुराना पुल मंगलवार को बंद कर दिया गया, क्योंकि उसके खंभे टूट गए थे।",
    "ko": "항구의 오래된 다리는 화요일에 폐쇄되었다. 기둥이 갈라졌기 때문이다.",
    "de": "Der alte Hafen wurde am Dienstag geschlossen, weil die Pfeiler der Brücke gerissen sind. Die Ingenieure "
    "sagten, dass die Reparatur zwei Jahre dauern und viel Geld kosten wird. Der Rat wird sich am Mittwoch mit den "
    "Plänen für eine neue Brücke beschäftigen, und auch die Fischer sollen dazu gehört werden.",
    "fr": "Le vieux pont du port a été fermé mardi parce que ses piliers sont fissurés. Les ingénieurs ont dit que la "
    "réparation prendra deux ans et coûtera beaucoup d'argent. Le conseil se réunira mercredi pour discuter des plans "
    "d'un nouveau pont, et les pêcheurs seront entendus eux aussi, car sans le port leur travail n'est pas possible.",
}


@pytest.mark.parametrize(
    ("language", "found"),
    [
        ("ru", "Cyrillic letters"),
        ("zh", "Chinese characters"),
        ("hi", "Devanagari letters"),
        ("ko", "Hangul letters"),
        ("de", "German"),
        ("fr", "French"),
    ],
)
def test_other_languages(language: str, found: str) -> None:
    assert other_language([TEXTS[language]], "en") == found
    assert other_language([TEXTS[language]], language) is None
    assert other_language([TEXTS[language]], "xx") is None
    assert other_language(SENTENCES, "ru") == "Latin letters"
    assert other_language(iter(SENTENCES), "en") is None


@pytest.mark.parametrize(
    "texts",
    [
        ["red fox lamp, garden chair brown, steel kettle 2 l, wooden boat"] * 20,
        ["def open(file): return file.read()"] * 20,
        ["1853, 1860"],
        [],
        ["Los Angeles, San Diego, La Jolla, El Paso, Las Vegas", "The city lies by the sea, and it is large."] * 9,
    ],
)
def test_english_without_articles_is_not_taken_for_another(texts: list[str]) -> None:
    assert other_language(texts, "en") is None


def test_a_plan_is_refused_in_one_line(tiny_backbone_dir: Path) -> None:
    pytest.importorskip("HanTa")
    corpus = Corpus(iter([TEXTS["ru"]] * 5))
    message = "tagger hanta:en-.*: expected texts in English, and these are mostly in Cyrillic letters; .*`pos=None`"
    with pytest.raises(InputError, match=message) as caught:
        make_plan(tiny_backbone_dir, corpus, "text2token", tagger="hanta", device="cpu")
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)
    make_plan(tiny_backbone_dir, corpus, "text2token", tagger="hanta", device="cpu", settings={"pos": None})


def test_a_tagger_says_its_language(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("ru")
    nlp.add_pipe("attribute_ruler").add([[{"LOWER": "мост"}]], {"POS": "NOUN"})
    nlp.to_disk(tmp_path / "rules")
    tagger = load_tagger(str(tmp_path / "rules"))
    assert tagger.language == "ru"
    require_language(tagger, [TEXTS["ru"]])
    with pytest.raises(InputError, match="expected texts in the language 'ru', and these are mostly in Latin letters"):
        require_language(tagger, SENTENCES)

    class Own:
        name = "own"

        def tag(self, texts):
            return [[] for _ in texts]

    require_language(Own(), [TEXTS["ru"]])  # says nothing, so it may know it
