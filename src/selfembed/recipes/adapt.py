"""Our recipe for a ready embedder: pairs cut out of the corpus adapt it to the user's text. Its numbers are ours.

Nothing of ours is put around it: modules, prompts and length stay its own, and there is no map behind its vectors. An
adapter on all linear layers learns by the pairs of the recipe `selfembed`. What that was worth is measured on texts
that training comes to last, and where it was worth nothing the embedder is shipped as it was.
"""

from __future__ import annotations

from selfembed.model.lora import ALL_LINEAR, Lora
from selfembed.objectives.text_pairs import TextPairs
from selfembed.recipes.recipe import Recipe
from selfembed.recipes.stage import Stage


def adapt() -> Recipe:
    """Takes minutes on two CPU cores for an encoder of 22 million parameters: 50 steps of 32 pairs."""
    return Recipe(
        name="adapt",
        stages={
            "text_pairs": Stage(
                objective=TextPairs(query_words=32),
                steps=50,
                batch_size=32,
                max_length=128,
                learning_rate=2e-4,
            )
        },
        embedder=None,
        lora=Lora(r=16, alpha=32, dropout=0.0, targets=ALL_LINEAR),
        calibration_pairs=300,
        calibration="none",
    )
