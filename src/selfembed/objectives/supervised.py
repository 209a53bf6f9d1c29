"""Supervised contrastive learning: a query and the text that answers it belong together.

Beside the loss: which labelled example comes when, hard negatives mined anew, when to stop and what to keep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from datasets import Dataset, concatenate_datasets
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfembed.data.batches import batches, pools
from selfembed.data.mining import in_batches, with_mined_negatives
from selfembed.data.pairs import Examples
from selfembed.encoding.encode import encode
from selfembed.encoding.known import KnownVectors
from selfembed.ground.files import write_json
from selfembed.ground.options import Range
from selfembed.ground.progress import Progress, silent
from selfembed.losses.compression import LLM2COMP
from selfembed.losses.contrastive import supervised_loss
from selfembed.objectives.best_step import BestStep, keep_best
from selfembed.objectives.objective import STEP_FORWARDS, Budget, Material, Objective, Prepared

_BATCH = 32  # texts per forward pass when the development pairs are evaluated
_MINED_BY = ("query", "positive")  # columns whose texts are held against each other


@dataclass(frozen=True, kw_only=True)
class Supervised(Objective):
    """Trains by supervised contrastive learning (SCL): a query against all positives and hard negatives of the batch.

    Args:
        temperature: Temperature of InfoNCE over cosine similarities.
        batches: `"mixed"` draws each batch from all sets of pairs, `"homogeneous"` from one of them.
        false_negative_margin: None takes every other candidate for a negative. A number leaves out those, hard
            negatives among them, whose similarity to the query is above the positive's minus this: 0 all that are
            nearer than the positive, -0.1 those nearer by more than 0.1.
        refresh_every: Number of steps after which hard negatives are mined anew with the embedder; None never mines.
        refresh_margin: Share of the positive's similarity by which a mined negative stays below it, at least.
        eval_steps: Number of steps between evaluations on the development pairs, if there are any.
        patience: Number of evaluations without gain after which training stops.
        metric: Metric of retrieval over the development pairs.

    References:
        LLM2Comp, arXiv 2511.17129, and its code: 0.05, one direction, mixed batches, no masking. The paper names
        dynamic hard negatives as an open point; refreshing is ours.
    """

    reads = "pairs"
    citation = LLM2COMP
    whole_batch = True
    forwards = 1 + STEP_FORWARDS  # once more for the cached gradients

    temperature: Annotated[float, Range(above=0, example="0.05")] = 0.05
    batches: Literal["mixed", "homogeneous"] = "mixed"
    false_negative_margin: Annotated[float, Range(least=-2, most=2, example="0 or -0.1")] | None = None
    refresh_every: Annotated[int, Range(least=1)] | None = None
    refresh_margin: Annotated[float, Range(least=0, below=1)] = 0.05
    eval_steps: Annotated[int, Range(least=1)] = 50
    patience: Annotated[int, Range(least=1)] = 3
    metric: Literal["ndcg@10", "mrr@10"] = "ndcg@10"

    @property
    def pools(self) -> dict[str, Any]:
        """Gives the options of :func:`selfembed.data.batches.pools`; negatives mined anew need some to replace."""
        return {"homogeneous": self.batches == "homogeneous", "least_negatives": int(self.refresh_every is not None)}

    def held_tokens(self, longest: Mapping[str, int], *, cut: bool) -> int:
        """Takes the longest column: gradients are cached, one column after the other."""
        return max(longest.values())

    def check_pairs(self, sets: Sequence[Examples], budget: Budget, *, seed: int) -> None:
        """Refuses sets that no batch can be made of."""
        parts, _ = pools(sets, **self.pools, seed=seed)
        batches(parts, steps=1, batch_size=budget.batch_size, seed=seed)

    def prepare(self, material: Material) -> Prepared:
        """Takes the examples in order, mines anew where that is asked for, and keeps the best step on the dev pairs.

        Raises:
            InputError: There are too few different examples for a batch.
        """
        embedder = material.embedder
        loss = supervised_loss(
            embedder,
            temperature=self.temperature,
            false_negative_margin=self.false_negative_margin,
            mini_batch_size=material.budget.mini_batch_size,
        )
        data = SupervisedData(
            material.pairs,
            self,
            material.budget,
            embedder,
            material.folder,
            seed=material.seed,
            progress=material.progress,
        )
        prepared = Prepared(
            loss=loss, notes=data.notes, callbacks=(data,), data=data.at, goes_on=data.due, finish=data.record
        )
        if material.dev is None:
            return prepared
        best = best_on_dev(material.dev, self, material.budget, embedder, material.folder)
        return keep_best(prepared, best, metric=self.metric)


class SupervisedData(TrainerCallback):
    """Gives the examples of a stage in the order of training, with the hard negatives that are due at a step.

    Where negatives are mined anew, training halts after every `refresh_every` steps and goes on from the checkpoint
    of that step, so that a run that is interrupted there does what any run does.

    Args:
        sets: The sets of labelled examples.
        options: The options of the objective.
        budget: The budget, whose steps and batch size count.
        embedder: The embedder in training.
        folder: Folder for mined negatives.
        seed: Seed of the order.
        progress: Told how many texts are encoded for mining.

    Raises:
        InputError: There are too few different examples for a batch.
    """

    def __init__(
        self,
        sets: tuple[Examples, ...],
        options: Supervised,
        budget: Budget,
        embedder: SentenceTransformer,
        folder: Path,
        *,
        seed: int,
        progress: Progress = silent,
    ) -> None:
        self.options = options
        self.progress = progress
        self.steps = budget.steps
        self.embedder = embedder
        self.folder = folder
        self.pools, filled = pools(sets, **self.options.pools, seed=seed)
        self.order = batches(self.pools, steps=budget.steps, batch_size=budget.batch_size, seed=seed)
        self.notes: dict[str, Any] = {"texts": sum(map(len, self.pools))}
        if filled:
            self.notes["negatives_filled_in"] = filled

    def due(self, step: int) -> bool:
        """Tells whether negatives are mined after this step."""
        every = self.options.refresh_every
        return every is not None and 0 < step < self.steps and step % every == 0

    def at(self, step: int) -> Dataset:
        """Gives the rows to train on from this step on, in order; the trainer itself skips those before."""
        rows = concatenate_datasets(self.pools)
        mined_at = max(filter(self.due, range(step + 1)), default=None)
        if mined_at is None:
            return rows.select([row for batch in self.order for row in batch])
        mined = Dataset.from_dict(json.loads(self._file(mined_at).read_text())["rows"])
        return in_batches(rows, mined, self.order)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_training_stop or not self.due(state.global_step):  # stopped early: none are needed
            return
        texts = list(dict.fromkeys(text for rows in self.pools for name in _MINED_BY for text in rows[name]))
        vectors_ND = encode(
            self.embedder, texts, progress=self.progress, task="mining negatives", normalize_embeddings=True
        )
        known = KnownVectors(texts, vectors_ND, device=self.embedder.device)
        mined = [with_mined_negatives(rows, known, margin=self.options.refresh_margin) for rows in self.pools]
        rows, found = concatenate_datasets([rows for rows, _ in mined]), sum(found for _, found in mined)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(state.global_step), {"mined_for": found, "rows": rows.to_dict()})
        control.should_save = control.should_training_stop = True

    def record(self) -> dict[str, Any]:
        """Counts the rows that got new negatives, by step."""
        files = {step: self._file(step) for step in filter(self.due, range(self.steps))}
        found = {step: json.loads(file.read_text())["mined_for"] for step, file in files.items() if file.exists()}
        return {"rows_with_mined_negatives": found} if found else {}

    def _file(self, step: int) -> Path:
        return self.folder / f"negatives-{step}.json"


def best_on_dev(
    dev: Examples, options: Supervised, budget: Budget, embedder: SentenceTransformer, folder: Path
) -> BestStep:
    """Makes the search for the best step by retrieval over development pairs.

    Each positive is to be found among all by its query; before training, every so many steps and after the last.

    Args:
        dev: The development pairs.
        options: The options of the objective: metric, how often, how patient.
        budget: The budget, whose steps count.
        embedder: The embedder in training.
        folder: Folder for the curve and the adapters.
    """
    evaluator = retrieval_evaluator(dev)
    return BestStep(
        "dev",
        lambda step: float(evaluator(embedder)[f"dev_cosine_{options.metric}"]),
        {*range(0, budget.steps, options.eval_steps), budget.steps},
        options.patience,
        embedder,
        folder,
    )


def retrieval_evaluator(dev: Examples) -> InformationRetrievalEvaluator:
    """Makes the evaluator that searches all positives for each query, with its instruction."""
    queries = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(dev.queries))}
    documents = {text: f"d{i}" for i, text in enumerate(dict.fromkeys(dev.rows["positive"]))}
    relevant: dict[str, set[str]] = {}
    for query, positive in zip(dev.queries, dev.rows["positive"], strict=True):
        relevant.setdefault(queries[query], set()).add(documents[positive])
    return InformationRetrievalEvaluator(
        {name: text for text, name in queries.items()},
        {name: text for text, name in documents.items()},
        relevant,
        mrr_at_k=[10],
        ndcg_at_k=[10],
        accuracy_at_k=[10],
        precision_recall_at_k=[10],
        map_at_k=[10],
        batch_size=_BATCH,
        name="dev",
        write_csv=False,
    )
