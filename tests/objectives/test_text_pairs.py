"""Pairs as an objective: what it makes of a corpus, its loss by hand, cached gradients, and a mixture with targets."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from materials import material_of
from tiny import save_tiny, training_sentences
from torch.nn import functional as F

import selfembed
from selfembed import Corpus, InputError, Recipe, Stage, load_backbone
from selfembed.data.pair_sources import Pair
from selfembed.losses.pairs import PairsLoss, kept_similarities
from selfembed.model.adapter import adapter_parameters, add_trainable_adapter
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.model.lora import Lora
from selfembed.objectives import Mixture
from selfembed.objectives.objective import Budget
from selfembed.objectives.text_pairs import TextPairs, in_steps

TITLED = Dataset.from_dict(
    {
        "text": [f"The {word} of the story begins here. It goes on for a while, then it ends." for word in "abcdefgh"],
        "title": [f"Story {number // 2}" for number in range(8)],
    }
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(save_tiny("llama", tmp_path_factory.mktemp("pairs") / "model"))


def material(backbone, corpus, batch_size=4):
    texts = list(corpus.texts()["text"])
    return material_of(
        backbone.folder,
        texts,
        corpus=corpus,
        places=range(len(texts)),
        budget=Budget(steps=2, batch_size=batch_size),
    )


def by_hand(query_BD, passage_BD, documents, temperature, both=True):
    """One pair after the other, without any of the loss's own functions."""
    query_BD, passage_BD = F.normalize(query_BD, dim=-1), F.normalize(passage_BD, dim=-1)
    terms = []
    for one, other in ((query_BD, passage_BD), (passage_BD, query_BD)) if both else ((query_BD, passage_BD),):
        for i in range(len(one)):
            rivals = [j for j in range(len(other)) if j == i or documents[j] != documents[i]]
            scores = torch.stack([one[i] @ other[j] / temperature for j in rivals])
            terms.append(torch.logsumexp(scores, 0) - one[i] @ other[i] / temperature)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("both", [True, False])
def test_loss_by_hand(backbone, both):
    embedder = build_embedder(backbone, EmbedderConfig(), device="cpu")
    documents = [0, 0, 1, 2, 2, 3]
    loss = PairsLoss(embedder, documents, temperature=0.1, both_directions=both)
    query_BD, passage_BD = torch.randn(4, 7), torch.randn(4, 7)
    labels = torch.tensor([1, 0, 5, 3])
    constants = loss.constants({}, labels)
    expected = by_hand(query_BD, passage_BD, [0, 0, 3, 2], 0.1, both)
    torch.testing.assert_close(loss.of_embeddings([query_BD, passage_BD], constants), expected)


