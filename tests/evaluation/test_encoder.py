from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from evaluation_data import pairs, write_jsonl
from mteb.models import EncoderProtocol, SearchProtocol, SentenceTransformerEncoderWrapper
from mteb.types import PromptType
from runs import add_random_adapter, plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import CHAT_TEMPLATE, SENTENCES
from transformers import BertJapaneseTokenizer

from selfembed.encoding.identity import embedder_hash
from selfembed.errors import InputError
from selfembed.evaluation.encoder import CachedEncoder
from selfembed.evaluation.own_data import sts_task

TEXTS = [SENTENCES[3], SENTENCES[0], SENTENCES[3], SENTENCES[1] * 3, SENTENCES[0]]


def encode(encoder: Any, texts: list[str], **options: Any) -> np.ndarray:
    options.setdefault("task_metadata", mteb.get_task("STSBenchmark").metadata)
    return encoder.encode([{"text": texts[:2]}, {"text": texts[2:]}], hf_split="test", hf_subset="default", **options)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))


def test_it_is_an_encoder_to_mteb(embedder: SentenceTransformer) -> None:
    encoder = CachedEncoder(embedder, name="tiny")
    assert isinstance(encoder, EncoderProtocol) and not isinstance(encoder, SearchProtocol)


@pytest.mark.parametrize("cache", [True, False])
def test_vectors_are_those_of_the_embedder(embedder: SentenceTransformer, cache: bool) -> None:
    encoder = CachedEncoder(embedder, name="tiny", cache=cache)
    np.testing.assert_allclose(encode(encoder, TEXTS), embedder.encode(TEXTS), atol=1e-5)
    assert (encoder.asked, encoder.encoded) == (5, 3)


def test_each_text_is_encoded_once(embedder: SentenceTransformer) -> None:
    first = CachedEncoder(embedder, name="tiny")
    before = encode(first, TEXTS)
    encode(first, [*TEXTS, SENTENCES[5]])
    assert first.encoded == 4
    later = CachedEncoder(embedder, name="tiny")
    np.testing.assert_array_equal(encode(later, TEXTS), before)
    assert later.encoded == 0


