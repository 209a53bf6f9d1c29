from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed.encoding.encode import encode, prompt_of
from selfembed.encoding.known import KnownVectors
from selfembed.encoding.store import TemporaryStore, VectorStore
from selfembed.encoding.token_budget import TokenBudget
from selfembed.errors import InputError

TEXTS = [SENTENCES[3], SENTENCES[0], SENTENCES[3], SENTENCES[1] * 3, SENTENCES[0], "A fox."]


@pytest.fixture(scope="module")
def embedder(tiny_backbone_dir: Path) -> SentenceTransformer:
    return plain_embedder(tiny_backbone_dir)[0].eval()


@pytest.fixture
def read(embedder: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that go through the embedder."""
    batches, plain = [], embedder.encode

    def spy(texts: list[str], **options: Any) -> Any:
        batches.append(list(texts))
        return plain(texts, **options)

    monkeypatch.setattr(embedder, "encode", spy)
    return batches


@pytest.mark.parametrize("budget", [None, TokenBudget(batch_size=2), TokenBudget(tokens=30)])
def test_vectors_are_those_of_the_embedder_in_order(embedder: SentenceTransformer, budget: TokenBudget | None) -> None:
    vectors_ND = encode(embedder, TEXTS, budget=budget)
    assert vectors_ND.dtype == np.float32
    np.testing.assert_allclose(vectors_ND, embedder.encode(TEXTS), atol=1e-5)


def test_without_a_token_budget_batches_are_those_of_the_library(embedder: SentenceTransformer) -> None:
    texts = [sentence[: 20 + 3 * number] for number, sentence in enumerate(SENTENCES[:20])]
    np.testing.assert_array_equal(
        encode(embedder, texts, budget=TokenBudget(batch_size=8)), embedder.encode(texts, batch_size=8)
    )


def test_equal_texts_are_read_once_and_a_store_keeps_them(
    embedder: SentenceTransformer, read: list[list[str]], tmp_path: Path
) -> None:
    for store in (TemporaryStore(), VectorStore(tmp_path / "store")):
        read.clear()
        before = encode(embedder, TEXTS, store=store)
        assert sorted(text for batch in read for text in batch) == sorted(set(TEXTS))
        np.testing.assert_array_equal(encode(embedder, TEXTS[::-1], store=store), before[::-1])
        encode(embedder, [*TEXTS, "new"], store=store)
        assert read[-1] == ["new"] and len(store) == 5
        encode(embedder, ["new"], prompt="Say: ", store=store)
        assert len(store) == 6


def test_long_texts_are_not_padded_to_in_a_budget(embedder: SentenceTransformer, read: list[list[str]]) -> None:
    texts = ["A fox.", SENTENCES[3], "A river.", SENTENCES[1]]
    counted = embedder.preprocess(texts)["attention_mask"].sum(-1)
    encode(embedder, texts, budget=TokenBudget(tokens=int(2 * counted[[0, 2]].max())))
    assert len(read) == 3 and sorted(read[-1]) == ["A fox.", "A river."]


def test_progress_counts_distinct_texts(embedder: SentenceTransformer) -> None:
    told: list[tuple[str, int, int | None]] = []
    encode(embedder, TEXTS, budget=TokenBudget(batch_size=2), progress=lambda *now: told.append(now), task="reading")
    assert told == [("reading", 0, 4), ("reading", 2, 4), ("reading", 4, 4)]


def test_prompts_are_those_of_the_role(tiny_backbone_dir: Path) -> None:
    embedder = plain_embedder(tiny_backbone_dir)[0].eval()
    embedder.prompts = {"query": "find: ", "passage": "text: ", "document": ""}
    assert [prompt_of(embedder, role) for role in ("query", "document", None)] == ["find: ", "", ""]
    for role, method in (("query", embedder.encode_query), ("document", embedder.encode_document)):
        np.testing.assert_allclose(encode(embedder, TEXTS, role=role), method(TEXTS), atol=1e-5)
    embedder.default_prompt_name = "passage"
    np.testing.assert_allclose(encode(embedder, TEXTS), embedder.encode(TEXTS), atol=1e-5)
    assert np.abs(encode(embedder, TEXTS) - encode(embedder, TEXTS, prompt="")).max() > 1e-3


def test_settings_of_the_library_and_no_text(embedder: SentenceTransformer) -> None:
    unit_ND = encode(embedder, TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit_ND, axis=1), 1, atol=1e-5)
    assert encode(embedder, []).shape == (0, embedder.get_embedding_dimension())


def test_half_precision_comes_back_as_float32(tiny_backbone_dir: Path) -> None:
    embedder = plain_embedder(tiny_backbone_dir)[0].eval().to(torch.bfloat16)
    vectors_ND = encode(embedder, TEXTS, budget=TokenBudget())
    assert vectors_ND.dtype == np.float32
    np.testing.assert_array_equal(vectors_ND, torch.from_numpy(vectors_ND).to(torch.bfloat16).float().numpy())


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "not finite"), (0.0, "zero")])
def test_unusable_vectors_name_the_text(tiny_backbone_dir: Path, value: float, kind: str) -> None:
    embedder = plain_embedder(tiny_backbone_dir)[0].eval()

    def spoil(module: Any, inputs: Any, output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return output | {"sentence_embedding": output["sentence_embedding"] * value}

    embedder[-1].register_forward_hook(spoil)
    with pytest.raises(InputError, match=f"vector of 'A fox.' is {kind}"):
        encode(embedder, ["A fox."])


def test_known_vectors_answer_for_their_texts() -> None:
    known = KnownVectors(["a", "b"], np.eye(2))
    np.testing.assert_array_equal(known.encode(["b", "a", "b"]), [[0, 1], [1, 0], [0, 1]])
    assert torch.equal(known.encode(["a"], convert_to_tensor=True), torch.tensor([[1.0, 0.0]]))
    with pytest.raises(KeyError):
        known.encode(["never read"])
