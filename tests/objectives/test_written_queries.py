"""Written queries as a source of pairs: the filter, what stands in for what is dropped, the cache, who is asked."""

from __future__ import annotations

import dataclasses
import json

import pytest
from materials import material_of
from tiny import SENTENCES, save_tiny, save_tiny_embedder

import selfembed
from selfembed import Corpus, InputError, Recipe, Stage, load_backbone
from selfembed.objectives import Mixture, written_queries
from selfembed.objectives.objective import Budget, Measured
from selfembed.objectives.text_pairs import TextPairs
from selfembed.objectives.written_queries import WrittenQueries, finding_their_own, is_usable
from selfembed.training.estimate import estimate
from selfembed.training.plan import make_plan

TEXTS = SENTENCES[:12]
ALONE = dict.fromkeys(("title", "sentence", "parts", "neighbour"), 0.0)


def good(passage):
    """A query of the passage's last words."""
    return " ".join(passage.split()[-4:])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(save_tiny("llama", tmp_path_factory.mktemp("written") / "model"))


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Stands in for the writer; lists the passages that it is asked for, call by call."""
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    calls: list[list[str]] = []
    says = {"query": good}

    def write(writer, passages, **options):
        calls.append(list(passages))
        return [says["query"](passage) for passage in passages]

    monkeypatch.setattr(written_queries, "write_queries", write)
    return calls, says


def material(backbone, texts=TEXTS, steps=3, **given):
    return material_of(
        backbone.folder,
        texts,
        corpus=Corpus(iter(texts)),
        places=range(len(texts)),
        budget=Budget(steps=steps, batch_size=4),
        **given,
    )


def test_a_query_that_finds_another_passage_is_dropped():
    passages = dict(enumerate(TEXTS, 100))
    queries = {number: good(text) for number, text in passages.items()}
    assert finding_their_own(queries, passages) == set(passages)
    swapped = {100: queries[105], 105: queries[105], 106: "nothing of all that"}
    assert finding_their_own(swapped, passages) == {105}


@pytest.mark.parametrize(("others", "found"), [(9, True), (10, False)])
def test_the_tenth_place_is_the_last(others, found):
    near = [f"winter storms in the town of number {n}" for n in range(others)]
    far = [f"green {word} grow slowly" for word in ("trees", "leaves", "herbs") * 10]
    passages = dict(enumerate([*near, "storms of many other kinds that are worth a longer text than this", *far]))
    assert (others in finding_their_own({others: "winter storms"}, passages)) is found


def test_the_first_third_of_few():
    passages = dict(enumerate(["red fox", "red fox and grey wolf and other animals", "blue whale"]))
    assert finding_their_own({1: "red fox"}, passages) == set()
    assert finding_their_own({1: "grey wolf"}, passages) == {1}


@pytest.mark.parametrize(
    ("query", "usable"),
    [("", False), ("lighthouse", False), ("The old lighthouse keeper.", False), ("lighthouse keeper", True)],
)
def test_empty_short_and_copied_queries(query, usable):
    assert is_usable(query, TEXTS[0]) is usable


def test_written_again_from_the_cache(backbone, written):
    calls, _ = written
    passages = dict(enumerate(TEXTS))
    first = WrittenQueries(backbone, passages)
    assert first.of([3, 5, 3]) == {3: good(TEXTS[3]), 5: good(TEXTS[5])}
    assert first.of([5]) == {5: good(TEXTS[5])} and calls == [[TEXTS[3], TEXTS[5]]]
    again = WrittenQueries(backbone, passages)
    assert again.of([3, 5]) == first.of([3, 5]) and len(calls) == 1
    assert again.of([3, 6]) == {3: good(TEXTS[3]), 6: good(TEXTS[6])} and calls[1:] == [[TEXTS[6]]]
    assert again.notes() == {"writer": backbone.name, "asked": 3, "kept": 3}


def test_pairs_of_written_queries_alone(backbone, written):
    calls, _ = written
    cut = TextPairs(**ALONE, written=1).cut(material(backbone))
    assert set(cut.columns["query"]) == {good(text) for text in cut.texts} and set(cut.texts) == set(TEXTS)
    assert cut.notes == {"written": {"writer": backbone.name, "asked": 12, "kept": 12}}
    assert TextPairs(**ALONE, written=1).prepare(cut).notes["written"]["kept"] == 12
    twice = TextPairs(**ALONE, written=1).cut(material(backbone, steps=6))
    assert len(calls) == 1 and sorted(twice.texts) == sorted(TEXTS * 2), "no passage is written for twice"


def test_only_as_many_are_written_as_are_drawn(backbone, written):
    calls, _ = written
    cut = TextPairs(**{**ALONE, "parts": 1.0}, written=1).cut(material(backbone))
    asked = cut.notes["written"]["asked"]
    assert 0 < asked < 12 and len(calls[0]) == asked
    assert sum(query == good(text) for query, text in zip(cut.columns["query"], cut.texts, strict=True)) == asked


def test_for_a_pair_that_is_missing_one_more_is_written(backbone, written):
    calls, _ = written
    texts = [*TEXTS, "Short."]  # gives no pair
    given = material(backbone, texts)
    given = dataclasses.replace(given, places=[12, *range(11)])
    cut = TextPairs(**{**ALONE, "parts": 1.0}, written=1).cut(given)
    assert len(cut.texts) == 12 and len(calls) <= 2 and sum(map(len, calls[1:])) <= 1


def test_other_sources_stand_in_for_what_is_dropped(backbone, written):
    _, says = written
    bad = TEXTS[:4]
    says["query"] = lambda passage: good(TEXTS[9]) if passage in bad else good(passage)
    cut = TextPairs(**{**ALONE, "parts": 1e-9}, written=1).cut(material(backbone))
    assert cut.notes["written"]["kept"] == 8
    for query, text, place in zip(cut.columns["query"], cut.texts, cut.places, strict=True):
        assert (text, query) == (TEXTS[place], good(text)) or (place < 4 and f"{query} {text}" != TEXTS[place])
        assert query in TEXTS[place] and text in TEXTS[place]


def test_where_nothing_else_gives_a_pair_there_is_none(backbone, written):
    _, says = written
    says["query"] = lambda passage: good(passage) if passage in TEXTS[:3] else "lighthouse"
    assert set(TextPairs(**ALONE, written=1).cut(material(backbone)).places) == {0, 1, 2}
    says["query"] = lambda passage: "words of no passage at all"
    with pytest.raises(InputError, match="writer .*: none of 12 queries that it wrote finds its passage; expected"):
        TextPairs(**ALONE, written=1).cut(
            material(backbone, [f"{text} Indeed." for text in TEXTS])
        )  # not in the cache


def test_nothing_is_written_to_be_looked_at(backbone, written):
    calls, _ = written
    cut = TextPairs(**ALONE, written=1).cut(material(backbone, look=True))
    assert not calls and not cut.notes and all(cut.columns["query"])
    recipe = Recipe(
        name="w", stages={"w": Stage(objective=TextPairs(written=1), steps=2, batch_size=4, max_length=48)}
    )
    guess = estimate(make_plan(backbone.folder, Corpus(iter(TEXTS)), recipe, dtype="float32", device="cpu"))
    assert not calls and guess.stages[0].texts == 8


def test_writing_takes_its_time():
    measured = Measured(
        texts=100, words=1, statistics_texts=1, mean_tokens=50.0, tokens_per_second=10.0, texts_read=60
    )
    assert TextPairs().preparation_seconds(measured) == 0
    assert TextPairs(written=1).preparation_seconds(measured) == pytest.approx(60 / 5 * (50 + 450) / 10)
    assert TextPairs(negatives=1).preparation_seconds(measured) == 0
    assert TextPairs(negatives=1, miner="embedder").preparation_seconds(measured) == pytest.approx(600)


@pytest.mark.parametrize("mixed", [False, True])
def test_training_by_another_writer(backbone, tmp_path, monkeypatch, mixed):
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    writer = save_tiny("qwen2", tmp_path / "writer")
    pairs = TextPairs(negatives=1)
    objective = Mixture({"text_pairs": 1.0, "bag_of_tokens": 0.2}, {"text_pairs": pairs}) if mixed else pairs
    stage = Stage(objective=objective, steps=3, batch_size=4, micro_batch_size=2, max_length=48)
    settings = {"written": 1, "writer": str(writer)}
    recipe = Recipe(name="w", stages={"w": stage})
    selfembed.train(
        backbone.folder, Corpus(iter(TEXTS)), recipe, out=tmp_path / "out", settings=settings, dtype="float32"
    )
    (record,) = json.loads((tmp_path / "out" / "selfembed.json").read_text())["stages"]
    notes = record["parts"]["text_pairs"] if mixed else record
    assert notes["written"]["writer"] == str(writer) and notes["written"]["asked"] > 0
    assert sum(notes["negatives"]["pairs_by_number_found"].values()) == 12
    assert len(list((tmp_path / "cache" / "queries").iterdir())) >= 1


def test_refused_before_anything_is_trained(backbone, tmp_path):
    ready = save_tiny_embedder("bert", tmp_path / "ready")
    corpus = Corpus(iter(TEXTS))
    with pytest.raises(InputError, match="written 1: .* is an embedder already, which writes no queries; .*`writer="):
        make_plan(ready, corpus, "adapt", settings={"written": 1})
    make_plan(ready, corpus, "adapt", settings={"written": 1, "writer": str(backbone.folder)})
    with pytest.raises(InputError, match="stage text_pairs of recipe selfembed: writer no/where: no such folder"):
        make_plan(backbone.folder, corpus, "selfembed", settings={"written": 1, "writer": "no/where"})
    with pytest.raises(InputError, match="stage text_pairs.*: writer .*: bert is not|writer .*: an embedder"):
        make_plan(backbone.folder, corpus, "selfembed", settings={"written": 1, "writer": str(ready)})
