"""Data-driven targets and the bag of tokens: against scikit-learn, and by hand on small corpora."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from selfembed.errors import InputError
from selfembed.objectives.data_driven import DataDriven
from selfembed.targets.bag_of_tokens import build_bag_of_tokens
from selfembed.targets.data_driven import BareTokenizer, TokenStatistics, build_targets, token_groups

PETS = ["cat dog dog", "cat bird", "bird cat fish"]  # idf: cat 0, dog and fish ln 3, bird ln 1.5


@dataclass
class StubTagger:
    """Tags the occurrences of each word, in a text, with the word's tags in turn; all other words with NOUN."""

    tags: dict[str, list[str]] = field(default_factory=dict)
    name: str = "stub"

    def tag(self, texts):
        for text in texts:
            left = {word: list(tags) for word, tags in self.tags.items()}
            yield [
                (match.start(), match.end(), left[match.group()].pop(0) if left.get(match.group()) else "NOUN")
                for match in re.finditer(r"\w+", text)
            ]


def word_level(words: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[UNK]", *words.split()])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def byte_level(corpus: list[str], size: int = 600, trim_offsets: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim_offsets)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=1
    )
    backend.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def targets_of(texts, tokenizer, options=None, tagger=None, vocab_size=None):
    options = options or DataDriven()
    vocab_size = vocab_size or len(tokenizer)
    statistics = TokenStatistics.collect(texts, tokenizer, options, vocab_size)
    return build_targets(texts, tokenizer, tagger or StubTagger(), statistics, options, vocab_size)


def as_dict(targets, index: int, tokenizer) -> dict[str, float]:
    ids, weights = targets.row(index)
    return {tokenizer.convert_ids_to_tokens(int(i)): float(w) for i, w in zip(ids, weights, strict=True)}


@pytest.fixture(scope="module")
def pets() -> PreTrainedTokenizerFast:
    return word_level("cat dog bird fish cow")  # V = 6 with [UNK]


FORMS = [
    (DataDriven(), {"bird": 0.269577, "fish": 0.730423}, 0.0),
    (DataDriven(tf="corpus"), {"bird": 0.155787, "fish": 0.844213}, 0.0),  # 1 of 2 birds, the only fish
    (DataDriven(form="softmax_support"), {"bird": 0.442494, "fish": 0.557506}, 0.0),
    (DataDriven(form="softmax_temperature", temperature=0.1), {"bird": 0.090258, "fish": 0.909742}, 0.0),
    (DataDriven(form="literal"), {"bird": 0.173785, "fish": 0.218955}, 0.607260),  # the other four e^0 each
]


@pytest.mark.parametrize(("options", "weights", "rest"), FORMS)
def test_forms_by_hand(pets, options, weights, rest):
    targets = targets_of(PETS, pets, options)
    assert as_dict(targets, 2, pets) == pytest.approx(weights, abs=1e-6)
    assert rest == 0.0 if targets.rest_N is None else targets.rest_N[2] == pytest.approx(rest, abs=1e-6)
    assert list(as_dict(targets, 0, pets)) == ["dog"]  # "cat" is in every document: idf 0


def test_idf_and_tf_equal_scikit_learn():
    texts = ["the red fox sees the dog", "a dog sees a red red cat", "the cat sleeps", "dogs and cats and foxes"]
    tokenizer = byte_level(texts, size=300)
    options = DataDriven(pos=None)
    bare = BareTokenizer(tokenizer, len(tokenizer))
    counter = CountVectorizer(analyzer=lambda text: bare.ids([text])[0].tolist())
    counts = counter.fit_transform(texts).toarray()
    idf = TfidfTransformer(smooth_idf=False, norm=None).fit(counts).idf_ - 1  # theirs is ln(D / df) + 1
    ids = counter.get_feature_names_out().astype(int)

    statistics = TokenStatistics.collect(texts, tokenizer, options, len(tokenizer))
    targets = build_targets(texts, tokenizer, None, statistics, options, len(tokenizer))

    np.testing.assert_allclose(statistics.idf_V[ids], idf)
    np.testing.assert_array_equal(statistics.count_V[ids], counts.sum(0))
    assert statistics.count_V.sum() == counts.sum()
    scores = counts / counts.sum(1, keepdims=True) * idf
    for index, row in enumerate(scores / scores.sum(1, keepdims=True)):
        dense = np.zeros(len(tokenizer))
        dense[targets.row(index)[0]] = targets.row(index)[1]
        np.testing.assert_allclose(dense[ids], row, atol=1e-7)


