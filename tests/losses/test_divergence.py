"""Chunked divergences against torch's own over whole logits: values, gradients, precision, size of the tensors."""

from __future__ import annotations

import random

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from selfembed.errors import InputError
from selfembed.losses.divergence import chunked_cross_entropy, chunked_kl, chunked_sparse_kl, chunks
from selfembed.model.backbone import LMHead

LINEAR, BIAS, SOFTCAP = "linear", "bias", "softcap"


def make_head(kind: str, vocab: int, width: int):
    weights = {"weight": torch.randn(vocab, width) / width**0.5 * 3}
    if kind == BIAS:
        weights["bias"] = torch.randn(vocab)
    head = LMHead(weights)
    return (lambda hidden: 5 * torch.tanh(head(hidden) / 5)) if kind == SOFTCAP else head


def dense_target(ids_TK, weights_TK, rest_T, vocab: int) -> torch.Tensor:
    """Built entry by entry, the rest spread over the tokens without weight."""
    dense_TV = torch.zeros(len(ids_TK), vocab)
    for t in range(len(ids_TK)):
        for token, weight in zip(ids_TK[t].tolist(), weights_TK[t].tolist(), strict=True):
            dense_TV[t, token] += weight
        outside = dense_TV[t] == 0
        if rest_T is not None:
            dense_TV[t, outside] = rest_T[t] / outside.sum()
    return dense_TV


def case(name: str, seed: int, kind: str):
    """Leaf hidden states, the chunked form, the naive form from logits, and a chunk size that need not divide T."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    rows, width, vocab = draw.randint(1, 40), draw.randint(1, 12), draw.randint(8, 90)
    head, hidden_TD = make_head(kind, vocab, width), torch.randn(rows, width).requires_grad_()
    if name == "kl":
        teacher_TD = torch.randn(rows, width)
        args = (teacher_TD, head)
        log_p_TV = head(teacher_TD).log_softmax(-1)

        def naive(logits_TV):
            return kl_div(logits_TV.log_softmax(-1), log_p_TV, log_target=True, reduction="none").sum(-1)

        chunked = chunked_kl
    elif name == "cross_entropy":
        target_T = torch.randint(vocab, (rows,))
        args, chunked = (target_T, head), chunked_cross_entropy

        def naive(logits_TV):
            return cross_entropy(logits_TV, target_T, reduction="none")
    else:
        support = draw.randint(1, 5)
        ids_TK = torch.stack([torch.randperm(vocab)[:support] for _ in range(rows)])
        weights_TK = torch.rand(rows, support) + 0.1
        padding_TK = torch.rand(rows, support) < 0.3
        weights_TK = weights_TK.masked_fill(padding_TK, 0)
        ids_TK = ids_TK.masked_fill(padding_TK, int(ids_TK[0, 0]))  # padded with what may be a listed token
        rest_T = torch.rand(rows) * 0.5 if name == "rest" else None
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True).clamp(min=1e-9)  # a row may be empty
        if rest_T is not None:
            weights_TK = weights_TK * (1 - rest_T[:, None])
        args, chunked = (head, ids_TK, weights_TK, rest_T), chunked_sparse_kl
        dense_TV = dense_target(ids_TK, weights_TK, rest_T, vocab)

        def naive(logits_TV):
            return kl_div(logits_TV.log_softmax(-1), dense_TV, reduction="none").sum(-1)

    size = draw.choice([1, 3, 7, rows, rows + 5, None])
    return hidden_TD, lambda hidden: chunked(hidden, *args, chunk_rows=size), lambda hidden: naive(head(hidden))


@pytest.mark.parametrize("kind", [LINEAR, BIAS, SOFTCAP])
@pytest.mark.parametrize("name", ["kl", "cross_entropy", "sparse", "rest"])
@pytest.mark.parametrize("seed", range(8))
def test_values_and_gradients_equal_the_unchunked_ones(name, seed, kind):
    hidden_TD, chunked, naive = case(name, seed, kind)
    ours_T, expected_T = chunked(hidden_TD), naive(hidden_TD)
    assert ours_T.dtype == torch.float32
    torch.testing.assert_close(ours_T, expected_T, atol=1e-5, rtol=1e-5)
    upstream_T = torch.randn(len(hidden_TD)) * 3
    ours_TD, expected_TD = (
        torch.autograd.grad((value_T * upstream_T).sum(), hidden_TD)[0] for value_T in (ours_T, expected_T)
    )
    torch.testing.assert_close(ours_TD, expected_TD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["kl", "cross_entropy", "sparse", "rest"])
def test_gradients_equal_finite_differences(name):
    hidden_TD, chunked, _ = case(name, 3, SOFTCAP)
    (gradient_TD,) = torch.autograd.grad(chunked(hidden_TD).sum(), hidden_TD)
    step = 1e-2
    for d in range(hidden_TD.shape[1]):
        moved_TD = torch.zeros_like(hidden_TD)
        moved_TD[:, d] = step
        with torch.no_grad():
            slope_T = (chunked(hidden_TD + moved_TD) - chunked(hidden_TD - moved_TD)) / (2 * step)
        torch.testing.assert_close(gradient_TD[:, d], slope_T, atol=5e-3, rtol=5e-3)


def test_kl_of_itself_is_zero_and_so_is_its_gradient():
    torch.manual_seed(0)
    head, hidden_TD = make_head(BIAS, 40, 6), torch.randn(9, 6)
    student_TD = hidden_TD.clone().requires_grad_()
    kl_T = chunked_kl(student_TD, hidden_TD, head, chunk_rows=4)
    kl_T.sum().backward()
    torch.testing.assert_close(kl_T.detach(), torch.zeros(9), atol=1e-6, rtol=0)
    torch.testing.assert_close(student_TD.grad, torch.zeros(9, 6), atol=1e-6, rtol=0)


@pytest.mark.parametrize("low", ["hidden", "hidden and head"])
def test_bfloat16_is_near_float32_and_summed_in_it(low):
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 200, bias=False).requires_grad_(False)
    student_TD, teacher_TD = torch.randn(2, 11, 16)
    expected_TD = student_TD.clone().requires_grad_()
    expected_T = chunked_kl(expected_TD, teacher_TD, layer)
    expected_T.mean().backward()
    head = LMHead({"weight": layer.weight.data.clone()}) if low == "hidden" else layer.bfloat16()
    low_TD = student_TD.bfloat16().requires_grad_()
    kl_T = chunked_kl(low_TD, teacher_TD.bfloat16(), head, chunk_rows=4)
    kl_T.mean().backward()
    assert kl_T.dtype == torch.float32 and low_TD.grad.dtype == torch.bfloat16
    torch.testing.assert_close(kl_T, expected_T, atol=1e-2, rtol=5e-2)
    torch.testing.assert_close(low_TD.grad.float(), expected_TD.grad, atol=1e-3, rtol=5e-2)


class LargestTensor(TorchDispatchMode):
    """Records the most elements that any tensor made inside had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return made


