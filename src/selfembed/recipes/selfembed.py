"""Our own recipe: pairs cut out of the corpus, then an affine map behind the pooling. No paper prints its numbers.

A title, a sentence or a part of a document is to find the rest of it among the other documents of the batch
(Contriever's way, arXiv 2112.09118); what training was worth is measured on texts that it comes to last, and where it
was worth nothing the raw backbone is shipped. docs/log.md says how the numbers were chosen.
"""

from __future__ import annotations

import dataclasses

from selfembed.model.backbone import Lora
from selfembed.objectives.text_pairs import TextPairs
from selfembed.recipes.recipe import Recipe
from selfembed.recipes.stage import Stage

# All linear layers.
LORA = Lora(
    r=16,
    alpha=32,
    dropout=0.0,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)


def selfembed() -> Recipe:
    """Takes a night on a CPU, minutes on a GPU: 200 steps of 128 pairs."""
    return Recipe(
        name="selfembed",
        stages={
            "text_pairs": Stage(
                objective=TextPairs(query_words=32),
                steps=200,
                batch_size=128,
                micro_batch_size=32,
                max_length=128,
                learning_rate=2e-4,
            )
        },
        lora=LORA,
        calibration_pairs=500,
    )


def selfembed_small() -> Recipe:
    """Takes minutes on two CPU cores: 24 steps of 32 short pairs, adapters on the upper half of the layers only.

    The lower half needs no backward pass then, which takes a third off a step and found as much (docs/log.md).
    """
    return Recipe(
        name="selfembed-small",
        stages={
            "text_pairs": Stage(
                objective=TextPairs(),
                steps=24,
                batch_size=32,
                max_length=56,
                learning_rate=1e-3,
            )
        },
        lora=dataclasses.replace(LORA, top_layers=0.5),
        calibration_pairs=100,
    )