def test_literal_reading_is_uniform_on_a_real_vocabulary(pets):
    targets = targets_of(PETS, pets, DataDriven(form="literal"), vocab_size=50_000)
    np.testing.assert_allclose(targets.entropy_N, math.log(50_000), atol=5e-5)
    np.testing.assert_allclose(np.add.reduceat(targets.weights_S, targets.offsets_N1[:-1]) + targets.rest_N, 1.0)


def test_statistics_stream_add_up_and_round_trip(pets, tmp_path: Path):
    options = DataDriven()
    seen: list[tuple] = []
    many = (PETS[i % 3] for i in range(2500))
    whole = TokenStatistics.collect(many, pets, options, 6, lambda *told: seen.append(told))
    parts = [TokenStatistics.collect(PETS * n, pets, options, 6) for n in (400, 433)]
    rest = TokenStatistics.collect(PETS[:1], pets, options, 6)
    assert [(task, done) for task, done, _ in seen] == [("token statistics", n) for n in (1000, 2000, 2500)]
    whole.save(tmp_path / "statistics.safetensors")
    for other in (parts[0] + parts[1] + rest, TokenStatistics.load(tmp_path / "statistics.safetensors")):
        assert other.documents == whole.documents == 2500
        assert (other.variants, other.leading_space) == ("keep", True)
        np.testing.assert_array_equal(other.df_V, whole.df_V)
        np.testing.assert_array_equal(other.count_V, whole.count_V)


def test_targets_of_texts_outside_the_corpus(pets):
    statistics = TokenStatistics.collect(PETS, pets, DataDriven(), 6)
    targets = build_targets(["cow bird unheard"], pets, StubTagger(), statistics, DataDriven(), 6)
    unseen, known = math.log(3), math.log(1.5)  # a token the corpus lacks counts as in one text; [UNK] never scores
    expected = {"cow": unseen / (unseen + known), "bird": known / (unseen + known)}
    assert as_dict(targets, 0, pets) == pytest.approx(expected)


def test_each_occurrence_is_judged_by_its_own_tag():
    tokenizer = word_level("The record shows they it what . cow dog")
    texts = ["The record shows what they record .", "cow dog dog", "it"]
    tagger = StubTagger({"record": ["NOUN", "VERB"], "shows": ["VERB"], "The": ["DET"], "what": ["PRON"],
                         "they": ["PRON"], "cow": ["ADJ"], "it": ["PRON"]})  # fmt: skip
    statistics = TokenStatistics.collect(texts, tokenizer, DataDriven(), len(tokenizer))
    options = DataDriven(form="softmax_support")
    targets = build_targets(texts, tokenizer, tagger, statistics, options, len(tokenizer))
    assert as_dict(targets, 0, tokenizer) == {"record": 1.0}
    assert targets.support_N.tolist() == [1, 2, 0]
    literal = build_targets(texts, tokenizer, tagger, statistics, DataDriven(form="literal"), len(tokenizer))
    one_of_seven = math.exp(math.log(3) / 7)  # the noun only, of a text of seven tokens
    assert literal.weights_S[0] == pytest.approx(one_of_seven / (one_of_seven + len(tokenizer) - 1))
    assert literal.rest_N[2] == 0.0  # no key token: empty, not uniform


@pytest.mark.parametrize("trim_offsets", [False, True])
def test_all_pieces_of_a_kept_word_count_and_no_neighbour(trim_offsets):
    tokenizer = byte_level(["ab"], size=256, trim_offsets=trim_offsets)  # no merges: each byte is a token
    text = "go naïve 東京 🦊, ok"
    spans = [(3, 8, "ADJ"), (9, 11, "PROPN"), (12, 13, "NOUN"), (0, 2, "VERB"), (15, 17, "INTJ")]
    tagger = SimpleNamespace(name="spans", tag=lambda texts: [spans if text == t else [] for t in texts])
    targets = targets_of([text, "x"], tokenizer, tagger=tagger)
    kept = {tokenizer.convert_ids_to_tokens(int(i)) for i in targets.row(0)[0]}
    expected = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("naïve東京🦊")
    assert kept == set("".join(piece for piece, _ in expected))
    assert targets.support_N.tolist() == [len(kept), 0]


@pytest.mark.parametrize("tag", ["NOUN", "VERB"])
def test_leading_space_shifts_offsets(tag):
    texts = ["fox sees dog", "dog sees fox", "cow"]
    tokenizer = byte_level(["x fox sees dog cow"] * 9)
    tagger = StubTagger({"fox": [tag], "sees": ["VERB"], "dog": ["VERB"]})
    first = as_dict(targets_of(texts, tokenizer, tagger=tagger), 0, tokenizer)
    assert first == ({"Ġfox": 1.0} if tag == "NOUN" else {})
    unspaced = as_dict(targets_of(texts, tokenizer, DataDriven(leading_space=False), tagger), 0, tokenizer)
    assert "Ġfox" not in unspaced and bool(unspaced) == (tag == "NOUN")