def test_no_tensor_is_larger_than_a_chunk_of_logits():
    rows, width, vocab, size = 60, 4, 500, 7
    head, target_T = make_head(LINEAR, vocab, width), torch.randint(vocab, (rows,))
    forms = (
        lambda hidden_TD: chunked_kl(hidden_TD, torch.randn(rows, width), head, chunk_rows=size),
        lambda hidden_TD: chunked_cross_entropy(hidden_TD, target_T, head, chunk_rows=size),
        lambda hidden_TD: chunked_sparse_kl(
            hidden_TD, head, target_T[:, None], torch.ones(rows, 1), torch.zeros(rows), chunk_rows=size
        ),
    )
    for form in forms:
        with LargestTensor() as largest:
            form(torch.randn(rows, width).requires_grad_()).mean().backward()
        assert largest.elements == size * vocab
    with LargestTensor() as largest:
        cross_entropy(head(torch.randn(rows, width)), target_T)
    assert largest.elements == rows * vocab  # so would the naive form be caught


def test_chunks_keep_to_the_budget_and_cover_every_row_once():
    hidden_TD = torch.zeros(2048, 1)
    spans = chunks(hidden_TD, lambda hidden: hidden.new_zeros(len(hidden), 128_256))
    assert {span.stop - span.start for span in spans} == {130} and 130 * 128_256 * 4 <= 64 * 2**20 < 131 * 128_256 * 4
    assert torch.cat([torch.arange(2048)[span] for span in spans]).tolist() == list(range(2048))
    assert len(chunks(hidden_TD, lambda hidden: hidden.new_zeros(len(hidden), 2**26))) == 2048


def test_without_gradient_none_is_kept_or_computed():
    head, hidden_TD = make_head(LINEAR, 20, 4), torch.randn(5, 4)
    assert not chunked_kl(hidden_TD, hidden_TD, head).requires_grad
    with torch.no_grad():
        assert not chunked_kl(hidden_TD.requires_grad_(), hidden_TD, head).requires_grad


def test_a_second_derivative_is_refused():
    hidden_TD = torch.randn(5, 4, requires_grad=True)
    loss = chunked_cross_entropy(hidden_TD, torch.zeros(5, dtype=torch.int64), make_head(LINEAR, 20, 4)).square().sum()
    (gradient_TD,) = torch.autograd.grad(loss, hidden_TD, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient_TD.sum().backward()


def test_bad_input_is_named():
    head, hidden_TD, target_T = make_head(LINEAR, 20, 4), torch.randn(5, 4), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(InputError, match="at least one row"):
        chunked_kl(hidden_TD[:0], hidden_TD[:0], head)
    with pytest.raises(InputError, match=r"of shape \(1, 5, 4\)"):
        chunked_kl(hidden_TD[None], hidden_TD[None], head)
    with pytest.raises(InputError, match="one of each per token"):
        chunked_kl(hidden_TD, hidden_TD[:1], head)
    for rows in (0, 2.5, True):
        with pytest.raises(InputError, match=f"chunk_rows {rows}: expected .*at least 1, or None$"):
            chunked_kl(hidden_TD, hidden_TD, head, chunk_rows=rows)
    with pytest.raises(InputError, match="one per row"):
        chunked_cross_entropy(hidden_TD, target_T[:4], head)
    for wrong in (-100, 20):
        with pytest.raises(InputError, match="expected 0 to 19"):
            chunked_cross_entropy(hidden_TD, torch.full((5,), wrong), head)
    with pytest.raises(InputError, match="one row each"):
        chunked_sparse_kl(hidden_TD, head, target_T[:4, None], torch.ones(4, 1))
    with pytest.raises(InputError, match="being trained"):
        chunked_kl(hidden_TD.requires_grad_(), hidden_TD, torch.nn.Linear(4, 20))