def test_few_long_texts_at_a_time_on_a_cpu(embedder: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, plain = [], embedder.encode

    def spy(texts: list[str], *, batch_size: int, **options: Any) -> Any:
        sizes.append(batch_size)
        return plain(texts, batch_size=batch_size, **options)

    monkeypatch.setattr(embedder, "encode", spy)
    monkeypatch.setattr(embedder, "max_seq_length", 512)
    long = [f"{number} " + "a fox " * 200 for number in range(9)]
    vectors = encode(CachedEncoder(embedder, name="one", cache=False), long, batch_size=32)
    assert sizes[0] < 9 == sum(sizes)
    np.testing.assert_allclose(vectors, plain(long), atol=1e-5)
    sizes.clear()
    encode(CachedEncoder(embedder, name="one", cache=False), long, batch_size=3)
    assert sizes == [3, 3, 3]
    sizes.clear()
    short = [f"{number} " + "a fox " * 120 for number in range(40)]  # scores are held to those of batches of 32
    encode(CachedEncoder(embedder, name="one", cache=False), short, batch_size=32)
    assert sizes == [32, 8]


def test_length_and_settings_have_vectors_of_their_own(embedders: list[Path]) -> None:
    model = SentenceTransformer(str(embedders[0]), device="cpu")
    encoder = CachedEncoder(model, name="tiny")
    plain = encode(encoder, TEXTS)
    unit = encode(encoder, TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(encode(encoder, TEXTS), plain)
    model.max_seq_length = 20
    shorter = CachedEncoder(model, name="tiny")
    assert np.abs(encode(shorter, TEXTS)[3] - plain[3]).max() > 1e-3 and shorter.encoded == 3


def test_prompts_follow_mtebs_rules(embedders: list[Path]) -> None:
    model = SentenceTransformer(str(embedders[0]), device="cpu")
    model.prompts = {"query": "find: ", "Clustering": "topic of ", "document": ""}
    encoder, theirs = CachedEncoder(model, name="tiny"), SentenceTransformerEncoderWrapper(model)
    for task, kind in (
        ("ArguAna", PromptType.query),
        ("ArguAna", PromptType.document),
        ("TwentyNewsgroupsClustering.v2", None),
        ("STSBenchmark", None),
    ):
        asked = {"task_metadata": mteb.get_task(task).metadata, "prompt_type": kind, "show_progress_bar": False}

        class Loader(list):
            dataset = type("Rows", (), {"features": {"text": None}})

        expected = theirs.encode(Loader([{"text": TEXTS}]), hf_split="test", hf_subset="default", **asked)
        np.testing.assert_allclose(encode(encoder, TEXTS, **asked), expected, atol=1e-5)
    assert encoder.prompts == {"find: ", "topic of ", ""}


def test_hash_is_of_content_not_of_place(embedders: list[Path], tmp_path: Path) -> None:
    models = [SentenceTransformer(str(folder), device="cpu") for folder in (*embedders, embedders[0])]
    hashes = [embedder_hash(model) for model in models]
    assert hashes[0] == hashes[2] != hashes[1]
    models[0].encode(TEXTS)  # which sets padding and truncation in the tokenizer
    assert embedder_hash(models[0]) == hashes[0]
    models[0].save(str(tmp_path / "moved"), create_model_card=False)
    assert embedder_hash(SentenceTransformer(str(tmp_path / "moved"), device="cpu")) == hashes[0]
    models[2].transformers_model.config.is_causal = False
    assert embedder_hash(models[2]) != hashes[0]


def test_hash_sees_adapters_turned_off(tiny_backbone_dir: Path) -> None:
    model, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(model)
    on = embedder_hash(model)
    model.transformers_model.disable_adapters()
    assert embedder_hash(model) != on


def test_mteb_tells_local_models_of_one_name_apart(embedders: list[Path], tmp_path: Path) -> None:
    task = sts_task(write_jsonl(tmp_path / "pairs.jsonl", pairs()))
    results = mteb.ResultCache(tmp_path / "results")
    scores = []
    for folder in embedders:
        encoder = CachedEncoder(SentenceTransformer(str(folder), device="cpu"), name=folder.name)
        found = mteb.evaluate(encoder, task, cache=results, co2_tracker=False, show_progress_bar=False)
        scores.append(found.task_results[0].get_score())
    assert scores[0] != scores[1]


def test_similarity_is_part_of_the_identity(embedders: list[Path]) -> None:
    """Vectors do not hang on it, scores do: mteb's cache may not serve one the other's."""
    encoders = []
    for similarity in ("cosine", "dot"):
        model = SentenceTransformer(str(embedders[0]), device="cpu", similarity_fn_name=similarity)
        encoders.append(CachedEncoder(model, name="tiny"))
    one, other = (encoder.mteb_model_meta for encoder in encoders)
    assert one.name != other.name and one.revision != other.revision
    encode(encoders[0], TEXTS)
    encode(encoders[1], TEXTS)
    assert encoders[1].encoded == 0


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "not finite"), (0.0, "zero")])
def test_unusable_vectors_name_the_text(embedders: list[Path], value: float, kind: str) -> None:
    model = SentenceTransformer(str(embedders[0]), device="cpu")

    def spoil(module: Any, inputs: Any, output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        output["sentence_embedding"] = output["sentence_embedding"] * value
        return output

    model[-1].register_forward_hook(spoil)
    with pytest.raises(InputError, match=rf"vector of 'A red fox.* \.\.\.' is {kind}"):
        encode(CachedEncoder(model, name="tiny"), [SENTENCES[2] * 2, SENTENCES[1]])


def test_hash_sees_what_is_in_no_tokenizer_json(embedders: list[Path]) -> None:
    model = SentenceTransformer(str(embedders[0]), device="cpu")
    before = embedder_hash(model)
    model.tokenizer.padding_side = "left"
    left = embedder_hash(model)
    model.tokenizer.padding_side = "right"
    assert embedder_hash(model) == before != left
    model.tokenizer.chat_template = CHAT_TEMPLATE
    assert embedder_hash(model) not in (before, left)


def test_hash_sees_the_settings_of_a_slow_tokenizer(embedders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "A"]))
    shutil.copyfile(tmp_path / "vocab.txt", tmp_path / "moved.txt")
    model = SentenceTransformer(str(embedders[0]), device="cpu")
    hashes = []
    for file, lower in (("vocab.txt", False), ("moved.txt", False), ("vocab.txt", True)):
        kinds = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}
        model[0].processor = BertJapaneseTokenizer(str(tmp_path / file), do_lower_case=lower, **kinds)
        assert not model.tokenizer.is_fast
        hashes.append(embedder_hash(model))
    assert hashes[0] == hashes[1] != hashes[2]
