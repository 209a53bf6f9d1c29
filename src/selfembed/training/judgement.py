"""What training was worth, on texts of the corpus itself; and the affine map that goes behind the pooling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from selfembed.calibration.affine_map import AffineMap, identity, spectrum
from selfembed.calibration.choice import Choice, choose_map
from selfembed.calibration.self_retrieval import PASSAGES_PER_PAIR, self_retrieval
from selfembed.data.corpus_passages import last_passages
from selfembed.encoding.encode import encode
from selfembed.ground.files import arriving_file
from selfembed.ground.progress import Progress
from selfembed.model.adapter import adapter_parameters
from selfembed.model.backbone import Backbone
from selfembed.training.plan import Plan

LENGTH = 128  # tokens that are read of a text


@dataclass(frozen=True)
class Judgement:
    """Says what is shipped as the result of training, and why.

    Attributes:
        trained: Whether the trained embedder is shipped; else the raw one, which found more.
        affine_map: The map that goes behind the one that is shipped; None where it has one already.
        record: Entry of the record of the run.
    """

    trained: bool
    affine_map: AffineMap | None
    record: dict[str, Any]


class Judge:
    """Holds a trained embedder against the raw one, each with its best map, by self-retrieval.

    The texts are those that training comes to last; they are unseen where it leaves enough unread. The raw embedder
    reads them once. A look at an embedder in training counts as its judgement where its step is the best.

    Args:
        plan: Of the run.
        file: Where what the raw embedder found is kept, so that an interrupted run goes on with the same map.
        progress: Called with (task, done, total).

    Raises:
        InputError: The corpus gives too few pairs.
    """

    def __init__(self, plan: Plan, file: Path, progress: Progress) -> None:
        self.plan, self.file, self.progress = plan, file, progress
        self.looked: dict[int, Choice] = {}  # by step
        pairs = plan.recipe.calibration_pairs
        unread = len(plan.corpus) - sum(stage.texts for stage in plan.recipe.stages.values())
        wanted = PASSAGES_PER_PAIR * pairs
        passages = last_passages(plan.corpus, min(wanted, unread) if unread >= pairs else wanted, seed=plan.seed)
        self.unseen = unread >= pairs
        self.search = self_retrieval(passages, pairs, seed=plan.seed)

    @cached_property
    def raw(self) -> Choice:
        """The raw embedder's best map, or none, chosen when first asked for; its vectors are kept in the file."""
        if not self.file.is_file():
            vectors_ND = self.vectors(self.plan.untrained(), "raw")
            with arriving_file(self.file) as staging:
                save_file({"vectors_ND": torch.from_numpy(vectors_ND)}, staging)
        vectors_ND = load_file(self.file)["vectors_ND"].numpy()
        return self.as_it_is(vectors_ND) if self.plan.recipe.calibration == "none" else self.choice(vectors_ND)

    @cached_property
    def spectrum_DD(self) -> np.ndarray:
        """The decoder layer's singular vectors."""
        return spectrum(self.plan.backbone.head().weight)

    def look(self, embedder: SentenceTransformer, step: int) -> float:
        """Computes nDCG@10, from 0 to 1, of an embedder after a step of its training, with its best map."""
        self.looked[step] = self.trained(embedder)
        return self.looked[step].score

    def trained(self, embedder: SentenceTransformer) -> Choice:
        """Reads an embedder in training, and chooses its map where that comes last."""
        length = embedder.max_seq_length
        vectors_ND = self.vectors(embedder, "trained")
        embedder.max_seq_length = length
        return self.choice(vectors_ND) if self.plan.recipe.calibration == "after" else self.as_it_is(vectors_ND)

    def judge(self, embedder: SentenceTransformer, looks: dict[str, Any] | None = None) -> Judgement:
        """Says whether a trained embedder finds more than the raw one.

        Args:
            embedder: The trained embedder.
            looks: What the looks in training found, if there were any; the embedder is that of their best step.
        """
        plan, raw = self.plan, self.raw
        seen = self.looked.get(looks["best_step"]) if looks else None  # none where an interrupted run has looked
        trained = seen or self.trained(embedder)
        better = trained.score >= raw.score or plan.memory_tokens  # raw, these say nothing
        keep = "trained" if better else "raw"
        record = {
            "shipped": keep,
            "unseen": self.unseen,
            "raw": raw.to_dict(),
            "trained": trained.to_dict(),
            **({"looks": looks} if looks else {}),
        }
        affine_map = (trained if better else raw).map if plan.recipe.calibration == "after" else None
        return Judgement(keep == "trained", affine_map, record)

    def vectors(self, embedder: SentenceTransformer, name: str) -> np.ndarray:
        """Encodes the texts of the self-retrieval, `vectors_ND`."""
        embedder.max_seq_length = self.plan.fitting_length(LENGTH)
        task = f"self-retrieval, {name}"
        if not any((embedder.prompts or {}).values()):
            return encode(embedder, self.search.texts, progress=self.progress, task=task)
        queries_QD = encode(embedder, self.search.queries, role="query", progress=self.progress, task=task)
        passages_PD = encode(embedder, self.search.passages, role="document", progress=self.progress, task=task)
        return np.concatenate([queries_QD, passages_PD])

    def choice(self, vectors_ND: np.ndarray) -> Choice:
        """Chooses the map of embeddings of the texts of the self-retrieval."""
        parts = vectors_ND.shape[1] // len(self.spectrum_DD)
        return choose_map(self.search, vectors_ND, spectrum_DD=self.spectrum_DD, parts=parts)

    def as_it_is(self, vectors_ND: np.ndarray) -> Choice:
        """Leaves embeddings as they are: they have their map behind them, or shall have none."""
        none = identity(vectors_ND.shape[1])
        return Choice(none, {none.name: float(self.search.ndcg_Q(vectors_ND).mean())}, len(self.search.queries))


def make_raw(embedder: SentenceTransformer) -> None:
    """Takes back what the adapter learnt: it adds nothing from now on."""
    with torch.no_grad():
        for parameter in adapter_parameters(embedder):
            parameter.zero_()


def shipped_weights(plan: Plan, judgement: Judgement | None, weights: Backbone) -> Backbone:
    """Chooses what the adapter is merged into: the stages' weights, or the backbone if that is shipped raw."""
    return weights if judgement is None or judgement.trained else plan.backbone
