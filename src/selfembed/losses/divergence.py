"""Divergences between distributions over a large vocabulary, in float32 log space and in chunks.

Rows (tokens or texts) are taken some at a time: their logits, the divergence and its gradient on the hidden states are
computed, and the logits are forgotten before the next chunk. What is kept for the backward pass has the size of the
hidden states, so nothing of size T x V is ever made, and no matrix product is done twice.

Every function returns one value per row, not their mean: a row's value depends on its own hidden state only, so that
any weighting by the caller (a mean over positions and then over sequences, say) gets its exact gradient.

Shapes: T rows, C rows of a chunk, D hidden, V vocabulary, K support of a sparse distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_value

# From hidden states (T, D) to logits (T, V), each row by itself; a bias, scaling or soft-capping are part of it.
Head = Callable[[Tensor], Tensor]
# From log_q_CV, which it may overwrite, and the chunk's place among the rows: value_C and its gradient on the logits.
_Divergence = Callable[[Tensor, slice], tuple[Tensor, Tensor]]

# Of a chunk's float32 logits; a divergence holds up to five tensors of this size.
_CHUNK_BYTES = 64 * 2**20


def chunked_kl(
    student_hidden_TD: Tensor, teacher_hidden_TD: Tensor, head: Head, *, chunk_rows: int | None = None
) -> Tensor:
    """Computes forward KL(teacher || student) of the distributions that hidden states decode to (LLM2Comp's CTKD).

    The gradient on the student's logits is `Q - P`. The teacher gets none.

    Args:
        student_hidden_TD: Hidden states of the student, of any float type; the gradient has the same.
        teacher_hidden_TD: Hidden states of the teacher, row by row.
        head: The frozen decoder layer, see :class:`selfembed.model.backbone.LMHead`.
        chunk_rows: Rows per chunk; None takes what :func:`chunks` does.

    Returns:
        `kl_T` in nats, float32. It can be differentiated once.

    Raises:
        InputError: There is no row, the hidden states differ in shape, or the head is being trained.
    """
    if student_hidden_TD.shape != teacher_hidden_TD.shape:
        raise InputError(
            f"hidden states: {tuple(student_hidden_TD.shape)} of the student, {tuple(teacher_hidden_TD.shape)} of the "
            "teacher; expected one of each per token"
        )

    def kl(log_q_CV: Tensor, span: slice) -> tuple[Tensor, Tensor]:
        log_p_CV = head(teacher_hidden_TD[span]).float().log_softmax(-1)
        p_CV = log_p_CV.exp()
        return log_p_CV.sub_(log_q_CV).mul_(p_CV).sum(-1), log_q_CV.exp_().sub_(p_CV)

    return _per_row(student_hidden_TD, head, kl, chunk_rows)


def chunked_cross_entropy(hidden_TD: Tensor, target_T: Tensor, head: Head, *, chunk_rows: int | None = None) -> Tensor:
    """Computes the cross-entropy of one right token per row.

    Args:
        hidden_TD: Hidden states of any float type; the gradient has the same.
        target_T: Token ids, int64.
        head: The frozen decoder layer.
        chunk_rows: Rows per chunk; None takes what :func:`chunks` does.

    Returns:
        `loss_T` in nats, float32. It can be differentiated once.

    Raises:
        InputError: There is no row or not one target for each, a target lies outside the vocabulary, or the head is
            being trained.
    """
    if target_T.shape != hidden_TD.shape[:1]:
        raise InputError(
            f"targets: {tuple(target_T.shape)} for hidden states {tuple(hidden_TD.shape)}; expected one per row"
        )

    def cross_entropy(log_q_CV: Tensor, span: slice) -> tuple[Tensor, Tensor]:
        target_C1 = target_T[span, None]
        if not 0 <= target_C1.min() <= target_C1.max() < log_q_CV.shape[-1]:
            raise InputError(
                f"targets: from {target_C1.min()} to {target_C1.max()}; expected 0 to {log_q_CV.shape[-1] - 1}, the "
                "vocabulary; leave out the positions that have none"
            )
        loss_C = -log_q_CV.gather(-1, target_C1).squeeze(-1)
        return loss_C, log_q_CV.exp_().scatter_add_(-1, target_C1, torch.full_like(target_C1, -1, dtype=torch.float32))

    return _per_row(hidden_TD, head, cross_entropy, chunk_rows)


def chunked_sparse_kl(
    hidden_TD: Tensor,
    head: Head,
    ids_TK: Tensor,
    weights_TK: Tensor,
    rest_T: Tensor | None = None,
    *,
    chunk_rows: int | None = None,
) -> Tensor:
    """Computes KL(P || softmax(head(hidden))) for sparse P; the dense P is never built.

    Args:
        hidden_TD: Hidden states of any float type; the gradient has the same.
        head: The frozen decoder layer.
        ids_TK: Token ids, int64, distinct within a row where their weight is positive.
        weights_TK: Probabilities of these tokens; 0 marks padding.
        rest_T: Probability spread evenly over the tokens outside the support; None stands for 0.
        chunk_rows: Rows per chunk; None takes what :func:`chunks` does.

    Returns:
        `kl_T` in nats, float32. It can be differentiated once.

    Raises:
        InputError: There is no row or not one target for each, or the head is being trained.
    """
    if ids_TK.shape != weights_TK.shape or len(ids_TK) != len(hidden_TD):
        raise InputError(
            f"targets: ids {tuple(ids_TK.shape)} and weights {tuple(weights_TK.shape)} for hidden states "
            f"{tuple(hidden_TD.shape)}; expected one row each"
        )

    def sparse_kl(log_q_CV: Tensor, span: slice) -> tuple[Tensor, Tensor]:
        ids_CK, weights_CK = ids_TK[span], weights_TK[span].float()
        log_q_CK = log_q_CV.gather(-1, ids_CK)
        kl_C = (torch.xlogy(weights_CK, weights_CK) - weights_CK * log_q_CK).sum(-1)
        mass_C = weights_CK.sum(-1)
        if rest_T is None:
            return kl_C, log_q_CV.exp_().mul_(mass_C[:, None]).scatter_add_(-1, ids_CK, -weights_CK)
        rest_C, support_CK = rest_T[span], weights_CK > 0
        each_C = rest_C / (log_q_CV.shape[-1] - support_CK.sum(-1))
        log_q_others_C = log_q_CV.sum(-1) - (log_q_CK * support_CK).sum(-1)
        kl_C = kl_C + torch.xlogy(rest_C, each_C) - each_C * log_q_others_C
        gradient_CV = log_q_CV.exp_().mul_((mass_C + rest_C)[:, None]).sub_(each_C[:, None])
        return kl_C, gradient_CV.scatter_add_(-1, ids_CK, support_CK * each_C[:, None] - weights_CK)

    return _per_row(hidden_TD, head, sparse_kl, chunk_rows)


def chunks(hidden_TD: Tensor, head: Head, chunk_rows: int | None = None) -> list[slice]:
    """Cuts rows into chunks whose float32 logits stay within 64 MiB: 130 rows each at a vocabulary of 128,256.

    Args:
        hidden_TD: Hidden states that the head reads.
        head: The frozen decoder layer; called on no row, to learn the size of the vocabulary.
        chunk_rows: Rows per chunk, instead of that rule.

    Raises:
        InputError: The hidden states are no matrix or have no row, a chunk has less than one row, or the head is being
            trained.
    """
    if hidden_TD.ndim != 2 or len(hidden_TD) == 0:
        raise InputError(f"hidden states: of shape {tuple(hidden_TD.shape)}; expected (rows, width), at least one row")
    check_value("chunk_rows", chunk_rows, Annotated[int, Range(least=1)] | None)
    logits_0V = head(hidden_TD[:0].detach())
    if logits_0V.requires_grad:
        raise InputError(
            "head: is being trained, and would get no gradient from here; expected a frozen one; "
            "call requires_grad_(False) on it"
        )
    size = chunk_rows or max(1, _CHUNK_BYTES // (4 * logits_0V.shape[-1]))
    return [slice(start, start + size) for start in range(0, len(hidden_TD), size)]


def _per_row(hidden_TD: Tensor, head: Head, divergence: _Divergence, chunk_rows: int | None) -> Tensor:
    wanted = hidden_TD.requires_grad and torch.is_grad_enabled()
    spans = chunks(hidden_TD, head, chunk_rows)
    value_T: Tensor = _Chunked.apply(hidden_TD, head, divergence, spans, wanted)  # type: ignore[no-untyped-call]
    return value_T


class _Chunked(torch.autograd.Function):
    """Values and, in the same pass, their gradient: the logits need not be computed again for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, head: Head, divergence: _Divergence, spans: list[slice], wanted: bool
    ) -> Tensor:
        value_T = torch.empty(len(hidden_TD), dtype=torch.float32, device=hidden_TD.device)
        gradient_TD = torch.empty_like(hidden_TD) if wanted else None
        for span in spans:
            hidden_CD = hidden_TD[span].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits_CV = head(hidden_CD)
            value_T[span], by_logits_CV = divergence(logits_CV.detach().float().log_softmax(-1), span)
            if gradient_TD is not None:
                (gradient_TD[span],) = torch.autograd.grad(logits_CV, hidden_CD, by_logits_CV.to(logits_CV.dtype))
        ctx.save_for_backward(gradient_TD)
        return value_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_T: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_TD,) = ctx.saved_tensors
        return (gradient_TD * upstream_T[:, None]).to(gradient_TD.dtype), None, None, None, None
