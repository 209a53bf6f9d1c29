"""What a plan would take, from a sample of its texts and a timed forward pass."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer

from selfembed.data.sampling import choose_rows, choose_texts
from selfembed.model.backbone import Backbone
from selfembed.objectives.objective import Budget, Measured
from selfembed.recipes import Stage
from selfembed.training.judgement import LENGTH
from selfembed.training.plan import Plan
from selfembed.training.stage import column_prompts

_SAMPLE = 256  # texts, or labelled examples of each set
_KEPT = 34  # numbers per token, layer and hidden unit


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """Says what a stage would take.

    Args:
        name: Name of the stage.
        texts: Number of texts that are trained on, repetitions included.
        tokens: Number of tokens that are read, prompts included, in all columns of the training data.
        seconds: Duration, with the computation of its targets.
    """

    name: str
    texts: int
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Says what a plan would take, from a sample of its texts and a timed forward pass.

    Args:
        corpus_texts: Number of texts of the corpus.
        corpus_tokens: Number of their tokens, without prompts and uncut.
        stages: What each stage would take, in order.
        memory_gib: Largest memory of a training step, in GiB, with texts as long as the longest of the sample.
        judging_seconds: Duration of the self-retrieval: of the raw embedder, and of every look at the trained one.
    """

    corpus_texts: int
    corpus_tokens: int
    stages: list[StageEstimate]
    memory_gib: float
    judging_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Adds up the seconds of all stages and of the self-retrieval."""
        return sum(stage.seconds for stage in self.stages) + self.judging_seconds


def estimate(plan: Plan) -> Estimate:
    """Times forward passes over a sample of what the plan's stages read, and scales up; nothing is trained.

    Raises:
        InputError: A stage cannot be trained on these texts.
    """
    texts = plan.corpus.texts()
    sample = list(choose_texts(texts, _SAMPLE, seed=plan.seed)["text"])
    lengths = [len(ids) for ids in plan.backbone.tokenizer(sample, add_special_tokens=False)["input_ids"]]
    embedder = plan.untrained()
    parameters = sum(parameter.numel() for parameter in embedder.parameters())
    stages, memory = [], []
    for name, stage in plan.recipe.stages.items():
        embedder.max_seq_length = plan.fitting_length(stage.max_length)
        columns = sample_of_stage(plan, stage, embedder)
        lengths_of = {column: token_lengths(embedder, read) for column, read in columns.items()}
        tokens_per_second = forward_rate(embedder, [*columns.values()][-1][: min(32, stage.batch_size)])
        measured = Measured(
            texts=len(texts),
            words=plan.corpus.report.words,
            statistics_texts=plan.recipe.statistics_texts,
            mean_tokens=statistics.fmean(token_lengths(embedder, sample)),
            tokens_per_second=tokens_per_second,
            texts_read=stage.texts,
        )
        tokens = round(stage.budget.texts * sum(map(statistics.fmean, lengths_of.values())))
        # Layers below the lowest adapter need no backward pass.
        forwards = 1 + (stage.objective.forwards - 1) * plan.recipe.lora.top_layers
        seconds = tokens * forwards / tokens_per_second
        seconds += stage.objective.preparation_seconds(measured)
        number = stage.texts or stage.budget.texts * len(columns)
        stages.append(StageEstimate(name=name, texts=number, tokens=tokens, seconds=seconds))
        memory.append(
            training_memory_gib(
                plan.backbone,
                parameters,
                plan.dtype,
                batch_size=stage.budget.mini_batch_size,
                tokens=held_tokens(stage, {column: max(found) for column, found in lengths_of.items()}),
                top_layers=plan.recipe.lora.top_layers,
                checkpointing=stage.gradient_checkpointing,
            )
        )
    return Estimate(
        corpus_texts=len(texts),
        corpus_tokens=round(statistics.fmean(lengths) * len(texts)),
        stages=stages,
        memory_gib=max(memory),
        judging_seconds=judging_tokens(plan, embedder, sample) / tokens_per_second,
    )


def judging_tokens(plan: Plan, embedder: SentenceTransformer, sample: list[str]) -> float:
    """Counts the tokens that the self-retrieval reads; a query and the rest of its text are about one text."""
    embedder.max_seq_length = plan.fitting_length(LENGTH)
    readings = 1 + len(plan.recipe.look_steps)
    return readings * plan.recipe.calibration_pairs * statistics.fmean(token_lengths(embedder, sample))


def held_tokens(stage: Stage, longest: Mapping[str, int]) -> int:
    """Counts the tokens whose activations a step keeps at once: several columns of them, or one after the other.

    Args:
        stage: The stage.
        longest: Number of tokens of the longest input of each column of the training data.
    """
    size = stage.budget.mini_batch_size
    return size * stage.objective.held_tokens(longest, cut=size < stage.batch_size)


def sample_of_stage(plan: Plan, stage: Stage, embedder: SentenceTransformer) -> dict[str, list[str]]:
    """Takes a sample of what a stage reads, as its objective cuts it.

    Returns:
        The columns of the training data, that of the texts last, with the embedder's own prompts.

    Raises:
        InputError: The objective finds nothing to train on in the sample.
    """
    if stage.objective.reads == "pairs":
        columns: dict[str, list[str]] = {}
        for examples in plan.pairs:
            rows = examples.rows.select(range(min(_SAMPLE, len(examples.rows))))
            for name in rows.column_names:
                columns.setdefault(name, []).extend(rows[name])
        return columns
    corpus = plan.corpus.texts()
    places = choose_rows(len(corpus), _SAMPLE, seed=plan.seed).tolist()
    material = plan.material(
        max_length=stage.max_length,
        budget=Budget(steps=1, batch_size=len(places)),
        texts=list(corpus.select(places)["text"]),
        places=places,
        make_embedder=lambda: embedder,
        look=True,
    )
    material = stage.objective.cut(material)
    read = {**material.columns, "text": material.texts}
    prompts = column_prompts(embedder, list(read)) or {}
    return {name: [prompts.get(name, "") + text for text in column] for name, column in read.items()}


def token_lengths(embedder: SentenceTransformer, texts: list[str]) -> list[int]:
    """Counts the tokens of every input: prompt included, cut at the embedder's length."""
    return [len(ids) for ids in embedder.tokenizer(texts, truncation=True)["input_ids"]]


