"""Objectives by name. To register one is to write its line here."""

from __future__ import annotations

from selfembed.ground.options import require_choice
from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.compression import Compression
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.masked_next_token import MaskedNextToken
from selfembed.objectives.model_derived import ModelDerived
from selfembed.objectives.objective import Objective
from selfembed.objectives.supervised import Supervised
from selfembed.objectives.text_pairs import TextPairs
from selfembed.objectives.two_views import TwoViews

OBJECTIVES: dict[str, type[Objective]] = {
    "data_driven": DataDriven,
    "model_derived": ModelDerived,
    "bag_of_tokens": BagOfTokens,
    "compression": Compression,
    "two_views": TwoViews,
    "masked_next_token": MaskedNextToken,
    "text_pairs": TextPairs,
    "supervised": Supervised,
}


def find_objective(name: str) -> Objective:
    """Finds an objective by its name, with its default options.

    Raises:
        InputError: There is none of this name.
    """
    require_choice("objective", name, OBJECTIVES)
    return OBJECTIVES[name]()
