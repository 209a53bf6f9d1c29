"""The words of a similarity add up to it exactly, and are the right ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from runs import plain_embedder
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.explanation.aligned_tokens import bare
from selfembed.explanation.similarity import compare_embeddings, explain_similarity
from selfembed.model.backbone import LMHead

ALL = 640


class Words:
    """As much of a tokenizer as decoding needs."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def batch_decode(self, ids: list[list[int]]) -> list[str]:
        return ["".join(self.words[i] for i in row) for row in ids]


@pytest.fixture(scope="module")
def plain(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    return embedder, backbone.head(), backbone.tokenizer


def by_hand(a: list[float], b: list[float], *words: str):
    """Of two distributions: the head is the identity, so the embeddings are their logarithms."""
    head = LMHead({"weight": torch.eye(len(words))})
    return compare_embeddings(torch.tensor(a).log(), torch.tensor(b).log(), head, Words(*words), k=len(words))


def test_figures_by_hand():
    found = by_hand([0.64, 0.32, 0.04], [0.04, 0.32, 0.64], " fox", " river", "Moon")
    assert found.shared == pytest.approx(0.16 + 0.32 + 0.16)
    assert found.only_a == found.only_b == pytest.approx(0.5 * 0.6**2)
    assert [word.word for word in found.shared_words] == ["river", "fox", "Moon"]
    first = found.shared_words[0]
    assert (first.a, first.b, first.contribution) == pytest.approx((0.32, 0.32, 0.32))
    # 16 times as likely on one side
    assert [word.word for word in found.only_a_words] == ["fox"]
    assert [word.word for word in found.only_b_words] == ["Moon"]
    a, b = (np.log(p) for p in ([0.64, 0.32, 0.04], [0.04, 0.32, 0.64]))
    assert found.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_variants_of_case_and_leading_space_are_one_word():
    found = by_hand([0.1, 0.5, 0.1, 0.3], [0.4, 0.0625, 0.2375, 0.3], "gold", " Gold", " gold", "\ufffd")
    assert [word.word for word in found.shared_words] == ["Gold", "\ufffd"]
    assert (found.shared_words[0].a, found.shared_words[0].b) == pytest.approx((0.7, 0.7))
    assert found.shared == pytest.approx(1) and found.only_a == pytest.approx(0, abs=1e-6)


def test_pieces_of_characters_stay_apart():
    found = by_hand([0.5, 0.1, 0.4], [0.1, 0.5, 0.4], "\ufffd", "\ufffd", " ")
    assert [word.word for word in found.shared_words] == [" ", "\ufffd", "\ufffd"]
    assert found.shared < 1


def test_contributions_add_up_to_the_totals(plain):
    found = explain_similarity(*plain, SENTENCES[0], SENTENCES[1], k=ALL)
    assert sum(word.contribution for word in found.shared_words) == pytest.approx(found.shared, abs=1e-9)
    assert found.shared + found.only_a + found.only_b == pytest.approx(1, abs=1e-9)
    for word in found.shared_words:
        assert word.contribution == pytest.approx(np.sqrt(word.a * word.b))
    for word in (*found.only_a_words, *found.only_b_words):
        assert word.contribution == pytest.approx((np.sqrt(word.a) - np.sqrt(word.b)) ** 2 / 2)
    assert sum(word.a for word in found.shared_words) == pytest.approx(1, abs=1e-9)


def test_against_the_model(plain):
    embedder, head, tokenizer = plain
    found = explain_similarity(embedder, head, tokenizer, *SENTENCES[:2], k=ALL)
    embedding_2D = torch.tensor(embedder.encode(SENTENCES[:2]))
    assert found.cosine == pytest.approx(torch.cosine_similarity(*embedding_2D, dim=0).item(), abs=1e-5)
    p_2V = (embedding_2D.double() @ head.weight.double().T).softmax(-1).numpy()
    probabilities: dict[str, list[float]] = {}
    for i, pair in enumerate(p_2V.T):
        token = tokenizer.decode([i])
        if token and "\ufffd" not in token:
            both = probabilities.setdefault(bare(token), [0.0, 0.0])
            both[0] += pair[0]
            both[1] += pair[1]
    named = {bare(word.word): word for word in found.shared_words if "\ufffd" not in word.word and word.word}
    assert len(named) > 300 and named.keys() <= probabilities.keys()
    for key, word in named.items():
        assert (word.a, word.b) == pytest.approx(tuple(probabilities[key]), rel=1e-3)


def test_a_text_shares_all_with_itself_and_sides_swap(plain):
    same = explain_similarity(*plain, SENTENCES[0], SENTENCES[0])
    assert (same.shared, same.cosine) == pytest.approx((1, 1), abs=1e-6)
    assert same.only_a_words == same.only_b_words == ()
    there = explain_similarity(*plain, SENTENCES[0], SENTENCES[1])
    back = explain_similarity(*plain, SENTENCES[1], SENTENCES[0])
    assert there.shared == pytest.approx(back.shared) and there.only_a == pytest.approx(back.only_b)
    assert [word.word for word in there.only_a_words] == [word.word for word in back.only_b_words]


def test_shown(plain):
    found = explain_similarity(*plain, SENTENCES[0], SENTENCES[1] + " " + "x" * 300, k=3)
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["shared"] == found.shared and len(stored["shared_words"]) == 3
    assert stored["shared_words"][0]["word"] == found.shared_words[0].word
    lines = found.lines()
    assert lines[0] == f"A: {SENTENCES[0]}" and lines[1].endswith(" ...")
    assert lines[2] == f"cosine {found.cosine:.3f}"
    assert f"{found.shared:.3f} shared" in lines[3]
    assert sum("all other words" in line for line in lines) == 3
    assert "not of the cosine" in lines[-1]
    assert any(repr(found.shared_words[0].word) in line for line in lines)


def test_bad_input(plain, tmp_path):
    embedder, head, tokenizer = plain
    other = plain_embedder(save_tiny("llama", tmp_path, hidden_size=16))[1].head()
    for given, message in (
        ((embedder, head, tokenizer, "", "b"), "text 1: empty"),
        ((embedder, None, tokenizer, "a", "b"), "head: none"),
        ((embedder, other, tokenizer, "a", "b"), "width 16, the embeddings have 32"),
    ):
        with pytest.raises(InputError, match=message):
            explain_similarity(*given)
    with pytest.raises(InputError, match="k 0: expected 1 to 640"):
        explain_similarity(*plain, "a", "b", k=0)
    good_D, unit_D = torch.ones(32), torch.eye(32)[0]
    for a_D, b_D, message in (
        (good_D * float("nan"), good_D, "1 of 2 not finite, the first of 'A'"),
        (good_D, good_D * 0, "1 of 2 zero, the first of 'B'"),
        (unit_D, unit_D, "of length 1; expected them as the model gives them"),
    ):
        with pytest.raises(InputError, match=message):
            compare_embeddings(a_D, b_D, head, tokenizer)
