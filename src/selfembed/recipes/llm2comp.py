"""LLM2Comp (arXiv 2511.17129): compress a text into memory tokens that a decoder can go on from.

Stage 1, compression: the memory vectors of a text's first part shall do for the decoder what that part does (CTKD).
Stage 2, two views: unsupervised contrastive learning (UCL).

The numbers are those of the authors' public code; docs/papers.md says where each comes from and where we differ.
"""

from __future__ import annotations

from typing import Any

from selfembed.backbone import Lora
from selfembed.embedder import EmbedderConfig
from selfembed.losses.compression import Compression
from selfembed.losses.contrastive import TwoViews
from selfembed.recipes.stage import Recipe, Stage

# All linear layers but the key projection.
TARGETS = ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
READING: dict[str, Any] = {
    "embedder": EmbedderConfig(pooling="memory", attention="bidirectional", memory_tokens=8),
    "lora": Lora(r=16, alpha=32, dropout=0.05, targets=TARGETS),
}


def llm2comp_unsup() -> Recipe:
    """The paper's first two stages: 8,000 steps of 4 texts of 512 tokens, then 1,000 of 128.

    32,000 texts as in the paper's tables; its figures also have 128,000.
    """
    return Recipe(
        name="llm2comp-unsup",
        stages={
            "compression": Stage(
                objective=Compression(),
                steps=8_000,
                batch_size=4,
                max_length=512,
                learning_rate=1e-4,
                weight_decay=1e-5,
                max_grad_norm=2.0,
            ),
            "two_views": Stage(
                objective=TwoViews(),
                steps=1_000,
                batch_size=128,
                micro_batch_size=32,
                max_length=512,
                learning_rate=3e-5,
                weight_decay=1e-3,
                adapter="merge",
            ),
        },
        **READING,
    )


def llm2comp_unsup_small() -> Recipe:
    """Minutes on two CPU cores: 60 steps of 8 short texts, then 10 of 32. Ours, not the paper's."""
    return Recipe(
        name="llm2comp-unsup-small",
        stages={
            "compression": Stage(
                objective=Compression(), steps=60, batch_size=8, max_length=104, learning_rate=2e-4, max_grad_norm=2.0
            ),
            "two_views": Stage(
                objective=TwoViews(),
                steps=10,
                batch_size=32,
                micro_batch_size=8,
                max_length=88,
                learning_rate=1e-4,
                adapter="merge",
            ),
        },
        embed_length=136,
        **READING,
    )