def test_false_negatives_are_left_out(backbone):
    embedder = build_embedder(backbone, EmbedderConfig(), device="cpu")
    query_BD = torch.eye(3)
    passage_BD = torch.tensor([[0.8, 0.6, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])  # the second is nearer to query 0
    every = PairsLoss(embedder, [0, 1, 2], both_directions=False)
    masked = PairsLoss(embedder, [0, 1, 2], both_directions=False, false_negative_margin=0.0)
    constants = every.constants({}, torch.arange(3))
    read = [query_BD, passage_BD]
    assert masked.of_embeddings(read, constants) < every.of_embeddings(read, constants)


@pytest.mark.parametrize("margin", [None, 0.0])
@pytest.mark.parametrize("centred", [False, True])
def test_loss_with_hard_negatives_by_hand(backbone, margin, centred):
    embedder = build_embedder(backbone, EmbedderConfig(), device="cpu")
    documents = [0, 0, 3, 2]  # the second pair lacks a negative, the first has one of document 3
    negative_documents = [[3, 5], [6, -1], [7, 8], [9, 0]]
    options = {"temperature": 0.1, "false_negative_margin": margin, "centred": centred}
    loss = PairsLoss(embedder, documents, negative_document_NH=negative_documents, **options)
    assert loss.columns == ("query", "negative_1", "negative_2", "text")
    query_BD, first_BD, second_BD, passage_BD = torch.randn(4, 4, 7)
    found = loss.of_embeddings([query_BD, first_BD, second_BD, passage_BD], loss.constants({}, torch.arange(4)))
    mean_D = passage_BD.mean(0) if centred else 0
    query_BD, first_BD, second_BD, passage_BD = (
        F.normalize(one - mean_D, dim=-1) for one in (query_BD, first_BD, second_BD, passage_BD)
    )
    terms, back = [], []
    for i in range(4):
        own = query_BD[i] @ passage_BD[i]
        others = [(j, query_BD[i] @ passage_BD[j]) for j in range(4) if documents[j] != documents[i]]
        near = [score for _, score in others]
        for k, negative_BD in enumerate((first_BD, second_BD)):
            taken = [j for j in range(4) if negative_documents[j][k] not in (-1, documents[i])]
            near += [query_BD[i] @ negative_BD[j] for j in taken]
        near = [score for score in near if margin is None or score <= own - margin]
        terms.append(torch.logsumexp(torch.stack([own, *near]) / 0.1, 0) - own / 0.1)
        # a passage searches for queries alone; what its own query left out is left out here too
        kept = {j for j in range(4) if documents[j] != documents[i]}
        if margin is not None:
            kept = {j for j in kept if query_BD[j] @ passage_BD[i] <= query_BD[j] @ passage_BD[j] - margin}
        scores = torch.stack([own, *(query_BD[j] @ passage_BD[i] for j in kept)])
        back.append(torch.logsumexp(scores / 0.1, 0) - own / 0.1)
    torch.testing.assert_close(found, (torch.stack(terms).mean() + torch.stack(back).mean()) / 2)


def test_what_stands_for_a_missing_negative_gets_no_gradient(backbone):
    embedder = build_embedder(backbone, EmbedderConfig(), device="cpu")
    loss = PairsLoss(embedder, [0, 1, 2], negative_document_NH=[[3], [-1], [4]])
    leaves = [torch.randn(3, 7, requires_grad=True) for _ in range(3)]
    loss.of_embeddings(leaves, loss.constants({}, torch.arange(3))).backward()
    assert leaves[1].grad[1].eq(0).all() and leaves[1].grad[[0, 2]].ne(0).any(1).all()


def test_kept_similarities_by_hand():
    near_NN = torch.tensor([[1.0, 0.2, 0.6], [0.2, 1.0, -0.4], [0.6, -0.4, 1.0]])
    before_NN = torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    terms = []
    for i in range(3):
        others = [j for j in range(3) if j != i]
        p, q = (F.softmax(cosine_NN[i, others] / 0.5, 0) for cosine_NN in (before_NN, near_NN))
        terms.append((p * (p / q).log()).sum())
    torch.testing.assert_close(kept_similarities(near_NN, before_NN, temperature=0.5), torch.stack(terms).mean())
    assert kept_similarities(near_NN, near_NN, temperature=0.05) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [2, 6])
def test_what_is_kept_is_the_embedder_without_its_adapter(backbone, size):
    embedder = build_embedder(backbone, EmbedderConfig(), device="cpu")
    texts = training_sentences()[:6]
    features = {"query": embedder.preprocess(texts), "text": embedder.preprocess(texts[::-1])}
    raw_ND = torch.cat([embedder(dict(one))["sentence_embedding"] for one in features.values()]).detach()
    add_trainable_adapter(embedder, Lora(dropout=0.5))
    for parameter in adapter_parameters(embedder):
        torch.nn.init.normal_(parameter, std=0.3)
    embedder.train()
    loss = PairsLoss(embedder, range(6), keep=0.5, mini_batch_size=size)
    constants = loss.constants(features, torch.arange(6))
    expected_NN = F.normalize(raw_ND, dim=-1) @ F.normalize(raw_ND, dim=-1).T
    torch.testing.assert_close(constants.near_NN, expected_NN, rtol=1e-4, atol=1e-5)
    assert embedder.training and all(parameter.requires_grad for parameter in adapter_parameters(embedder))
    moved = [torch.randn(6, raw_ND.shape[1], requires_grad=True) for _ in range(2)]
    kept = loss.of_embeddings(moved, constants)
    text_ND = F.normalize(torch.cat(moved), dim=-1)
    without = PairsLoss(embedder, range(6)).of_embeddings(moved, constants._replace(near_NN=None))
    torch.testing.assert_close(
        kept, without + 0.5 * kept_similarities(text_ND @ text_ND.T, expected_NN, temperature=0.05)
    )
    kept.backward()
    assert all(leaf.grad.isfinite().all() for leaf in moved)


@pytest.mark.parametrize("negatives", [None, [[6], [7], [-1], [0], [8], [9]]], ids=["", "negatives"])
@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_cached_gradients_are_those_of_the_whole_batch(backbone, keep, negatives):
    embedder = build_embedder(backbone, EmbedderConfig(), device="cpu")
    texts = training_sentences()[:6]
    columns = [texts, *([training_sentences()[6:12]] if negatives else []), texts[::-1]]
    features = [embedder.preprocess(column) for column in columns]
    labels = torch.arange(6)
    found = []
    for size in (6, 4, 1):
        embedder.zero_grad()
        loss = PairsLoss(embedder, range(6), negative_document_NH=negatives, keep=keep, mini_batch_size=size)
        value = loss([dict(one) for one in features], labels) * 3
        value.backward()
        gradients = [p.grad.clone() for p in embedder.parameters() if p.grad is not None]
        found.append((value.detach(), gradients))
    for value, gradients in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        largest = max(float(one.abs().max()) for one in found[0][1])
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * largest)


