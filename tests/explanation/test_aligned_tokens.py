"""Aligned tokens are the vocabulary's best scores; an embedder is explained with its own backbone only."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from runs import add_random_adapter, plain_embedder, short_train
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tiny import SENTENCES, save_tiny, tiny_tokenizer
from transformers import BertConfig, BertModel

from selfembed.errors import InputError
from selfembed.explanation import aligned_tokens as module
from selfembed.explanation.aligned_tokens import aligned_tokens, decode_vectors, load_explained
from selfembed.model.backbone import load_backbone
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training.run import train


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


def test_texts_are_decoded_a_few_at_a_time(tiny_backbone_dir, monkeypatch):
    """Memory grows with the texts of a chunk times the vocabulary, not with all texts."""
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    together = aligned_tokens(embedder, backbone.head(), backbone.tokenizer, SENTENCES[:10])
    monkeypatch.setattr(module, "_CHUNK", 4)
    head, rows = backbone.head(), []
    head.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    apart = aligned_tokens(embedder, head, backbone.tokenizer, SENTENCES[:10])
    assert rows == [4, 4, 2]
    assert [[token.id for token in found] for found in apart] == [[token.id for token in found] for found in together]


def test_bad_input(tiny_backbone_dir, tmp_path):
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    head, tokenizer = backbone.head(), backbone.tokenizer
    other = plain_embedder(save_tiny("llama", tmp_path, hidden_size=16))[1].head()
    for given, message in (
        ((embedder, head, tokenizer, []), "texts: 0 given; expected at least 1"),
        ((embedder, head, tokenizer, "one string"), "one string; expected a list"),
        ((embedder, head, tokenizer, ["fine", " \n"]), "text 2: empty"),
        ((embedder, head, tokenizer, [None]), "text 1: of type NoneType"),
        ((embedder, None, tokenizer, ["fine"]), "head: none; expected the backbone's decoder layer"),
        ((embedder, torch.nn.ReLU(), tokenizer, ["fine"]), "head: a ReLU without"),
        ((embedder, other, tokenizer, ["fine"]), "reads vectors of width 16, the embeddings have 32"),
    ):
        with pytest.raises(InputError, match=message):
            aligned_tokens(*given)
    for k in (0, len(head.weight) + 1):
        with pytest.raises(InputError, match=f"k {k}: expected 1 to {len(head.weight)}"):
            aligned_tokens(embedder, head, tokenizer, ["fine"], k=k)


def test_a_vector_that_says_nothing_is_refused_by_its_text(tiny_backbone_dir):
    _, backbone, _ = plain_embedder(tiny_backbone_dir)
    head, tokenizer = backbone.head(), backbone.tokenizer
    for value, what in ((float("nan"), "not finite"), (0.0, "zero")):
        vectors_BD = torch.randn(3, 32)
        vectors_BD[1] = value
        with pytest.raises(InputError, match=f"1 of 3 {what}, the first of 'second text'"):
            decode_vectors(vectors_BD, head, tokenizer, ["first", "second text", "third"])
    unit_BD = torch.nn.functional.normalize(torch.randn(3, 32))
    with pytest.raises(InputError, match="of length 1; .* leave normalisation off"):
        decode_vectors(unit_BD, head, tokenizer, ["first", "second text", "third"])


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
    with pytest.raises(InputError, match="no selfembed.json in it, so its backbone is not known; .*; name it"):
        load_explained(unrecorded)
    found, expected = load_explained(unrecorded, model=raw), load_explained(out)
    for side in ("raw", "embedder"):
        vectors = [getattr(explained, side).encode(SENTENCES[:3]) for explained in (found, expected)]
        assert abs(vectors[0] - vectors[1]).max() < 1e-5, side
    assert torch.equal(found.head.weight, expected.head.weight)
    with pytest.raises(InputError, match="its weights do not fit"):
        load_explained(unrecorded, model=save_tiny("qwen2", tmp_path / "other"))


def test_a_normalised_embedder_is_decoded_without_its_normalisation(made, tmp_path):
    raw, out = made
    modules = SentenceTransformer(str(out), device="cpu").children()
    SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save(str(tmp_path), create_model_card=False)
    assert abs(SentenceTransformer(str(tmp_path), device="cpu").encode(SENTENCES[0]) ** 2).sum() == pytest.approx(1)
    found, expected = load_explained(tmp_path, model=raw), load_explained(out)
    for side in ("raw", "embedder"):
        vectors = [getattr(explained, side).encode(SENTENCES[:3]) for explained in (found, expected)]
        assert abs(vectors[0] - vectors[1]).max() < 1e-5, side


def test_an_adapter_is_off_on_the_raw_side(tiny_backbone_dir, tmp_path):
    """A folder as sentence-transformers saves it when the adapter is not merged."""
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    before = embedder.encode(SENTENCES[:3])
    add_random_adapter(embedder)
    after = embedder.eval().encode(SENTENCES[:3])
    embedder.save(str(tmp_path / "adapter"), create_model_card=False)
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    found = load_explained(tmp_path / "adapter", model=tiny_backbone_dir)
    assert abs(found.raw.encode(SENTENCES[:3]) - before).max() < 1e-5
    assert abs(found.embedder.encode(SENTENCES[:3]) - after).max() < 1e-5 < abs(after - before).max()
    settings = tmp_path / "adapter" / "adapter_config.json"
    settings.write_text(
        settings.read_text().replace(json.loads(settings.read_text())["base_model_name_or_path"], "/no")
    )
    with pytest.raises(InputError, match="adapter: cannot be loaded") as caught:
        load_explained(tmp_path / "adapter", model=tiny_backbone_dir)
    assert "\n" not in str(caught.value)


def test_an_encoder_has_no_decoder_layer(tmp_path):
    """Its words cannot be read, with whatever --model: the first message says so."""
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=640
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    SentenceTransformer(modules=[Transformer(str(tmp_path / "bert")), Pooling(16)]).save(str(tmp_path / "encoder"))
    with pytest.raises(InputError, match="bert is not a decoder-only language model"):
        load_explained(tmp_path / "encoder")


def test_raw_memory_vectors_are_those_that_training_began_with(tiny_backbone_dir, tmp_path):
    recipe = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    settings = {"steps": 1, "batch_size": 4, "max_length": 40, "embed_length": 40, "memory_tokens": 3}
    settings |= {"min_context": 2, "min_continuation": 2}
    train(tiny_backbone_dir, iter(SENTENCES), recipe, out=tmp_path / "out", settings=settings, device="cpu", seed=5)
    config = {"pooling": "memory", "memory_tokens": 3, "attention": recipe.embedder.attention}
    config |= {"memory_init": recipe.embedder.memory_init, "prompt": recipe.embedder.prompt}
    start = build_embedder(load_backbone(tiny_backbone_dir), EmbedderConfig(**config), device="cpu", seed=5)
    found = load_explained(tmp_path / "out").raw
    assert abs(found.encode(SENTENCES[:2]) - start.encode(SENTENCES[:2])).max() < 1e-5

    (tmp_path / "out" / "selfembed.json").unlink()  # without a record, the rows of memory tokens are the trained ones
    unrecorded = load_explained(tmp_path / "out", model=tiny_backbone_dir)
    rows = [side.transformers_model.get_input_embeddings().weight for side in (unrecorded.raw, unrecorded.embedder)]
    assert torch.equal(*(side[-3:] for side in rows))
    found = unrecorded.raw.transformers_model.layers[0].self_attn.q_proj.weight
    assert torch.equal(found, start.transformers_model.layers[0].self_attn.q_proj.weight)
