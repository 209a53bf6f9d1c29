"""How a raw backbone may be read as an embedder before any training, and how well each way does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfembed.calibration.choice import Choice
from selfembed.model.embedder import EmbedderConfig

LAST_TOKEN = EmbedderConfig()
MEAN_AND_LAST = EmbedderConfig(pooling="mean+last", word_embeddings=1.5)

READINGS = {"last token": LAST_TOKEN, "mean with word embeddings, and last token": MEAN_AND_LAST}


@dataclass(frozen=True)
class Calibration:
    """The reading and the map that were chosen, and the scores of all that were tried.

    Attributes:
        reading: The name of the reading that was chosen; of a finished embedder there is one alone, its own.
        tried: The best map of each reading, with the scores of its other maps.
    """

    reading: str
    tried: dict[str, Choice]

    @property
    def choice(self) -> Choice:
        """Gives the map of the reading that was chosen."""
        return self.tried[self.reading]

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values."""
        return {"reading": self.reading, "tried": {name: choice.to_dict() for name, choice in self.tried.items()}}


def best_of(tried: dict[str, Choice]) -> Calibration:
    """Chooses the reading that finds most with its best map; of equal ones the first."""
    return Calibration(max(tried, key=lambda name: tried[name].score), tried)
