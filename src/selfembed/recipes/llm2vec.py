"""LLM2Vec (arXiv 2404.05961), without labels: let a decoder see both sides, teach it to, then contrast texts.

Stage 1, masked next-token prediction (MNTP). Stage 2, unsupervised contrastive learning (SimCSE).

The numbers are those of the authors' configurations; docs/papers.md says where each comes from and where we differ.
"""

from __future__ import annotations

from selfembed.model.embedder import EmbedderConfig
from selfembed.model.lora import Lora
from selfembed.objectives.masked_next_token import MaskedNextToken
from selfembed.objectives.two_views import TwoViews
from selfembed.recipes.recipe import Recipe
from selfembed.recipes.stage import Stage

LORA = Lora(
    r=16,
    alpha=32,
    dropout=0.05,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
EMBEDDER = EmbedderConfig(pooling="mean", attention="bidirectional")


def llm2vec_unsup() -> Recipe:
    """Builds the paper's two unsupervised stages, for Llama: 1,000 steps of 32 texts of 512 tokens, then 1,000 of 128.

    The paper's linear decay is over three epochs and stopped at step 1,000, where it has hardly begun: constant here.
    For Mistral: `rate=0.8` and `style=all`.
    """
    return Recipe(
        name="llm2vec-unsup",
        stages={
            "masked_next_token": Stage(
                objective=MaskedNextToken(),
                steps=1_000,
                batch_size=32,
                max_length=512,
                learning_rate=5e-5,
                schedule="constant",
                warmup=0.0,
                gradient_checkpointing=True,
            ),
            "two_views": Stage(
                objective=TwoViews(attention_dropout=0.3),
                steps=1_000,
                batch_size=128,
                micro_batch_size=32,
                max_length=128,
                learning_rate=3e-5,
                schedule="constant",
                warmup=0.0,
                adapter="merge",
            ),
        },
        embedder=EMBEDDER,
        lora=LORA,
    )


def llm2vec_unsup_small() -> Recipe:
    """Takes minutes on two CPU cores: 60 steps of 8 short texts, then 10 of 32. Ours, not the paper's."""
    return Recipe(
        name="llm2vec-unsup-small",
        stages={
            "masked_next_token": Stage(
                objective=MaskedNextToken(), steps=60, batch_size=8, max_length=104, learning_rate=5e-4
            ),
            "two_views": Stage(
                objective=TwoViews(attention_dropout=0.3),
                steps=10,
                batch_size=32,
                micro_batch_size=8,
                max_length=88,
                learning_rate=1e-4,
                adapter="merge",
            ),
        },
        embedder=EMBEDDER,
        lora=LORA,
        embed_length=136,
    )
