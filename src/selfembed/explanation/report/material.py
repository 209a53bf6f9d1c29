"""What the sections of the report draw on."""

from __future__ import annotations

from dataclasses import dataclass

from selfembed.data.corpus import Corpus
from selfembed.explanation.aligned_tokens import Explained
from selfembed.explanation.reading import Reading
from selfembed.ground.progress import Progress
from selfembed.model.backbone import Backbone
from selfembed.model.folder import RunRecord
from selfembed.targets.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class ReportMaterial:
    """What the sections of the report draw on.

    Args:
        corpus: The corpus that the texts are from.
        reading: What both sides make of the sample.
        k: The number of aligned tokens of a text.
        tagger: The tagger of parts of speech, where it is loaded already.
        progress: Is told of work that takes time.
    """

    corpus: Corpus
    reading: Reading
    k: int
    tagger: Tagger | None
    progress: Progress

    @property
    def texts(self) -> list[str]:
        """The texts of the sample."""
        return self.reading.texts

    @property
    def explained(self) -> Explained:
        """Both sides, and the decoder layer that they share."""
        return self.reading.explained

    @property
    def backbone(self) -> Backbone:
        """The backbone that the embedder was made from."""
        return self.explained.backbone

    @property
    def record(self) -> RunRecord | None:
        """The record of the run; None where selfembed did not make the folder."""
        return self.explained.record
