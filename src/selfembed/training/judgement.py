"""What training was worth, on texts of the corpus itself; and the affine map that goes behind the pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from selfembed.calibration.affine_map import spectrum
from selfembed.calibration.choice import Choice, choose_map
from selfembed.calibration.self_retrieval import PASSAGES_PER_PAIR, self_retrieval
from selfembed.data.corpus_passages import last_passages
from selfembed.encoding.encode import encode
from selfembed.ground.progress import Progress
from selfembed.model.adapter import adapter_parameters
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import build_embedder, fitting_length
from selfembed.training.plan import Plan

_LENGTH = 128  # tokens that are read of a text


@dataclass(frozen=True)
class Judgement:
    """Says what is shipped as the result of training, and why.

    Attributes:
        trained: Whether the trained embedder is shipped; else the raw one, which found more.
        choice: The affine map of the embedder that is shipped.
        record: Entry of the record of the run.
    """

    trained: bool
    choice: Choice
    record: dict[str, Any]


def judge(plan: Plan, embedder: SentenceTransformer, progress: Progress) -> Judgement:
    """Holds the trained embedder against the raw one, each with its best map, by self-retrieval.

    The texts are those that training comes to last; they are unseen where it leaves enough unread.

    Raises:
        InputError: The corpus gives too few pairs.
    """
    pairs = plan.recipe.calibration_pairs
    unread = len(plan.corpus) - sum(stage.texts for stage in plan.recipe.stages.values())
    wanted = PASSAGES_PER_PAIR * pairs
    passages = last_passages(plan.corpus, min(wanted, unread) if unread >= pairs else wanted, seed=plan.seed)
    search = self_retrieval(passages, pairs, seed=plan.seed)
    spectrum_DD = spectrum(plan.backbone.head().weight)
    raw = build_embedder(plan.backbone, plan.recipe.embedder, dtype=plan.dtype, device=plan.device)
    choices, length = {}, embedder.max_seq_length
    for name, one in (("raw", raw), ("trained", embedder)):
        one.max_seq_length = fitting_length(plan.backbone, plan.recipe.embedder, _LENGTH)
        vectors_ND = encode(one, search.texts, progress=progress, task=f"self-retrieval, {name}")
        choices[name] = choose_map(search, vectors_ND, spectrum_DD=spectrum_DD)
    embedder.max_seq_length = length
    scores = {name: choice.scores[choice.map.name] for name, choice in choices.items()}
    better = scores["trained"] >= scores["raw"] or plan.recipe.embedder.memory_tokens  # raw memory tokens say nothing
    keep = "trained" if better else "raw"
    record = {
        "shipped": keep,
        "unseen": unread >= pairs,
        **{name: choice.to_dict() for name, choice in choices.items()},
    }
    return Judgement(keep == "trained", choices[keep], record)


def make_raw(embedder: SentenceTransformer) -> None:
    """Takes back what the adapter learnt: it adds nothing from now on."""
    with torch.no_grad():
        for parameter in adapter_parameters(embedder):
            parameter.zero_()


def shipped_weights(plan: Plan, judgement: Judgement | None, weights: Backbone) -> Backbone:
    """Chooses what the adapter is merged into: the stages' weights, or the backbone if that is shipped raw."""
    return weights if judgement is None or judgement.trained else plan.backbone
