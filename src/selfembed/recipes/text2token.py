"""Text2Token (arXiv 2510.10224): teach an embedding to decode to the key tokens of its text.

Stage I, data-driven: tokens weighed by TF-IDF and kept if noun, proper noun or adjective (§3.2.1).
Stage II, model-derived: tokens that the raw backbone says of this text more than of any text (§3.2.2).

Where the paper is silent or cannot be meant as printed, docs/papers.md says what stands here and why.
"""

from __future__ import annotations

from typing import Any

from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.model_derived import ModelDerived
from selfembed.recipes.recipe import Recipe
from selfembed.recipes.stage import Stage


def text2token() -> Recipe:
    """Takes the paper's numbers (§5.1): 500 + 200 steps, batch 64, length 128, rate 3e-5, LoRA 16/32/0.05 on q, v.

    Last pooling with PromptEOL and causal attention: the paper's best for Llama-3 (Table 2).
    """
    return Recipe(
        name="text2token",
        stages={
            "data_driven": Stage(objective=DataDriven(), steps=500),
            "model_derived": Stage(objective=ModelDerived(), steps=200),
        },
    )


def text2token_small() -> Recipe:
    """Takes minutes on two CPU cores instead of a night: 30 + 10 steps of 32 short texts. Ours, not the paper's.

    Chosen for the embedded backbone on the Python documentation (docs/log.md). `common="online"` spares the pass
    over 10,000 texts, the floor keeps tokens that the backbone hardly considers out of the target.
    """
    common: dict[str, Any] = {"batch_size": 32, "micro_batch_size": 8, "max_length": 80}
    return Recipe(
        name="text2token-small",
        stages={
            "data_driven": Stage(objective=DataDriven(variants="merge"), steps=30, learning_rate=2e-4, **common),
            "model_derived": Stage(
                objective=ModelDerived(common="online", temperature=1e-2, floor=1e-3),
                steps=10,
                learning_rate=1e-4,
                **common,
            ),
        },
    )


def bag_of_tokens() -> Recipe:
    """Builds the paper's EBAE baseline (Table 2): a uniform target over the tokens present in the text, no filter."""
    return Recipe(name="bag-of-tokens", stages={"bag_of_tokens": Stage(objective=BagOfTokens(), steps=500)})
