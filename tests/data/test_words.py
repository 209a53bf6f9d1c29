"""Words and sentences of any script."""

from __future__ import annotations

import pytest

from selfembed.data.words import count_words, first_sentence, heading_of, join_words, split_words

TEXTS = [
    "The  harbour\ncouncil, met.",
    "港口的理事会在星期二开会讨论那座旧桥。工程师说桥墩已经开裂,修理需要两年。",
    "在Linux系统(内核)中安装“Python” 3.11需要 pip install，然后重启。",
    "他说：「今天天气很好。」然后走了",
    "สภาท่าเรือประชุมกัน ในวันอังคาร",
    "がぎぐが",
    "Tokyo (東京) is large.",
    "पुराना पुल बंद है।",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_make_their_text_again(text: str) -> None:
    assert join_words(split_words(text)) == " ".join(text.split())


def test_counts() -> None:
    assert [count_words(text) for text in ("one two", "港口的理事会。", "Tokyo (東京) is", "पुराना पुल", "")] == [
        2, 6, 3, 2, 0
    ]  # fmt: skip
    assert count_words("สภาท่าเรือประชุมกันในวันอังคาร") > 20


def test_signs_stay_with_their_words() -> None:
    words = join_words(split_words("他说：「今天天气很好。」然后走了")[:8])
    assert words == "他说：「今天天气很好。」"


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("港口的理事会开会。工程师说桥墩开裂。", "港口的理事会开会。", "工程师说桥墩开裂。"),
        ("他说：“好。”然后走了。", "他说：“好。”", "然后走了。"),
        ("「いいですね！」と言った。次の文。", "「いいですね！」", "と言った。次の文。"),
        ("真的？！是的。", "真的？！", "是的。"),
        ("桥墩开裂.修理需要两年.", "桥墩开裂.", "修理需要两年."),
        ("पुल बंद है। खंभे टूटे।", "पुल बंद है।", "खंभे टूटे।"),
        ("ما هذا؟ هذا جسر.", "ما هذا؟", "هذا جسر."),
        ("The end is near. It will rain.", "The end is near.", "It will rain."),
        ('He said "no!" Then he left.', 'He said "no!', "Then he left."),
        ("About locks\nA lock is held. It waits.", "About locks", "A lock is held. It waits."),
        ("See e.g. the manual. Then go.", "See e.g. the manual.", "Then go."),
        ("Version 2.5 is out now", "Version 2.5 is out now", ""),
    ],
)
def test_first_sentences(text: str, first: str, rest: str) -> None:
    assert first_sentence(text) == (first, rest)


def test_headings() -> None:
    assert heading_of(" The old\tbridge \n") == "The old bridge" and heading_of("旧桥") == "旧桥"
    for line in ("It fell.", "", "Is it so?", "word " * 21, "桥墩已经开裂，", "and then:"):
        assert heading_of(line) == ""
