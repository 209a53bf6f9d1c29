"""Spectra against numpy, on matrices whose rank and answers are known by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from selfembed.errors import InputError
from selfembed.explanation.spectrum import (
    alignment,
    anisotropy,
    compare_spectra,
    effective_rank,
    measure_spectrum,
    participation_ratio,
    singular_values,
    uniformity,
    variation,
)

RNG = np.random.default_rng(0)
RAW = RNG.standard_normal((40, 8)) + 3 * np.eye(8)[0]
TRAINED = RAW + 0.3 * RNG.standard_normal((40, 8)) - np.eye(8)[0]
CROSS = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])


def test_effective_rank_and_participation_ratio_by_hand():
    for measure in (effective_rank, participation_ratio):
        assert measure([2.0, 2, 2, 0]) == pytest.approx(3)
        assert measure([5.0, 0]) == pytest.approx(1)
        assert measure([0.0, 0]) == 0
    # shares 3/4 and 1/4; variances 9 and 1
    assert effective_rank([3.0, 1]) == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)))
    assert participation_ratio([3.0, 1]) == pytest.approx(100 / 82)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_singular_values_of_known_rank(rank):
    low_ND = np.random.default_rng(rank).standard_normal((30, rank)) @ np.eye(rank, 12)
    singular_R = singular_values(low_ND)
    assert singular_R.shape == (12,)
    assert (singular_R > 0).sum() == rank
    assert effective_rank(singular_R) <= rank + 1e-9


def test_singular_values_are_those_of_the_covariance():
    unit_ND = RAW / np.linalg.norm(RAW, axis=1, keepdims=True)
    variance_D = np.linalg.eigvalsh(np.cov(unit_ND.T, bias=True))[::-1]
    assert np.square(singular_values(RAW)) / len(RAW) == pytest.approx(variance_D)
    assert singular_values(CROSS) == pytest.approx(np.sqrt([2, 2]))


def test_collapsed_space_has_no_rank():
    same_ND = np.tile(RAW[:1], (20, 1)) * (1 + 1e-7 * RNG.standard_normal((20, 1)))
    spectrum = measure_spectrum(same_ND.astype(np.float32))
    assert spectrum.effective_rank == spectrum.participation_ratio == 0
    assert spectrum.anisotropy == pytest.approx(1) and spectrum.uniformity == pytest.approx(0, abs=1e-6)


def test_anisotropy_and_uniformity_by_hand():
    # of six pairs two are opposite (cosine -1, distance 4 squared), four orthogonal (0, 2)
    assert anisotropy(CROSS) == pytest.approx(-2 / 6)
    assert uniformity(CROSS) == pytest.approx(np.log((2 * np.exp(-8) + 4 * np.exp(-4)) / 6))
    assert anisotropy(7 * CROSS[:1] + np.zeros((3, 2))) == pytest.approx(1)


def test_anisotropy_and_uniformity_against_all_pairs():
    many_ND = RNG.standard_normal((600, 5)) + 1
    unit_ND = many_ND / np.linalg.norm(many_ND, axis=1, keepdims=True)
    upper = np.triu_indices(len(many_ND), 1)
    assert anisotropy(many_ND) == pytest.approx((unit_ND @ unit_ND.T)[upper].mean())
    squared_NN = np.square(unit_ND[:, None] - unit_ND[None]).sum(-1)
    assert uniformity(many_ND) == pytest.approx(np.log(np.exp(-2 * squared_NN[upper]).mean()))


def test_alignment_by_hand():
    assert alignment(CROSS, 3 * CROSS) == pytest.approx(0)
    assert alignment(CROSS[:2], CROSS[1::-1]) == pytest.approx(4)
    assert alignment(CROSS[[0, 0]], CROSS[[0, 2]]) == pytest.approx(1)
    found = measure_spectrum(CROSS, pairs=(CROSS[:2], CROSS[[2, 0]]))
    assert found.alignment == pytest.approx((2 + 4) / 2) and found.pairs == 2
    assert measure_spectrum(CROSS).alignment is None and measure_spectrum(CROSS).pairs == 0


def test_variation_is_the_mean_difference_of_the_coefficients():
    moved = variation(RAW, TRAINED)
    _, _, components_RD = np.linalg.svd(RAW)  # uncentred
    expected_R = (TRAINED @ components_RD.T - RAW @ components_RD.T).mean(0)
    assert np.abs(moved.by_component) == pytest.approx(np.abs(expected_R))
    assert min(moved.raw_coefficient) >= 0
    assert np.abs(moved.raw_coefficient) == pytest.approx(np.abs((RAW @ components_RD.T).mean(0)))
    # the raw mean lies along the first axis, and training took away from it
    assert moved.by_component[0] == pytest.approx(-1, abs=0.2)
    assert np.abs(moved.by_component[0]) > 3 * np.abs(moved.by_component[1:]).max()


def test_variation_does_not_depend_on_the_sign_of_a_component():
    there, mirrored = variation(RAW, TRAINED), variation(-RAW, -TRAINED)
    assert there.by_component == pytest.approx(mirrored.by_component)


def test_variation_by_hand_leaves_out_what_raw_does_not_span():
    raw_ND = np.array([[-2.0, 0, 0], [-2, 0, 0], [0, 3, 0]])
    trained_ND = raw_ND + [1, 2, 5]
    moved = variation(raw_ND, trained_ND)
    # components: the second axis (singular value 3), the first (2.83); the mean raw coefficients are 1 and 4/3
    assert moved.raw_coefficient == pytest.approx((1, 4 / 3))
    assert moved.by_component == pytest.approx((2, -1))


def test_change_of_the_same_texts():
    raw_pairs, trained_pairs = ((side[:9], side[9:18]) for side in (RAW, TRAINED))
    change = compare_spectra(RAW, TRAINED, raw_pairs=raw_pairs, trained_pairs=trained_pairs)
    assert change.raw == measure_spectrum(RAW, pairs=raw_pairs)
    assert change.trained == measure_spectrum(TRAINED, pairs=trained_pairs)
    assert change.raw.alignment != change.trained.alignment == alignment(*trained_pairs)
    assert change.raw.mean_length == pytest.approx(np.linalg.norm(RAW, axis=1).mean())
    stored = json.loads(json.dumps(change.to_dict()))
    assert stored["trained"]["alignment"] == change.trained.alignment
    assert len(stored["raw"]["singular_values"]) == len(stored["variation"]["by_component"]) == 8
    text = "\n".join(change.lines())
    assert f"{change.trained.effective_rank:.1f}" in text and "note" not in text
    assert any("(9 texts" in line and f"{change.trained.alignment:.3f}" in line for line in change.lines())
    assert ("mean length", f"{change.raw.mean_length:.2f}", f"{change.trained.mean_length:.2f}") in change.rows()
    assert "alignment" not in "\n".join(compare_spectra(RAW, TRAINED).lines())
    assert "at most 4 directions" in "\n".join(compare_spectra(RAW[:5], TRAINED[:5]).lines())


def with_row(value: float) -> np.ndarray:
    spoilt_ND = RAW.copy()
    spoilt_ND[3] = value
    return spoilt_ND


@pytest.mark.parametrize(
    ("raw", "trained", "message"),
    [
        (RAW[:1], TRAINED[:1], r"raw embeddings: of 1 texts; expected at least 2"),
        (RAW, TRAINED[:-1], r"40 raw and 39 trained; expected one of each per text"),
        (RAW, TRAINED[:, :-1], r"raw of width 8, trained of width 7"),
        (with_row(np.nan), TRAINED, r"raw embeddings: 1 of 40 not finite, the first in row 3"),
        (RAW, with_row(np.inf), r"trained embeddings: 1 of 40 not finite"),
        (RAW, with_row(0), r"trained embeddings: 1 of 40 zero, the first in row 3"),
        (RAW / np.linalg.norm(RAW, axis=1, keepdims=True), TRAINED, r"the raw ones have length 1, the trained ones"),
        (RAW[0], TRAINED[0], r"of shape \(8,\); expected \(texts, width\)"),
        ([["a"]], TRAINED, r"not a matrix of numbers"),
    ],
)
def test_bad_embeddings(raw, trained, message):
    with pytest.raises(InputError, match=message) as caught:
        compare_spectra(raw, trained)
    assert "\n" not in str(caught.value)


def test_bad_pairs():
    with pytest.raises(InputError, match=r"pairs: of shapes \(9, 8\) and \(8, 8\); expected two of the same shape"):
        measure_spectrum(RAW, pairs=(RAW[:9], RAW[:8]))
    with pytest.raises(InputError, match="left embeddings: of 0 texts"):
        measure_spectrum(RAW, pairs=(RAW[:0], RAW[:0]))
