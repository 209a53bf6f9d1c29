"""Stored targets: computed once for a content fingerprint of everything they depend on, then read from the cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from selfembed.data.corpus import Corpus
from selfembed.ground.files import cache_dir
from selfembed.ground.hashing import content_hash, texts_hash
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import Backbone, LMHead
from selfembed.targets import data_driven, model_derived
from selfembed.targets.bag_of_tokens import BagOfTokens, build_bag_of_tokens
from selfembed.targets.data_driven import DataDriven, TokenStatistics
from selfembed.targets.model_derived import CommonDistribution, ModelDerived
from selfembed.targets.tagger import Tagger
from selfembed.targets.token_targets import TokenTargets

TokenTarget = DataDriven | ModelDerived | BagOfTokens
Stored = TypeVar("Stored", TokenTargets, TokenStatistics)
_FORMAT = 2  # part of every key: raise it when what is computed changes


@dataclass(frozen=True, kw_only=True)
class TargetSource:
    """What targets are computed from.

    Args:
        backbone: whose vocabulary the targets are over.
        corpus: whose statistics count (IDF, common distribution).
        tagger: of parts of speech; needed for data-driven targets with a filter.
        statistics_texts: texts of the corpus that are counted, at most.
        embedder: the raw backbone read as an embedder, or one with adapters; needed for model-derived targets.
        head: the decoder layer; needed with it.
    """

    backbone: Backbone
    corpus: Corpus
    tagger: Tagger | None
    statistics_texts: int
    embedder: SentenceTransformer | None = None
    head: LMHead | None = None

    def targets(self, objective: TokenTarget, texts: Sequence[str], progress: Progress = silent) -> TokenTargets:
        """One target per text, in order."""
        key: list[Any] = [objective, texts_hash(iter(texts))]
        if not isinstance(objective, BagOfTokens):
            key += [self.corpus.fingerprint]
        if isinstance(objective, DataDriven):
            key += [self.tagger.name if self.tagger else None, self.statistics_texts]
        if isinstance(objective, ModelDerived):
            embedder = self.embedder
            # The rest of a tokenizer's state changes with use: padding and truncation are those of the last call.
            prompt = json.loads(embedder.tokenizer.backend_tokenizer.to_str())["post_processor"]
            key += [prompt, str(embedder), embedder.max_seq_length, str(embedder.dtype), attention_of(embedder)]
        return self._stored("targets", key, TokenTargets, lambda: self._compute(objective, texts, progress))

    def _compute(self, objective: TokenTarget, texts: Sequence[str], progress: Progress) -> TokenTargets:
        tokenizer, vocab_size = self.backbone.tokenizer, self.backbone.vocab_size
        if isinstance(objective, DataDriven):
            statistics = self.statistics(objective, progress)
            return data_driven.build_targets(
                texts, tokenizer, self.tagger, statistics, objective, vocab_size, progress
            )
        if isinstance(objective, ModelDerived):
            common = self.common_distribution(objective, progress)
            return model_derived.build_targets(self.embedder, self.head, texts, common, objective, progress)
        leading_space = objective.leading_space
        return build_bag_of_tokens(texts, tokenizer, vocab_size, leading_space=leading_space, progress=progress)

    def statistics(self, objective: DataDriven, progress: Progress = silent) -> TokenStatistics:
        """Document frequencies over the corpus, or over a seeded sample of it."""
        key = [self.corpus.fingerprint, self.statistics_texts, objective.leading_space, objective.variants]

        def count() -> TokenStatistics:
            texts = choose_texts(self.corpus.texts(), self.statistics_texts, seed=0)
            return TokenStatistics.collect(
                (text for batch in texts.iter(1000) for text in batch["text"]),
                self.backbone.tokenizer,
                objective,
                self.backbone.vocab_size,
                progress=lambda task, done, _: progress(task, done, len(texts)),
            )

        return self._stored("statistics", key, TokenStatistics, count)

    def common_distribution(self, objective: ModelDerived, progress: Progress = silent) -> CommonDistribution:
        """The raw backbone's mean distribution over a seeded sample of the corpus."""
        sample = choose_texts(self.corpus.texts(), objective.common_texts, seed=0)["text"]
        return model_derived.common_distribution(self.embedder, self.head, list(sample), progress)

    def _stored(self, kind: str, key: list[Any], form: type[Stored], compute: Callable[[], Stored]) -> Stored:
        name = content_hash(_FORMAT, kind, self.backbone.fingerprint, *key)[:32]
        file: Path = cache_dir() / kind / f"{name}.safetensors"
        if file.exists():
            return form.load(file)
        value = compute()
        value.save(file)
        return value


def choose_texts(texts: Dataset, count: int, *, skip: int = 0, seed: int) -> Dataset:
    """The ``count`` texts after the first ``skip`` of a seeded shuffle; it starts over where the corpus ends."""
    order = np.random.default_rng(seed).permutation(len(texts))
    return texts.select(order[np.arange(skip, skip + min(count, len(texts))) % len(texts)])


def attention_of(embedder: SentenceTransformer) -> bool:
    return bool(getattr(embedder.transformers_model.config, "is_causal", True))


def summary(targets: TokenTargets) -> dict[str, Any]:
    """Support, entropy (nats) and effective support over the texts that have a target."""
    filled_N = targets.support_N > 0
    if not filled_N.any():
        return {"texts": len(targets)}
    return {
        "texts": len(targets),
        "support_mean": round(float(targets.support_N[filled_N].mean()), 2),
        "entropy_mean_nats": round(float(targets.entropy_N[filled_N].mean()), 4),
        "effective_support_quartiles": [
            round(float(q), 2) for q in np.quantile(targets.effective_support_N[filled_N], (0.25, 0.5, 0.75))
        ],
    }
