"""A plan: everything a run depends on, resolved before anything is computed, and what it would take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from selfembed.data.batches import batches, pools
from selfembed.data.corpus import Corpus
from selfembed.data.pairs import Examples, instructed, read_examples, read_sets
from selfembed.errors import InputError
from selfembed.ground.hashing import content_hash
from selfembed.losses.compression import Compression
from selfembed.losses.contrastive import Supervised, TwoViews
from selfembed.model.backbone import EMBEDDED, Backbone, LMHead, best_dtype, load_backbone
from selfembed.model.embedder import build_embedder, embedder_prompt, fitting_length
from selfembed.recipes import Recipe, find_recipe, override
from selfembed.targets.cache import TargetSource, choose_texts
from selfembed.targets.data_driven import DataDriven
from selfembed.targets.model_derived import ModelDerived
from selfembed.targets.tagger import Tagger, load_tagger, require_language


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run depends on, resolved before anything is computed."""

    backbone: Backbone
    corpus: Corpus
    recipe: Recipe
    seed: int
    dtype: torch.dtype
    device: str
    tagger: Tagger | None
    pairs: tuple[Examples, ...] = ()
    dev: Examples | None = None

    @property
    def tagger_name(self) -> str:
        return self.tagger.name if self.tagger else "none"

    @property
    def key(self) -> str:
        """Content hash: two plans of one key end in the same weights on the same machine."""
        parts = (self.backbone.fingerprint, self.corpus.fingerprint, self.recipe.to_dict(), self.seed)
        labelled = [self._labelled()] if self.pairs else []  # the key of a plan without any stays what it was
        return content_hash(*parts, str(self.dtype), self.device, self.tagger_name, *labelled)

    def _labelled(self) -> dict[str, Any]:
        """Pairs for the record; nothing where there are none."""
        found: dict[str, Any] = {}
        if self.pairs:
            found["pairs"] = [examples.to_dict() for examples in self.pairs]
        if self.dev:
            found["dev"] = self.dev.to_dict()
        return found

    def target_source(self, embedder: SentenceTransformer | None = None, head: LMHead | None = None) -> TargetSource:
        """Where this plan's token targets come from."""
        return TargetSource(
            backbone=self.backbone,
            corpus=self.corpus,
            tagger=self.tagger,
            statistics_texts=self.recipe.statistics_texts,
            embedder=embedder,
            head=head,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.backbone.name,
            "model_fingerprint": self.backbone.fingerprint,
            "corpus": self.corpus.name,
            "corpus_fingerprint": self.corpus.fingerprint,
            "corpus_report": dataclasses.asdict(self.corpus.report),
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device,
            "tagger": self.tagger_name,
            **self._labelled(),
        }


