"""Calibration as the last step of any recipe, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, of_one_length, save_tiny

import selfembed
from selfembed import Corpus, InputError
from selfembed.calibration.affine_map import candidates, map_of, without_map
from selfembed.calibration.choice import Choice
from selfembed.model.embedder import load_embedder
from selfembed.recipes import RECIPES, find_recipe, override
from selfembed.recipes.recipe import with_calibration
from selfembed.training import judgement

TEXTS = [f"{one} {other}" for one, other in zip(SENTENCES[:30], SENTENCES[30:60], strict=True)]
CORPUS = Dataset.from_dict({"text": TEXTS, "title": [f"Part {number}" for number in range(30)]})
SETTINGS = {"steps": 2, "batch_size": 4, "micro_batch_size": 2, "max_length": 48}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("llama", tmp_path_factory.mktemp("calibration") / "model")


@pytest.fixture
def always_mapped(monkeypatch):
    """Takes the last map and ships the trained one, since neither is decided on a tiny model."""

    def last(search, vectors_ND, *, spectrum_DD, parts):
        *_, chosen = candidates(vectors_ND, spectrum_DD, parts)
        return Choice(chosen, {"as it is": 1.0, chosen.name: 1.0}, len(search.queries))

    monkeypatch.setattr(judgement, "choose_map", last)


def train(model, out, recipe, *, settings=None, **options):
    given = {**SETTINGS, **(settings or {})}
    selfembed.train(model, Corpus(CORPUS), recipe, out=out, settings=given, dtype="float32", device="cpu", **options)
    return json.loads((out / "selfembed.json").read_text())


def test_which_recipes_calibrate_by_themselves():
    made = {name: find_recipe(name) for name in RECIPES}
    judged = {name: recipe.calibration for name, recipe in made.items() if recipe.calibration_pairs}
    assert judged == {"selfembed": "before", "selfembed-small": "before", "adapt": "none"}
    for name, recipe in made.items():
        always = with_calibration(recipe, True)
        assert always.calibration_pairs >= 120 and with_calibration(recipe, None) is recipe
        assert always.calibration == ("before" if name.startswith("selfembed") else "after")
        assert with_calibration(always, True) is always
        if always.calibration == "after":
            assert with_calibration(always, False).calibration == "none" and with_calibration(recipe, False) is recipe
            assert with_calibration(with_calibration(always, False), True) == always


def test_what_trains_in_front_of_its_map_keeps_it(model, tmp_path):
    with pytest.raises(InputError, match=r"recipe selfembed: trains in front of its map.* use `calibration='none'`"):
        train(model, tmp_path / "out", "selfembed", calibrate=False)
    assert not list(tmp_path.iterdir())
    none = override(find_recipe("selfembed"), {"calibration": "none"})
    assert with_calibration(none, False) is none


@pytest.mark.parametrize("recipe", ["text2token-small", "llm2comp-unsup-small", "llm2vec-unsup-small"])
def test_any_recipe_ends_with_a_map_where_that_is_wanted(recipe, model, tmp_path, always_mapped):
    settings = {"calibration_pairs": 12}
    if recipe.startswith("llm2comp"):
        settings |= {"min_context": 4, "min_continuation": 4, "memory_tokens": 2}
    record = train(model, tmp_path / "out", recipe, settings=settings, calibrate=True)
    assert record["recipe"]["calibration"] == "after" and record["self_retrieval"]["shipped"] == "trained"
    loaded = load_embedder(tmp_path / "out", device="cpu")
    mapped = map_of(loaded)
    assert mapped is not None
    plain = without_map(loaded).encode(TEXTS[:3])
    np.testing.assert_allclose(loaded.encode(TEXTS[:3]), of_one_length(mapped(plain)), rtol=1e-3, atol=1e-3)
    if "trust_remote_code" not in (tmp_path / "out" / "README.md").read_text():
        stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        np.testing.assert_allclose(stock.encode(TEXTS[:3]), loaded.encode(TEXTS[:3]), rtol=1e-4, atol=1e-5)


def test_without_calibration_nothing_stands_behind_the_pooling(model, tmp_path, monkeypatch):
    monkeypatch.setattr(judgement, "choose_map", None)  # nobody asks for one
    settings = {"calibration_pairs": 12, "calibration": "after"}
    record = train(model, tmp_path / "out", "selfembed-small", settings=settings, calibrate=False)
    assert record["recipe"]["calibration"] == "none"
    for name in ("raw", "trained"):
        assert list(record["self_retrieval"][name]["self_retrieval_ndcg@10"]) == ["as it is"]
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert [type(module).__name__ for module in stock] == ["Transformer", "WeightedLayerPooling", "Pooling"]
