"""Memory tokens one by one: their correlation, the warning of copies, and what each says."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from runs import add_random_adapter, plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.explanation.memory_tokens import (
    COPIES,
    correlate_memory,
    explain_memory,
    memory_tokens_of,
    memory_words,
    read_memory,
)
from selfembed.explanation.report import plots
from selfembed.model.embedder import load_embedder
from selfembed.recipes import choose_stages, find_recipe
from selfembed.training.run import train

K = 4
MEMORY = {"pooling": "memory", "memory_tokens": K, "prompt": "{text}", "memory_init": "normal"}


@pytest.fixture(scope="module")
def embedder(tiny_backbone_dir):
    made, _, _ = plain_embedder(tiny_backbone_dir, **MEMORY)
    add_random_adapter(made)
    return made.eval()


def test_states_come_in_the_texts_own_order(embedder):
    """Each text by itself, from the model's output at its last K tokens; with batches, and lengths that vary."""
    texts = SENTENCES[:40]
    assert sorted(texts, key=len, reverse=True) != texts
    read = read_memory(embedder, texts)
    for row in (0, 17, 39):
        features = {key: value for key, value in embedder.preprocess([texts[row]]).items() if torch.is_tensor(value)}
        with torch.no_grad():
            output = embedder(features)
        torch.testing.assert_close(read.states_NKD[row], output["token_embeddings"][0, -K:], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(read.embedding_ND.numpy(), embedder.encode(texts), atol=1e-5)
    torch.testing.assert_close(read.embedding_ND, read.states_NKD.mean(1), atol=1e-5, rtol=1e-4)


def test_matrix_against_a_loop():
    states = np.random.default_rng(0).normal(size=(7, 3, 5)) + 0.3
    found = correlate_memory(torch.tensor(states))
    for i in range(3):
        for j in range(3):
            cosines = [
                float(np.dot(text[i], text[j]) / np.sqrt(np.dot(text[i], text[i]) * np.dot(text[j], text[j])))
                for text in states
            ]
            assert found.matrix[i][j] == pytest.approx(sum(cosines) / 7, abs=1e-12)
    pairs = [found.matrix[i][j] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert (found.largest, found.mean) == pytest.approx((max(pairs), sum(pairs) / 3))
    assert found.texts == 7 and found.copies == () and found.warning is None and found.different == 3


def test_copies_are_warned_of_by_name():
    """The paper's collapse: seven of eight alike; lengths do not count, and the eighth stands apart."""
    random = np.random.default_rng(1)
    healthy = random.normal(size=(50, 8, 32)) + 0.8
    assert correlate_memory(healthy).warning is None and 0.2 < correlate_memory(healthy).mean < 0.8
    collapsed = healthy.copy()
    collapsed[:, :7] = healthy[:, :1] * np.arange(1, 8)[None, :, None] + 0.05 * random.normal(size=(50, 7, 32))
    found = correlate_memory(collapsed)
    assert found.copies == ((1, 2, 3, 4, 5, 6, 7),) and found.different == 2
    assert "memory tokens 1 to 7 are copies of one another" in found.warning
    assert "of the 8 only 2 differ" in found.warning
    two_groups = healthy.copy()
    two_groups[:, 5], two_groups[:, 3] = healthy[:, 0], healthy[:, 2]
    found = correlate_memory(two_groups)
    assert found.copies == ((1, 6), (3, 4)) and "1 and 6; 3 and 4 are copies" in found.warning
    assert found.to_dict()["copies"] == [[1, 6], [3, 4]] and found.to_dict()["different"] == 6


def test_a_pair_counts_as_copies_from_the_threshold_on():
    def at(cosine: float) -> np.ndarray:
        return np.array([[[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]]])

    assert correlate_memory(at(COPIES - 0.001)).copies == ()
    assert correlate_memory(at(COPIES + 0.001)).copies == ((1, 2),)
    assert correlate_memory(at(-1.0)).copies == ()


@pytest.mark.parametrize("name", ["pooled", "memory"])
def test_words_are_those_of_the_head(name, embedder, tiny_backbone_dir):
    _, backbone, _ = plain_embedder(tiny_backbone_dir)
    texts = SENTENCES[:3]
    read, head = read_memory(embedder, texts), backbone.head()
    found = memory_words(read, head, backbone.tokenizer, texts, k=6)
    for row, words in enumerate(found):
        assert len(words.memory) == K
        states = [read.embedding_ND[row]] if name == "pooled" else read.states_NKD[row]
        for state, tokens in zip(states, [words.pooled] if name == "pooled" else words.memory, strict=True):
            top = (backbone.load().get_output_embeddings().weight @ state).softmax(-1).topk(6)
            assert [token.id for token in tokens] == top.indices.tolist()
            assert [token.probability for token in tokens] == pytest.approx(top.values.tolist(), rel=1e-4)
    own = {token.token.strip().casefold() for tokens in found[0].memory for token in tokens if token.in_text}
    assert all(word in texts[0].casefold() for word in own)


def test_lines_stand_below_the_column_of_the_embedder(embedder, tiny_backbone_dir):
    _, backbone, _ = plain_embedder(tiny_backbone_dir)
    (words,) = explain_memory(embedder, backbone.head(), backbone.tokenizer, SENTENCES[:1], k=3)
    lines = words.lines()
    assert len(lines) == K and all(line.startswith(f"{'':34}memory ") for line in lines)
    assert all(repr(token.token) in lines[1] for token in words.memory[1])
    assert words.to_dict()["memory"][0][0]["id"] == words.memory[0][0].id
    plain, _, _ = plain_embedder(tiny_backbone_dir)
    assert explain_memory(plain, backbone.head(), backbone.tokenizer, SENTENCES[:1]) == []


def test_a_finished_folder_is_read_as_the_model_in_memory(tiny_backbone_dir, tmp_path):
    """By our loader, and by sentence-transformers with the folder's own copy of the pooling."""
    recipe = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    settings = {"steps": 2, "batch_size": 4, "max_length": 40, "embed_length": 40, "memory_tokens": 3}
    settings |= {"min_context": 2, "min_continuation": 2, "learning_rate": 1e-2}
    train(tiny_backbone_dir, iter(SENTENCES), recipe, out=tmp_path / "out", settings=settings, device="cpu")
    ours = load_embedder(tmp_path / "out", device="cpu")
    theirs = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    assert memory_tokens_of(ours) == memory_tokens_of(theirs) == 3
    states = [read_memory(model, SENTENCES[:5]).states_NKD for model in (ours, theirs)]
    assert torch.equal(*states)
    np.testing.assert_allclose(states[0].mean(1).numpy(), ours.encode(SENTENCES[:5]), atol=1e-5)


def test_what_cannot_be_read(embedder, tiny_backbone_dir):
    plain, _, _ = plain_embedder(tiny_backbone_dir)
    single, _, _ = plain_embedder(tiny_backbone_dir, pooling="memory", memory_tokens=1, prompt="{text}")
    for model in (plain, single):
        assert memory_tokens_of(model) == 0
        with pytest.raises(InputError, match="has not several memory tokens"):
            read_memory(model, SENTENCES[:2])
    with pytest.raises(InputError, match="at least 1"):
        read_memory(embedder, [])
    for states, message in (
        (np.ones((2, 1, 3)), r"of shape \(2, 1, 3\); expected texts x memory tokens x width, at least 2"),
        (np.ones((0, 2, 3)), "expected texts x memory tokens"),
        (np.zeros((2, 2, 3)), "not finite or of length 0"),
        (np.full((2, 2, 3), np.nan), "not finite or of length 0"),
    ):
        with pytest.raises(InputError, match=message):
            correlate_memory(states)


@pytest.mark.parametrize("size", [2, 8, 16, 20])
def test_heat_map_has_a_cell_for_every_pair_and_a_number_where_there_is_room(size):
    matrix = np.eye(size) + (1 - np.eye(size)) * -0.25
    matrix[0, 1] = matrix[1, 0] = 0.97
    svg = plots.heat_map(matrix.tolist(), name="x", framed=COPIES)
    root = ElementTree.fromstring(svg)
    written = [text.text for text in root.iter("text")]
    numbers = size <= 16
    assert written.count("0.97") == 2 * numbers and written.count("1.00") == size * numbers
    assert written.count("-0.25") == (size * size - size - 2) * numbers
    assert svg.count("var(--trained)") == size + 2 and svg.count("var(--raw)") == size * size - size - 2
    framed = re.findall(r"fill: none; stroke: var\(--ink\)", svg)
    assert len(framed) == 2
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert f"mean cosines of {size} memory tokens, from {min(matrix[0]):.2f} to 0.97" in svg
