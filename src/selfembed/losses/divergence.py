"""Distances between distributions over a large vocabulary, in float32 log space.

Shapes: B batch, V vocabulary, K support of the sparse side.
"""

from __future__ import annotations

import torch


def sparse_kl(
    logits_BV: torch.Tensor, ids_BK: torch.Tensor, weights_BK: torch.Tensor, rest_B: torch.Tensor | None = None
) -> torch.Tensor:
    """KL(P || softmax(logits)) for sparse P; the dense P is never built.

    Args:
        logits_BV: any float type; taken to float32.
        ids_BK: int64 token ids, distinct within a row where their weight is positive.
        weights_BK: their probabilities; 0 marks padding.
        rest_B: probability spread evenly over the tokens outside the support; None stands for 0.

    Returns:
        kl_B in nats, float32.
    """
    log_q_BV = logits_BV.float().log_softmax(-1)
    weights_BK = weights_BK.float()
    log_q_BK = log_q_BV.gather(-1, ids_BK)
    kl_B = (torch.xlogy(weights_BK, weights_BK) - weights_BK * log_q_BK).sum(-1)
    if rest_B is not None:
        support_BK = weights_BK > 0
        others_B = log_q_BV.shape[-1] - support_BK.sum(-1)
        each_B = rest_B / others_B
        log_q_others_B = log_q_BV.sum(-1) - (log_q_BK * support_BK).sum(-1)
        kl_B = kl_B + torch.xlogy(rest_B, each_B) - each_B * log_q_others_B
    return kl_B
