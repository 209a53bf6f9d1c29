"""Text2Token's first objective: a text's embedding shall decode to its key tokens, weighed by TF-IDF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfembed.objectives.objective import Material, Measured
from selfembed.objectives.token_target import TokenTarget
from selfembed.targets.cache import stored_statistics
from selfembed.targets.data_driven import DataDrivenOptions, build_targets
from selfembed.targets.token_targets import TokenTargets

_WORDS_PER_SECOND = 30_000  # of targets, on a core: docs/results/benchmarks.jsonl


@dataclass(frozen=True, kw_only=True)
class DataDriven(DataDrivenOptions, TokenTarget):
    """Trains Text2Token's stage I (arXiv 2510.10224, §3.2.1); its other options are :class:`DataDrivenOptions`.

    Args:
        whole_text: Whether the target holds tokens of all of a text, also of what lies behind the cut at `max_length`
            and is never read. The paper does not say; by default the target is of what is read.
    """

    whole_text: bool = False

    @property
    def needs_tagger(self) -> bool:
        """Tells whether a part-of-speech filter is on."""
        return bool(self.pos)

    def preparation_seconds(self, measured: Measured) -> float:
        """Estimates how long it takes to count the corpus's words."""
        return measured.words * min(1.0, measured.statistics_texts / measured.texts) / _WORDS_PER_SECOND

    def key(self, material: Material) -> list[Any]:
        tagger = material.tagger.name if material.tagger else None
        return [material.corpus.fingerprint, tagger, material.statistics_texts]

    def compute(self, material: Material) -> TokenTargets:
        backbone, texts, progress = material.backbone, material.texts, material.progress
        most = material.statistics_texts
        statistics = stored_statistics(backbone, material.corpus, self, most=most, progress=progress)
        tokenizer, tagger, vocab_size = backbone.tokenizer, material.tagger, backbone.vocab_size
        return build_targets(texts, tokenizer, tagger, statistics, self, vocab_size, progress)