def test_pairs_of_a_corpus(backbone):
    objective = TextPairs(query_words=4)
    cut = objective.cut(material(backbone, Corpus(TITLED), batch_size=4))
    assert len(cut.texts) == len(cut.columns["query"]) == len(cut.places) == 8
    for query, text, place in zip(cut.columns["query"], cut.texts, cut.places, strict=True):
        assert query and text and len(query.split()) <= 4
        assert set(text.split()) <= {*TITLED["text"][place].split(), *TITLED["text"][place ^ 1].split()}
    documents = objective.prepare(cut).loss.document_N.tolist()
    assert documents == [place // 2 for place in cut.places]
    assert [len(set(documents[step : step + 4])) for step in (0, 4)] == [4, 4], "a step has a document once"


def test_texts_that_come_again_give_other_pairs(backbone):
    cut = TextPairs().cut(material(backbone, Corpus(TITLED), batch_size=40))
    assert len(set(zip(cut.columns["query"], cut.texts, strict=True))) > 16
    again = TextPairs().cut(material(backbone, Corpus(TITLED), batch_size=40))
    assert (again.texts, again.columns) == (cut.texts, cut.columns)


def test_texts_without_a_pair_are_left_out(backbone):
    corpus = Corpus(Dataset.from_dict({"text": ["Short.", *TITLED["text"][:3]]}))
    assert set(TextPairs().cut(material(backbone, corpus)).places) == {1, 2, 3}
    with pytest.raises(InputError, match="0 of 2 texts give a pair of title, sentence, parts, neighbour"):
        TextPairs().cut(material(backbone, Corpus(iter(["Short.", "Shorter."]))))


def test_steps_have_a_document_once_as_long_as_there_are_others():
    pairs = [Pair(str(number), "", number, document, "title") for number, document in enumerate([0, 0, 0, 1, 2, 2])]
    budget = Budget(steps=3, batch_size=2)
    assert [pair.document for pair in in_steps(pairs, budget)] == [0, 1, 0, 2, 0, 2]
    assert [pair.document for pair in in_steps(pairs[:3], Budget(steps=1, batch_size=3))] == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"title": -1.0}, "title -1.0: expected at least 0"),
        (dict.fromkeys(("title", "sentence", "parts", "neighbour"), 0.0), "are all 0"),
        ({"query_words": 0}, "query_words 0: expected at least 1"),
        ({"query_words": 2.5}, "query_words 2.5"),
        ({"temperature": 0.0}, "temperature 0.0: expected a number above 0, e.g. 0.05"),
        ({"false_negative_margin": 3.0}, "false_negative_margin 3.0: expected a number from -2 to 2, e.g. 0 or -0.1"),
        ({"both_directions": "yes"}, "both_directions 'yes': expected True or False"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        TextPairs(**options)


@pytest.mark.parametrize("objective", [TextPairs(), Mixture({"text_pairs": 1.0, "bag_of_tokens": 0.2})])
def test_training_with_more_turns_than_texts(backbone, tmp_path, objective):
    stage = Stage(objective=objective, steps=6, batch_size=4, micro_batch_size=2, max_length=48, learning_rate=1e-2)
    recipe = Recipe(name="pairs", stages={"pairs": stage})
    embedder = selfembed.train(backbone.folder, Corpus(TITLED), recipe, out=tmp_path / "out", dtype="float32")
    assert embedder.encode(["a text"]).shape[0] == 1


def test_the_weight_of_titles_is_not_its_name_in_tables():
    assert TextPairs(title=0.5).display_name == "TextPairs"


def test_a_corpus_of_one_file_gives_negatives_too(backbone, tmp_path):
    (tmp_path / "all.txt").write_text("\n\n".join(TITLED["text"]))
    corpus = Corpus(tmp_path / "all.txt")
    assert set(corpus.passages()["document"]) == {0}
    objective = TextPairs()
    cut = objective.cut(material(backbone, corpus))
    loss = objective.prepare(cut).loss
    assert loss.document_N.tolist() == list(cut.places)
    assert not loss.constants({}, torch.arange(4)).same_BB.all()
