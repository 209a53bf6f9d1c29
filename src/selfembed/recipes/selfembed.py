"""Our own recipe: a reading that finds much untrained, then pairs cut out of the corpus. No paper prints its numbers.

The embedding is the mean over final states and word embeddings beside the last token's final state, each whitened on
the corpus; the adapter is trained in front of the whitening. A title, a sentence or a part of a document is to find
the rest of it among the other documents of the batch (Contriever's way, arXiv 2112.09118). What training was worth is
measured on texts that it comes to last, and where it was worth nothing the raw backbone is shipped. docs/log.md says
how the numbers were chosen.
"""

from __future__ import annotations

from selfembed.calibration.readings import MEAN_AND_LAST
from selfembed.model.lora import Lora
from selfembed.objectives.text_pairs import TextPairs
from selfembed.recipes.recipe import Recipe
from selfembed.recipes.stage import Stage

# All linear layers, in the upper half of the backbone: the lower half needs no backward pass then.
LORA = Lora(
    r=16,
    alpha=32,
    dropout=0.0,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    top_layers=0.5,
)


def selfembed() -> Recipe:
    """Takes a quarter of an hour on two CPU cores: 100 steps of 32 pairs."""
    return Recipe(
        name="selfembed",
        stages={
            "text_pairs": Stage(
                objective=TextPairs(query_words=32),
                steps=100,
                batch_size=32,
                max_length=96,
                learning_rate=5e-4,
            )
        },
        embedder=MEAN_AND_LAST,
        lora=LORA,
        calibration_pairs=300,
        calibration="before",
    )


def selfembed_small() -> Recipe:
    """Takes minutes on two CPU cores: 24 steps of 32 short pairs."""
    return Recipe(
        name="selfembed-small",
        stages={
            "text_pairs": Stage(
                objective=TextPairs(),
                steps=24,
                batch_size=32,
                max_length=64,
                learning_rate=5e-4,
            )
        },
        embedder=MEAN_AND_LAST,
        lora=LORA,
        calibration_pairs=120,
        calibration="before",
    )
