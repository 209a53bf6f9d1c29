"""LLM2Comp (arXiv 2511.17129): compress a text into memory tokens that a decoder can go on from.

Stage 1, compression: the memory vectors of a text's first part shall do for the decoder what that part does (CTKD).
Stage 2, two views: unsupervised contrastive learning (UCL).
Stage 3, supervised: queries, texts that answer them and hard negatives (SCL).

The numbers are those of the authors' public code; docs/papers.md says where each comes from and where we differ.
"""

from __future__ import annotations

import dataclasses

from selfembed.model.embedder import EmbedderConfig
from selfembed.model.lora import Lora
from selfembed.objectives.compression import Compression
from selfembed.objectives.supervised import Supervised
from selfembed.objectives.two_views import TwoViews
from selfembed.recipes.recipe import Recipe
from selfembed.recipes.stage import Stage

# All linear layers but the key projection.
LORA = Lora(r=16, alpha=32, dropout=0.05, targets=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))


def llm2comp() -> Recipe:
    """Builds all three stages of the paper; the third takes labelled pairs, 200 steps of 1,024.

    The paper's schedule rises over 200 of 2,000 steps, and its best checkpoint is that of step 200: the stage is that
    rise. Queries and positives are cut at one length, the paper's of positives.
    """
    supervised = Stage(
        objective=Supervised(),
        steps=200,
        batch_size=1_024,
        micro_batch_size=16,
        max_length=1_024,
        learning_rate=1e-4,
        warmup=1.0,
        weight_decay=3e-4,
        max_grad_norm=0.0,
        adapter="merge",
    )
    return _and_supervised(llm2comp_unsup(), "llm2comp", supervised)


def llm2comp_small() -> Recipe:
    """Takes minutes on two CPU cores: `llm2comp-unsup-small` and 20 steps of 32 short pairs. Ours, not the paper's."""
    supervised = Stage(
        objective=Supervised(eval_steps=5),
        steps=20,
        batch_size=32,
        micro_batch_size=8,
        max_length=88,
        learning_rate=1e-4,
        adapter="merge",
    )
    return _and_supervised(llm2comp_unsup_small(), "llm2comp-small", supervised)


def _and_supervised(unsupervised: Recipe, name: str, stage: Stage) -> Recipe:
    return dataclasses.replace(unsupervised, name=name, stages={**unsupervised.stages, "supervised": stage})


def llm2comp_unsup() -> Recipe:
    """Builds the paper's first two stages: 8,000 steps of 4 texts of 512 tokens, then 1,000 of 128.

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
        embedder=EmbedderConfig(pooling="memory", attention="bidirectional", memory_tokens=8),
        lora=LORA,
    )


def llm2comp_unsup_small() -> Recipe:
    """Takes minutes on two CPU cores: 60 steps of 8 short texts, then 10 of 32. Ours, not the paper's.

    Causal, and memory tokens start as a prompt: read as the paper does, so few texts teach nothing (docs/log.md).
    """
    return Recipe(
        name="llm2comp-unsup-small",
        stages={
            "compression": Stage(
                objective=Compression(word_length=True),
                steps=60,
                batch_size=8,
                max_length=104,
                learning_rate=5e-4,
                max_grad_norm=2.0,
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
        embedder=EmbedderConfig(pooling="memory", attention="causal", memory_tokens=8, memory_init="prompt"),
        lora=LORA,
        embed_length=136,
    )
