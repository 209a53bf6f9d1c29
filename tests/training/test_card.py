"""The model card: its head is what the hub's library reads, and says nothing that is not known."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard
from runs import run_record, short_train
from tiny import SENTENCES, save_tiny

from selfembed.errors import InputError
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training.card import _LICENCES, model_card

ALWAYS = {
    "library_name": "sentence-transformers",
    "pipeline_tag": "sentence-similarity",
    "tags": ["sentence-transformers", "sentence-similarity", "feature-extraction", "selfembed"],
}


def card_of(**record: Any) -> ModelCard:
    return ModelCard(model_card(find_recipe("text2token"), run_record(**record), ["Transformer", "Pooling"]))


def test_what_is_unknown_is_left_out():
    card = card_of(model="embedded", origin={"name": "my-decoder"})
    assert card.data.to_dict() == ALWAYS
    assert "# Text embedder from my-decoder\n" in card.text
    assert "The backbone's licence applies; its files do not name it." in card.text and "embedded" not in card.text


def test_what_is_known_is_in_the_head():
    card = card_of(
        origin={"name": "owner/base", "hub_ids": ["owner/base"], "licence": "mit"},
        datasets=["owner/texts"],
        language=["en", "de"],
    )
    known = {"base_model": "owner/base", "license": "mit", "datasets": ["owner/texts"], "language": ["en", "de"]}
    assert card.data.to_dict() == {**ALWAYS, **known}
    assert "The backbone's licence applies: mit." in card.text


@pytest.mark.parametrize(
    ("origin", "head"),
    [
        (
            {"licence": "llama-5 Community (2)", "licence_link": "https://example.org/l"},
            {"license": "other", "license_name": "llama-5-community-2", "license_link": "https://example.org/l"},
        ),
        ({"licence": "other", "licence_name": "Some Licence"}, {"license": "other", "license_name": "some-licence"}),
        ({"licence": "gemma", "licence_link": "https://example.org/l"}, {"license": "gemma"}),
        ({"hub_ids": ["a/b", "c/d"]}, {"base_model": ["a/b", "c/d"]}),
    ],
)
def test_licences_that_the_hub_does_not_list_are_other(origin, head):
    assert card_of(origin={"name": "n", **origin}).data.to_dict() == {**ALWAYS, **head}
    assert head.get("license", "other") in _LICENCES


def test_norwegian_is_no_truth_value():
    assert "language:\n- 'no'\n" in card_of(language=["no"]).content


def test_training_writes_it(tmp_path):
    raw = save_tiny("llama", tmp_path / "my-decoder", tied=True)
    (raw / "README.md").write_text("---\nlicense: mit\nbase_model: owner/base\n---\n")
    recipe = choose_stages(find_recipe("text2token"), ["data_driven"])
    short_train(raw, tmp_path / "out", recipe=recipe, settings={"steps": 1})
    card = ModelCard.load(tmp_path / "out" / "README.md")
    # the tagger reads English, and no more is known of the texts
    assert card.data.to_dict() == {**ALWAYS, "license": "mit", "base_model": "owner/base", "language": ["en"]}
    assert "# Text embedder from my-decoder\n" in card.text


def test_languages_are_codes(tiny_backbone_dir, tmp_path):
    for wrong in ("English", ["en", "en_US"], ""):
        with pytest.raises(InputError, match=r"language '.*': expected the two or three letters of ISO 639"):
            short_train(tiny_backbone_dir, tmp_path / "out", language=wrong, corpus=iter(SENTENCES))
    assert not (tmp_path / "out").exists()


def test_data_sets_of_the_hub_are_named(tmp_path, monkeypatch):
    from selfembed.data.corpus import Corpus
    from selfembed.data.pairs import read_examples

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(SENTENCES[0])
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "clone").mkdir()
    corpus = Corpus(["a.txt", "owner/texts:en", "owner/clone", "python-docs", "owner/texts:de", iter(SENTENCES)])
    assert corpus.hub_ids == ["owner/texts"]
    row = '{"query": "a", "positive": "b"}\n'
    (tmp_path / "pairs.jsonl").write_text(row)
    assert read_examples("pairs.jsonl").hub_id is None
    monkeypatch.setattr("selfembed.data.pairs._read", lambda *_: (["query", "positive"], [("a", "b")], None))
    assert read_examples("owner/pairs:config").hub_id == "owner/pairs"
