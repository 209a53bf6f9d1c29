"""What a plan would take, from a sample of its texts and a timed forward pass."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer

from selfembed.data.sampling import choose_texts
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import build_embedder, embedder_prompt, fitting_length
from selfembed.objectives.objective import Measured
from selfembed.training.plan import Plan


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """What a stage would take: ``tokens`` include the prompt, ``seconds`` include its targets."""

    name: str
    texts: int
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan would take, from a sample of its texts and a timed forward pass."""

    corpus_texts: int
    corpus_tokens: int
    stages: list[StageEstimate]
    memory_gib: float

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)


def estimate(plan: Plan) -> Estimate:
    """Times forward passes of a few of the plan's own texts and scales up; nothing is trained."""
    texts = plan.corpus.texts()
    sample = list(choose_texts(texts, 256, seed=plan.seed)["text"])
    lengths = [len(ids) for ids in plan.backbone.tokenizer(sample, add_special_tokens=False)["input_ids"]]
    prompt = len(embedder_prompt(plan.backbone, plan.recipe.embedder))
    embedder = build_embedder(plan.backbone, plan.recipe.embedder, dtype=plan.dtype, device=plan.device)
    stages = []
    for name, stage in plan.recipe.stages.items():
        embedder.max_seq_length = fitting_length(plan.backbone, plan.recipe.embedder, stage.max_length)
        stage_lengths, texts_of_stage = lengths, stage.texts
        if stage.objective.reads == "pairs":
            stage_lengths = example_lengths(plan)
            texts_of_stage = stage.budget.texts * (2 + max(one.negatives for one in plan.pairs))
        mean_tokens = sum(min(length + prompt, stage.max_length) for length in stage_lengths) / len(stage_lengths)
        tokens_per_second = forward_rate(embedder, sample[: min(32, stage.batch_size)])
        measured = Measured(
            texts=len(texts),
            words=plan.corpus.report.words,
            statistics_texts=plan.recipe.statistics_texts,
            mean_tokens=mean_tokens,
            tokens_per_second=tokens_per_second,
        )
        tokens = round(texts_of_stage * mean_tokens)
        seconds = tokens * stage.objective.forwards / tokens_per_second
        seconds += stage.objective.preparation_seconds(measured)
        stages.append(StageEstimate(name=name, texts=texts_of_stage, tokens=tokens, seconds=seconds))
    parameters = sum(parameter.numel() for parameter in embedder.parameters())
    memory = max(
        training_memory_gib(
            plan.backbone,
            parameters,
            plan.dtype,
            batch_size=stage.micro_batch_size or stage.batch_size,
            max_length=stage.max_length,
        )
        for stage in plan.recipe.stages.values()
    )
    mean_length = sum(lengths) / len(lengths)
    return Estimate(
        corpus_texts=len(texts), corpus_tokens=round(mean_length * len(texts)), stages=stages, memory_gib=memory
    )


def example_lengths(plan: Plan) -> list[int]:
    """Counts the tokens of the first labelled examples of each set."""
    texts = [
        text
        for examples in plan.pairs
        for row in examples.rows.select(range(min(64, len(examples.rows))))
        for text in row.values()
    ]
    return [len(ids) for ids in plan.backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]]


def forward_rate(embedder: SentenceTransformer, texts: list[str]) -> float:
    """Measures the tokens per second of a forward pass, prompt included."""
    embedder.encode(texts[:4], show_progress_bar=False)
    tokens = sum(min(len(ids), embedder.max_seq_length) for ids in embedder.tokenizer(texts)["input_ids"])
    started = time.perf_counter()
    embedder.encode(texts, batch_size=len(texts), show_progress_bar=False)
    rate: float = tokens / (time.perf_counter() - started)
    return rate


def training_memory_gib(
    backbone: Backbone, parameters: int, dtype: torch.dtype, *, batch_size: int, max_length: int
) -> float:
    """Estimates the GiB of a training step: weights, decoder layer, activations kept for the backward pass.

    About 34 numbers per token, layer and hidden unit are kept (Korthikanti et al. 2022 count 34 bytes in 16 bit with
    dropout masks; gated feed-forward layers and float32 adapters add as much again), and three float32 copies of the
    logits.
    """
    config = backbone.config.get_text_config()
    width = torch.finfo(dtype).bits // 8
    hidden = config.hidden_size
    weights = parameters * width + backbone.vocab_size * hidden * 4
    activations = batch_size * max_length * config.num_hidden_layers * hidden * 34 * width
    logits = 3 * batch_size * backbone.vocab_size * 4
    gib: float = (weights + activations + logits) / 2**30 + 0.6
    return gib