def test_no_second_space_where_the_tokenizer_adds_one():
    backend = Tokenizer(models.BPE({"▁": 0, "a": 1, "▁a": 2}, [("▁", "a")]))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bare = BareTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend), 3)
    assert bare.ids(["a a"])[0].tolist() == [2, 2]


def test_callers_truncation_and_padding_are_neither_obeyed_nor_changed(pets):
    tokenizer = word_level("cat dog bird fish cow")
    tokenizer.add_special_tokens({"pad_token": "[UNK]"})
    tokenizer(PETS, truncation=True, max_length=2, padding="max_length")
    assert as_dict(targets_of(PETS, tokenizer), 2, tokenizer) == as_dict(targets_of(PETS, pets), 2, pets)
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 2


def test_texts_without_key_tokens_have_empty_rows(pets):
    targets = targets_of(["?!", "cat", "", "dog"], pets)
    assert targets.support_N.tolist() == [0, 1, 0, 1]
    assert len(targets_of(["..."], pets)) == 1


VARIANTS = ["Fox fox", "a fox", "a cow", "a Cow Owl"]


def variant_tokenizer() -> PreTrainedTokenizerFast:
    tokens = ["a", "Ġa", "Fox", "fox", "ĠFox", "Ġfox", "Ġcow", "ĠCow", "cow", "ĠOwl", "owl", "Ġ", "é"]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="Ġ"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_token_groups():
    groups = token_groups(variant_tokenizer(), 14)  # the last row is no token
    assert groups.dtype == np.int32
    assert groups.tolist() == [0, 0, 2, 2, 2, 2, 6, 6, 6, 9, 9, 11, 12, 13]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("bare", [{"Fox": 1.0}, {"fox": 1.0}, {"cow": 1.0}, {"ĠCow", "ĠOwl"}]),  # no bare "Cow" or "Owl": their own
        ("spaced", [{"ĠFox": 1.0}, {"Ġfox": 1.0}, {"Ġcow": 1.0}, {"ĠCow", "ĠOwl"}]),
        ("common", [{"Ġfox": 1.0}, {"Ġfox": 1.0}, {"Ġcow": 1.0}, {"Ġcow", "ĠOwl"}]),
    ],
)
def test_merged_variants_share_one_id(form, written):
    tokenizer = variant_tokenizer()
    options = DataDriven(variants="merge", variant_form=form)
    targets = targets_of(VARIANTS, tokenizer, options, StubTagger({"a": ["DET"]}))
    rows = [as_dict(targets, i, tokenizer) for i in range(4)]
    assert rows[:3] == written[:3]
    assert set(rows[3]) == written[3]
    cow, owl = math.log(4 / 2), math.log(4 / 1)  # in two texts, either case
    assert sorted(rows[3].values()) == pytest.approx([cow / (cow + owl), owl / (cow + owl)])


def test_bag_of_tokens_is_uniform(pets):
    bag = build_bag_of_tokens([*PETS, "", "unheard cow"], pets, 6)
    assert as_dict(bag, 0, pets) == {"cat": 0.5, "dog": 0.5}
    assert as_dict(bag, 2, pets) == pytest.approx({"cat": 1 / 3, "bird": 1 / 3, "fish": 1 / 3})
    assert as_dict(bag, 4, pets) == {"cow": 1.0}
    assert bag.support_N.tolist() == [2, 2, 3, 0, 1]


def test_unusable_input_raises(pets):
    with pytest.raises(InputError, match="slow tokenizer"):
        build_bag_of_tokens(PETS, SimpleNamespace(is_fast=False), 6)
    with pytest.raises(InputError, match="id 4, but the decoder layer has 3 rows"):
        build_bag_of_tokens(["fish"], pets, 3)
    with pytest.raises(InputError, match="no text"):
        targets_of([], pets)
    statistics = TokenStatistics.collect(PETS, pets, DataDriven(), 6)
    with pytest.raises(InputError, match="no tagger"):
        build_targets(PETS, pets, None, statistics, DataDriven(), 6)
    with pytest.raises(InputError, match="collect the statistics anew"):
        build_targets(PETS, pets, StubTagger(), statistics, DataDriven(variants="merge"), 6)


@pytest.mark.parametrize(
    ("option", "value"),
    [("form", "uniform"), ("temperature", 0.0), ("pos", ("NOUNS",)), ("pos", ()), ("variants", "drop")],
)
def test_options_are_checked(option, value):
    with pytest.raises(InputError, match=option):
        DataDriven(**{option: value})