def forward_rate(embedder: SentenceTransformer, texts: list[str]) -> float:
    """Measures the tokens per second of a forward pass, prompt included."""
    embedder.encode(texts[:4], show_progress_bar=False)
    tokens = sum(token_lengths(embedder, texts))
    started = time.perf_counter()
    embedder.encode(texts, batch_size=len(texts), show_progress_bar=False)
    rate: float = tokens / (time.perf_counter() - started)
    return rate


def training_memory_gib(
    backbone: Backbone,
    parameters: int,
    dtype: torch.dtype,
    *,
    batch_size: int,
    tokens: int,
    top_layers: float = 1.0,
    checkpointing: bool = False,
) -> float:
    """Estimates the GiB of a training step: weights, decoder layer, activations kept for the backward pass.

    About 34 numbers per token, layer and hidden unit are kept (Korthikanti et al. 2022 count 34 bytes in 16 bit with
    dropout masks; gated feed-forward layers and float32 adapters add as much again), and three float32 copies of the
    logits. With gradient checkpointing that is kept of one layer at a time, and of each its input.

    Args:
        backbone: The language model.
        parameters: Number of parameters of the embedder.
        dtype: Dtype of the weights.
        batch_size: Number of texts of a forward pass.
        tokens: Number of tokens whose activations are kept at once, padding included.
        top_layers: Share of the layers, from the top, that have adapters; the others keep nothing.
        checkpointing: Whether activations are computed anew in the backward pass.
    """
    config = backbone.config.get_text_config()
    width = torch.finfo(dtype).bits // 8
    hidden = config.hidden_size
    weights = parameters * width + backbone.vocab_size * hidden * 4
    layers = math.ceil(top_layers * config.num_hidden_layers)
    kept = layers + _KEPT if checkpointing else layers * _KEPT
    activations = tokens * hidden * kept * width
    logits = 3 * batch_size * backbone.vocab_size * 4
    gib: float = (weights + activations + logits) / 2**30 + 0.6
    return gib
