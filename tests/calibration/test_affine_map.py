"""Affine maps against numpy, and as modules of an embedder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny import of_one_length, save_tiny

from selfembed import InputError, load_backbone
from selfembed.calibration.affine_map import LENGTH, add_map, candidates, identity, map_of, spectrum, without_map
from selfembed.calibration.choice import choose_map
from selfembed.calibration.self_retrieval import SelfRetrieval, self_retrieval
from selfembed.data.passages import PassageRow
from selfembed.model.embedder import EmbedderConfig, build_embedder

RNG = np.random.default_rng(0)
VECTORS_ND = RNG.standard_normal((40, 8)).astype(np.float32) @ RNG.standard_normal((8, 8)) + 3
WEIGHT_VD = torch.from_numpy(RNG.standard_normal((50, 8)))


def passage(text, document, title=""):
    return PassageRow(text=text, words=len(text.split()), title=title, title_from="", document=document)


def maps(spectrum_DD=None):
    return {one.name: one for one in candidates(VECTORS_ND, spectrum_DD)}


def test_spectrum_is_that_of_a_singular_value_decomposition():
    _, _, axes_DD = np.linalg.svd(WEIGHT_VD.numpy())
    np.testing.assert_allclose(np.abs((spectrum(WEIGHT_VD) * axes_DD.T).sum(0)), 1, atol=1e-8)


def test_centring_and_bands():
    spectrum_DD = spectrum(WEIGHT_VD)
    found = maps(spectrum_DD)
    np.testing.assert_allclose(found["centred"](VECTORS_ND).mean(0), 0, atol=1e-5)
    _, _, axes_DD = np.linalg.svd(WEIGHT_VD.numpy())
    middle_ND = VECTORS_ND @ axes_DD.T[:, 2:6]
    for name, expected_ND in (
        ("middle half", middle_ND),
        ("centred, middle half", middle_ND - middle_ND.mean(0)),
    ):
        mapped_ND = found[name](VECTORS_ND)
        np.testing.assert_allclose(np.abs(mapped_ND), np.abs(expected_ND), rtol=1e-3, atol=1e-4)
    assert found["centred, without the top quarter"](VECTORS_ND).shape == (40, 6)


def test_two_poolings_are_mapped_each_by_itself():
    spectrum_DD = spectrum(WEIGHT_VD)
    both_ND = np.hstack([VECTORS_ND, 3 * VECTORS_ND[:, ::-1] ** 2])
    one, other, both = (
        {found.name: found(vectors_ND) for found in candidates(vectors_ND, spectrum_DD, parts)}
        for vectors_ND, parts in ((both_ND[:, :8], 1), (both_ND[:, 8:], 1), (both_ND, 2))
    )
    assert list(both) == list(one) and len(both) == 8
    for name, mapped_ND in both.items():
        np.testing.assert_allclose(mapped_ND, np.hstack([one[name], other[name]]), rtol=1e-4, atol=1e-3)


def test_whitening_evens_out_the_variances():
    before, much, little = (
        np.linalg.eigvalsh(np.cov(mapped_ND.T))
        for mapped_ND in (
            VECTORS_ND,
            *(maps()[name](VECTORS_ND) for name in ("whitened, much shrunk", "whitened, shrunk")),
        )
    )
    assert before[-1] / before[0] > much[-1] / much[0] > little[-1] / little[0]
    floor = 0.1 * before.mean()
    np.testing.assert_allclose(little, np.sort(before / (before + floor)), rtol=1e-3)


def test_a_map_becomes_a_stock_module(tmp_path):
    embedder = build_embedder(load_backbone(save_tiny("llama", tmp_path / "model")), EmbedderConfig(), device="cpu")
    texts = ["the cat sat on the mat", "a dog barked", "rain fell all night"]
    vectors_ND = embedder.encode(texts)
    chosen = {one.name: one for one in candidates(vectors_ND)}["whitened, shrunk"]
    mapped = add_map(embedder, chosen)
    expected_NK = of_one_length(chosen(vectors_ND))
    np.testing.assert_allclose(np.linalg.norm(expected_NK, axis=1), LENGTH, rtol=1e-2)
    np.testing.assert_allclose(mapped.encode(texts), expected_NK, rtol=1e-4, atol=1e-4)
    mapped.save(str(tmp_path / "mapped"), create_model_card=False)
    stock = SentenceTransformer(str(tmp_path / "mapped"), device="cpu")
    np.testing.assert_allclose(stock.encode(texts), expected_NK, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(map_of(stock).matrix_DK, chosen.matrix_DK, rtol=1e-5)
    np.testing.assert_allclose(without_map(stock).encode(texts), vectors_ND, rtol=1e-4, atol=1e-5)
    assert without_map(embedder) is embedder
    with pytest.raises(InputError, match="already"):
        add_map(mapped, identity(vectors_ND.shape[1]))
    with pytest.raises(InputError, match="map of width 3"):
        add_map(embedder, identity(3))


def a_search(count=60, width=16, cone=0.0, noise=0.6, seed=0):
    """Pairs of noisy vectors around common points, all of them shifted along one axis."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, width))
    sides = [points + noise * rng.standard_normal(points.shape) for _ in range(2)]
    vectors_ND = np.concatenate(sides)
    vectors_ND[:, 0] = vectors_ND[:, 0] * 8 + cone
    names = tuple(map(str, range(count)))
    return SelfRetrieval(names, names), vectors_ND


@pytest.mark.parametrize("seed", range(5))
def test_a_choice_is_never_below_the_identity(seed):
    search, vectors_ND = a_search(cone=30.0, seed=seed)
    choice = choose_map(search, vectors_ND)
    assert choice.scores[choice.map.name] >= choice.scores["as it is"]
    assert search.ndcg_Q(choice.map(vectors_ND)).mean() == pytest.approx(choice.scores[choice.map.name])


def test_a_cone_is_mended_and_the_choice_is_stable():
    chosen = {choose_map(*a_search(300, noise=1.0, cone=60.0, seed=seed)).map.name for seed in range(5)}
    assert chosen == {"whitened, shrunk"}


def test_what_needs_no_map_gets_none():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((60, 64))
    names = tuple(map(str, range(60)))
    choice = choose_map(SelfRetrieval(names, names), np.concatenate([points, points]))
    assert choice.map.changes_nothing
    assert choice.to_dict()["chosen"] == "as it is"


def test_ndcg_by_hand():
    search = SelfRetrieval(("a", "b"), ("x", "y"))
    vectors_ND = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]])  # each query finds the other's passage first
    np.testing.assert_allclose(search.ndcg_Q(vectors_ND), 1 / np.log2(3))
    np.testing.assert_allclose(search.ndcg_Q(np.ones((4, 2))), 1 / np.log2(2.5))  # all equal: half before it


def test_self_retrieval_takes_one_pair_a_document():
    passages = [
        passage(f"Words on subject {n} come first here. Then {n} more of them follow after it.", n, f"Title {n}")
        for n in range(20)
        for _ in range(2)
    ]
    search = self_retrieval(passages, 12, seed=1)
    assert len(search.queries) == len(search.passages) == 12
    assert search == self_retrieval(passages, 12, seed=1) != self_retrieval(passages, 12, seed=2)
    for query, rest in zip(search.queries, search.passages, strict=True):
        assert query not in rest


def test_too_few_texts_for_self_retrieval():
    with pytest.raises(InputError, match="expected at least 8"):
        self_retrieval([passage("Same words again and again. They do not tell texts apart.", n) for n in range(9)], 12)
