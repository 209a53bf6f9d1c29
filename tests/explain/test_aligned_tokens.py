"""Aligned tokens are the vocabulary's best scores; an embedder is explained with its own backbone only."""

from __future__ import annotations

import shutil

import pytest
import torch
from runs import plain_embedder, short_train
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.explain.aligned_tokens import aligned_tokens, load_explained
from selfembed.recipes import choose_stages, find_recipe


def test_best_scores_of_the_vocabulary(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    (found,) = aligned_tokens(embedder, backbone.head(), backbone.tokenizer, SENTENCES[:1], k=640)
    assert [token.id for token in found] != sorted(token.id for token in found)
    assert sum(token.probability for token in found) == pytest.approx(1, abs=1e-4)
    weight_VD = backbone.load().get_output_embeddings().weight
    logits_V = weight_VD @ torch.tensor(embedder.encode(SENTENCES[0]))
    expected = logits_V.softmax(-1)
    for token in found:
        assert token.probability == pytest.approx(expected[token.id].item(), abs=1e-5)
        assert token.token == backbone.tokenizer.decode([token.id])


def test_marks_what_occurs_in_the_text_case_and_space_aside(tiny_backbone_dir):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    tokenizer = backbone.tokenizer
    (found,) = aligned_tokens(embedder, backbone.head(), tokenizer, ["a teacher, A DOOR"], k=640)
    marked = {token.token for token in found if token.in_text}
    assert {" a", "a", ",", "A", " A"} <= marked
    assert not any(word in token for token in marked for word in ("fox", "river", "."))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    raw = save_tiny("llama", folder / "raw", tied=False)
    short_train(raw, folder / "out", recipe=choose_stages(find_recipe("text2token"), ["data_driven"]))
    return raw, folder / "out"


def test_explained_holds_raw_and_trained_and_the_untied_head(made):
    raw, out = made
    explained = load_explained(out)
    untrained, backbone, _ = plain_embedder(raw)
    assert abs(explained.raw.encode(SENTENCES[:2]) - untrained.encode(SENTENCES[:2])).max() < 1e-5
    assert abs(explained.embedder.encode(SENTENCES[:2]) - untrained.encode(SENTENCES[:2])).max() > 1e-3
    assert torch.equal(explained.head.weight.cpu(), backbone.head().weight)


def test_backbone_that_moved_or_changed(made, tmp_path):
    raw, out = made
    moved = tmp_path / "moved"
    shutil.copytree(raw, moved)
    assert load_explained(out, model=moved)
    with pytest.raises(InputError, match="not the backbone .* was made from"):
        load_explained(out, model=save_tiny("llama", tmp_path / "other", tied=False, seed=1))
    with pytest.raises(InputError, match="has no modules.json"):
        load_explained(raw)


def test_an_embedder_without_a_record_is_explained_with_its_backbone_named(made, tmp_path):
    raw, out = made
    unrecorded = tmp_path / "unrecorded"
    shutil.copytree(out, unrecorded)
    (unrecorded / "selfembed.json").unlink()
    with pytest.raises(InputError, match="no selfembed.json in it, so its backbone is not known; name it"):
        load_explained(unrecorded)
    found, expected = load_explained(unrecorded, model=raw), load_explained(out)
    for side in ("raw", "embedder"):
        vectors = [getattr(explained, side).encode(SENTENCES[:3]) for explained in (found, expected)]
        assert abs(vectors[0] - vectors[1]).max() < 1e-5, side
    assert torch.equal(found.head.weight, expected.head.weight)
    with pytest.raises(InputError, match="its weights do not fit"):
        load_explained(unrecorded, model=save_tiny("qwen2", tmp_path / "other"))
