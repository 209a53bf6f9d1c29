"""Our recipe on a tiny model: trained, judged, calibrated, shipped; or the raw backbone shipped instead."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, of_one_length, save_tiny

import selfembed
from selfembed import Corpus, InputError, load_backbone
from selfembed.calibration.affine_map import identity, map_of, without_map
from selfembed.calibration.calibrate import calibrate
from selfembed.calibration.choice import Choice, choose_map
from selfembed.calibration.readings import LAST_TOKEN, READINGS
from selfembed.explanation.aligned_tokens import load_explained
from selfembed.ground.progress import silent
from selfembed.model.embedder import build_embedder
from selfembed.recipes import find_recipe, override
from selfembed.training import judgement, run
from selfembed.training.judgement import Judge
from selfembed.training.plan import make_plan

TEXTS = [f"{one} {other}" for one, other in zip(SENTENCES[:30], SENTENCES[30:60], strict=True)]
CORPUS = Dataset.from_dict({"text": TEXTS, "title": [f"Part {number}" for number in range(30)]})
SETTINGS = {"steps": 4, "batch_size": 4, "micro_batch_size": 2, "max_length": 48, "calibration_pairs": 12}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("llama", tmp_path_factory.mktemp("selfembed") / "model")


def train(model, out, **settings):
    given = {**SETTINGS, **settings}
    selfembed.train(
        model, Corpus(CORPUS), "selfembed", out=out, settings=given, dtype="float32", saved_dtype="float32"
    )
    return json.loads((out / "selfembed.json").read_text())["self_retrieval"]


def test_trained_judged_and_shipped_as_a_stock_folder(model, tmp_path):
    record = train(model, tmp_path / "out", learning_rate=1e-2)
    shipped = record[record["shipped"]]
    assert 8 <= shipped["pairs"] <= 12 and shipped["self_retrieval_ndcg@10"]["as it is"] > 0
    assert record["unseen"] is True
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert (map_of(stock) is not None) == (shipped["chosen"] != "as it is")


def test_a_training_that_harms_ships_the_raw_backbone_and_says_so(model, tmp_path, monkeypatch):
    """The map is chosen afterwards here, for each of the two."""
    scores = iter([0.9, 0.1])

    def worse(search, vectors_ND, **options):
        choice = choose_map(search, vectors_ND, **options)
        return type(choice)(choice.map, dict.fromkeys(choice.scores, next(scores)), choice.pairs)

    monkeypatch.setattr(judgement, "choose_map", worse)
    record = train(model, tmp_path / "out", learning_rate=1e-2, calibration="after")
    assert record["shipped"] == "raw"
    stock = without_map(SentenceTransformer(str(tmp_path / "out"), device="cpu"))
    raw = build_embedder(load_backbone(model), find_recipe("selfembed").embedder, device="cpu")
    np.testing.assert_allclose(stock.encode(TEXTS[:3]), raw.encode(TEXTS[:3]), rtol=1e-4, atol=1e-5)


def test_trained_in_front_of_the_map_that_is_shipped(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Choice, "score", property(lambda choice: 1.0))  # a tiny model's training gains nothing
    monkeypatch.setattr(judgement, "choose_map", partial(choose_map, standard_errors=0.0))  # nor are its maps apart
    record = train(model, tmp_path / "out", learning_rate=1e-3)
    assert (
        record["shipped"] == "trained"
        and len(record["raw"]["self_retrieval_ndcg@10"]) > 3
        and record["raw"]["chosen"] != "as it is"
    )
    assert list(record["trained"]["self_retrieval_ndcg@10"]) == ["as it is"], "the map is in it already"
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert [type(module).__name__ for module in stock] == [
        "Transformer",
        "WeightedLayerPooling",
        "Pooling",
        "Dense",
        "LayerNorm",
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "leave out WeightedLayerPooling, Dense, LayerNorm and give other vectors" in card
    recipe = override(find_recipe("selfembed"), SETTINGS)
    raw = build_embedder(load_backbone(model), recipe.embedder, device="cpu")
    search = Judge(make_plan(model, Corpus(CORPUS), recipe, dtype="float32", device="cpu"), tmp_path / "x", silent)
    chosen = search.raw.map
    np.testing.assert_allclose(map_of(stock).matrix_DK, chosen.matrix_DK, rtol=1e-5, atol=1e-6)
    trained, plain = stock.encode(TEXTS[:5]), chosen(raw.encode(TEXTS[:5]))
    assert np.abs(trained - plain).max() > 1e-3, "the adapter has learnt something"


def test_explanations_read_the_last_tokens_state(model, tmp_path):
    train(model, tmp_path / "out")
    found = load_explained(tmp_path / "out")
    assert [type(module).__name__ for module in found.embedder] == ["Transformer", "Pooling"]
    raw = build_embedder(load_backbone(model), LAST_TOKEN, device="cpu")
    np.testing.assert_allclose(found.raw.encode(TEXTS[:3]), raw.encode(TEXTS[:3]), atol=1e-5)
    assert len(selfembed.explain(tmp_path / "out", TEXTS[:2]).texts) == 2


def test_where_training_harms_the_calibrated_backbone_is_shipped(model, tmp_path, monkeypatch):
    nothing = Choice(identity(64), {"as it is": 0.0}, 12)
    monkeypatch.setattr(Judge, "as_it_is", lambda judge, vectors_ND: nothing)
    monkeypatch.setattr(judgement, "choose_map", partial(choose_map, standard_errors=0.0))
    assert train(model, tmp_path / "out", learning_rate=1e-2)["shipped"] == "raw"
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    raw = build_embedder(load_backbone(model), find_recipe("selfembed").embedder, device="cpu")
    mapped = map_of(stock)
    assert mapped is not None
    np.testing.assert_allclose(
        stock.encode(TEXTS[:3]), of_one_length(mapped(raw.encode(TEXTS[:3]))), rtol=1e-3, atol=1e-4
    )


def test_interrupted_it_goes_on_behind_the_same_map(model, tmp_path, monkeypatch):
    train(model, tmp_path / "whole", learning_rate=1e-2)

    def fails(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "export_embedder", fails)
        train(model, tmp_path / "out", learning_rate=1e-2)
    assert (tmp_path / "out.partial" / "raw.safetensors").is_file()
    read = Judge.vectors

    def vectors(judge, embedder, name):
        assert name != "raw", "the raw embedder reads nothing again"
        return read(judge, embedder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "vectors", vectors)
        train(model, tmp_path / "out", learning_rate=1e-2)
    assert not (tmp_path / "out.partial").exists()
    first, second = (SentenceTransformer(str(tmp_path / name), device="cpu") for name in ("whole", "out"))
    np.testing.assert_array_equal(first.encode(TEXTS[:3]), second.encode(TEXTS[:3]))


@pytest.mark.parametrize(
    "option",
    [
        {"calibration": "before", "calibration_pairs": 12},
        {"embedder.word_embeddings": 1},
        {"embedder.pooling": "mean+last"},
    ],
)
def test_token_targets_want_final_states(model, tmp_path, option):
    with pytest.raises(InputError, match="through the decoder layer"):
        selfembed.train(model, Corpus(CORPUS), "text2token-small", out=tmp_path / "out", settings=option)


def test_too_small_a_corpus_is_refused_in_one_line(model, tmp_path):
    with pytest.raises(InputError, match="expected at least 8"):
        selfembed.train(model, Corpus(CORPUS.select(range(6))), "selfembed", out=tmp_path / "out", settings=SETTINGS)


def test_calibrate_a_raw_backbone_and_a_finished_embedder(model, tmp_path):
    found = calibrate(model, Corpus(CORPUS), out=tmp_path / "raw", pairs=12, device="cpu")
    choice = found.choice
    assert list(found.tried) == list(READINGS) and choice.score == max(one.score for one in found.tried.values())
    assert choice.scores[choice.map.name] >= choice.scores["as it is"]
    stock = SentenceTransformer(str(tmp_path / "raw"), device="cpu")
    raw = build_embedder(load_backbone(model), READINGS[found.reading], device="cpu")
    found_ND, expected_ND = stock.encode(TEXTS[:3]), choice.map(raw.encode(TEXTS[:3]))
    norms_N = np.linalg.norm(found_ND, axis=1) * np.linalg.norm(expected_ND, axis=1)
    assert ((found_ND * expected_ND).sum(1) > 0.9999 * norms_N).all(), "the folder's weights are rounded to float16"
    selfembed.train(
        model,
        Corpus(CORPUS),
        "selfembed",
        out=tmp_path / "plain",
        settings={**SETTINGS, "calibration_pairs": 0, "calibration": "after"},
        dtype="float32",
    )
    again = calibrate(tmp_path / "plain", Corpus(CORPUS), out=tmp_path / "again", pairs=12, device="cpu")
    assert not any("half" in name for name in again.choice.scores), "a folder brings no decoder layer to take bands of"
    assert (tmp_path / "again" / "selfembed.json").exists()
    with pytest.raises(InputError, match="exists already"):
        calibrate(tmp_path / "plain", Corpus(CORPUS), out=tmp_path / "again", pairs=12)