def make_plan(
    model: str | Path = EMBEDDED,
    corpus: Any = None,
    recipe: str | Recipe = "text2token",
    *,
    pairs: Any = None,
    dev: Any = None,
    instructions: Mapping[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    tagger: str = "auto",
    trust_remote_code: bool = False,
) -> Plan:
    """Finds the backbone, reads the corpus and resolves the recipe.

    For the arguments see :func:`selfembed.training.run.train`.

    Raises:
        InputError: any of them is not usable.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype not in ("auto", "float32", "bfloat16"):
        raise InputError(f"dtype {dtype!r}: expected 'auto', 'float32' or 'bfloat16'")
    resolved = override(recipe if isinstance(recipe, Recipe) else find_recipe(recipe), settings or {})
    sets, dev_set = read_pairs(resolved, pairs, dev, instructions, seed=seed)
    backbone = load_backbone(model, trust_remote_code=trust_remote_code)
    for length in (*(stage.max_length for stage in resolved.stages.values()), resolved.embed_length):
        fitting_length(backbone, resolved.embedder, length)
    needs_tagger = any(isinstance(s.objective, DataDriven) and s.objective.pos for s in resolved.stages.values())
    found_tagger = load_tagger(tagger) if needs_tagger else None
    corpus = find_corpus(corpus, sets)
    corpus.texts()
    if found_tagger:
        require_language(found_tagger, choose_texts(corpus.texts(), 200, seed=seed)["text"])
    return Plan(
        backbone=backbone,
        corpus=corpus,
        recipe=resolved,
        seed=seed,
        dtype=best_dtype(device) if dtype == "auto" else getattr(torch, dtype),
        device=device,
        tagger=found_tagger,
        pairs=sets,
        dev=dev_set,
    )


def find_corpus(given: Any, pairs: tuple[Examples, ...]) -> Corpus:
    """The corpus that is given; without one the different positives of the pairs, uncut, or else the embedded one."""
    if given is None and pairs:
        positives = dict.fromkeys(text for examples in pairs for text in examples.rows["positive"])
        name = f"positives of {', '.join(examples.name for examples in pairs)}"
        return Corpus(Dataset.from_dict({"text": list(positives)}), passage_words=None, name=name)
    return given if isinstance(given, Corpus) else Corpus("python-docs" if given is None else given)


def read_pairs(
    recipe: Recipe, pairs: Any, dev: Any, instructions: Mapping[str, str] | None, *, seed: int
) -> tuple[tuple[Examples, ...], Examples | None]:
    """The labelled examples of a plan, to train on and to stop by.

    Raises:
        InputError: the recipe needs some and there are none, or has no use for what is given, or they are bad.
    """
    given = pairs is not None and pairs not in ([], (), {})
    supervised = [stage for stage in recipe.stages.values() if isinstance(stage.objective, Supervised)]
    if supervised and not given:
        unsupervised = recipe.name.replace("llm2comp", "llm2comp-unsup")
        raise InputError(
            f"recipe {recipe.name}: its supervised stage needs labelled pairs; give them (--pairs FILE), or use "
            f"{unsupervised}, which needs none"
        )
    if not supervised:
        for name, value in (("pairs", given), ("dev", dev), ("instruction", instructions)):
            if value:
                raise InputError(
                    f"{name}: recipe {recipe.name} has no supervised stage; use llm2comp, or leave it out"
                )
        return (), None
    sets = read_sets(pairs)
    if dev is not None:
        sets = (*sets, read_dev(dev))
    sets = instructed(sets, instructions or {})
    sets, dev_set = (sets, None) if dev is None else (sets[:-1], sets[-1])
    for stage in supervised:  # a batch that cannot be made is refused before the stages before it are trained
        parts, _ = pools(sets, **stage.objective.pools, seed=seed)
        batches(parts, steps=1, batch_size=stage.batch_size, seed=seed)
    return sets, dev_set


def read_dev(dev: Any) -> Examples:
    """The pairs that decide when to stop.

    Raises:
        InputError: they are bad, or there is nothing to choose the right positive from.
    """
    examples = read_examples(dev)
    if len(set(examples.rows["positive"])) < 2:
        raise InputError(
            f"dev {examples.name}: one positive alone, which every query finds; give pairs with different positives"
        )
    return examples


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


# A training step in forward passes of the same batch, and words a second and core: docs/results/benchmarks.jsonl. That
# of compression (encoder, teacher, decoder, three products with the vocabulary) is a guess.
_STEP_FORWARDS = 2.5
_COMPRESSION_FORWARDS = 5.0
_TARGET_WORDS_PER_SECOND = 30_000


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
        if isinstance(stage.objective, Supervised):
            stage_lengths = example_lengths(plan)
            texts_of_stage = stage.steps * stage.batch_size * (2 + max(one.negatives for one in plan.pairs))
        mean_tokens = sum(min(length + prompt, stage.max_length) for length in stage_lengths) / len(stage_lengths)
        tokens_per_second = forward_rate(embedder, sample[: min(32, stage.batch_size)])
        forwards, extra_seconds = _STEP_FORWARDS, 0.0
        if isinstance(stage.objective, Compression):
            forwards = _COMPRESSION_FORWARDS
        if isinstance(stage.objective, TwoViews):
            forwards = 2 * (1 + _STEP_FORWARDS)  # both views, once more for the cached gradients
        if isinstance(stage.objective, Supervised):
            forwards = 1 + _STEP_FORWARDS
        if isinstance(stage.objective, ModelDerived):
            forwards += 1
            if stage.objective.common == "sample":
                common_texts = min(stage.objective.common_texts, len(texts))
                extra_seconds = common_texts * mean_tokens / tokens_per_second
        if isinstance(stage.objective, DataDriven):
            words = plan.corpus.report.words * min(1.0, plan.recipe.statistics_texts / len(texts))
            extra_seconds = words / _TARGET_WORDS_PER_SECOND
        tokens = round(texts_of_stage * mean_tokens)
        seconds = tokens * forwards / tokens_per_second + extra_seconds
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
    """Tokens of the texts of the first labelled examples of each set."""
    texts = [
        text
        for examples in plan.pairs
        for row in examples.rows.select(range(min(64, len(examples.rows))))
        for text in row.values()
    ]
    return [len(ids) for ids in plan.backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]]


def forward_rate(embedder: SentenceTransformer, texts: list[str]) -> float:
    """Tokens per second of a forward pass, prompt included."""
    embedder.encode(texts[:4], show_progress_bar=False)
    tokens = sum(min(len(ids), embedder.max_seq_length) for ids in embedder.tokenizer(texts)["input_ids"])
    started = time.perf_counter()
    embedder.encode(texts, batch_size=len(texts), show_progress_bar=False)
    return tokens / (time.perf_counter() - started)


def training_memory_gib(
    backbone: Backbone, parameters: int, dtype: torch.dtype, *, batch_size: int, max_length: int
) -> float:
    """Rough need of a training step, in GiB: weights, decoder layer, activations kept for the backward pass.

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
    return (weights + activations + logits) / 2**30 + 0.6
