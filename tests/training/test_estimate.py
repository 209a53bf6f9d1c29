"""The estimate of a dry run, held against what training reads."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from datasets import Dataset
from runs import PROMPT
from tiny import SENTENCES, save_tiny, tiny_tokenizer

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_rows
from selfembed.model.dropout import set_attention_dropout
from selfembed.model.embedder import build_embedder
from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.mixture import Mixture
from selfembed.objectives.order import rows_in_order
from selfembed.objectives.supervised import Supervised
from selfembed.objectives.text_pairs import TextPairs
from selfembed.objectives.two_views import TwoViews
from selfembed.recipes import Recipe, Stage, find_recipe, override
from selfembed.training.estimate import estimate, held_tokens, token_lengths
from selfembed.training.plan import Plan, make_plan
from selfembed.training.stage import trainable_embedder

RATE = 1000.0  # tokens per second
LENGTH = 40
# Long texts beside short ones: what a title or a few words search for is cut, they are not.
TEXTS = [". ".join(SENTENCES[at : at + 1 + at % 5]) for at in range(50)]
TITLED = Dataset.from_dict({"text": TEXTS, "title": [text.split()[0] for text in TEXTS]})


def plan_of(model, objective, **stage) -> Plan:
    numbers = {"steps": 12, "batch_size": 8, "max_length": LENGTH, **stage}
    recipe = Recipe(name="tried", stages={"tried": Stage(objective=objective, **numbers)})
    settings = {"prompt": PROMPT}
    return make_plan(model, Corpus(TITLED), recipe, settings=settings, dtype="float32", device="cpu", tagger="hanta")


def tokens_read(plan: Plan) -> int:
    """Counts what the trainer would be given, column by column."""
    (stage,) = plan.recipe.stages.values()
    embedder = build_embedder(plan.backbone, plan.recipe.embedder, max_length=LENGTH, device="cpu")
    corpus = plan.corpus.texts()
    places = choose_rows(len(corpus), stage.texts, seed=plan.seed).tolist()
    texts = list(corpus.select(places)["text"])
    material = plan.material(max_length=LENGTH, budget=stage.budget, texts=texts, places=places)
    material = stage.objective.cut(material)
    rows = rows_in_order(material, stage.objective.prepare(material)).remove_columns("label")
    return sum(
        len(ids)
        for name in rows.column_names
        for ids in embedder.tokenizer(list(rows[name]), truncation=True).input_ids
    )


@pytest.mark.parametrize(
    "objective",
    [
        TextPairs(query_words=4),
        TextPairs(query_words=4, title=0, sentence=0, neighbour=0),
        Mixture({"text_pairs": 1.0, "bag_of_tokens": 0.2}, {"text_pairs": TextPairs(query_words=6)}),
        find_recipe("bag-of-tokens").stages["bag_of_tokens"].objective,
    ],
    ids=["pairs", "parts", "mixture", "whole texts"],
)
def test_tokens_and_seconds_are_those_of_what_is_read(objective, tiny_backbone_dir, monkeypatch):
    monkeypatch.setattr("selfembed.training.estimate.forward_rate", lambda embedder, texts: RATE)
    plan = plan_of(tiny_backbone_dir, objective)
    (guess,) = estimate(plan).stages
    assert guess.texts == 12 * 8
    assert guess.tokens == pytest.approx(tokens_read(plan), rel=0.1)
    assert guess.seconds == pytest.approx(guess.tokens * objective.forwards / RATE)
    half = dataclasses.replace(plan.recipe, lora=dataclasses.replace(plan.recipe.lora, top_layers=0.5))
    (less,) = estimate(dataclasses.replace(plan, recipe=half)).stages
    assert less.seconds == pytest.approx(guess.tokens * (1 + objective.forwards) / 2 / RATE)


def test_queries_count_as_long_as_they_are_cut(tiny_backbone_dir):
    short, long = (
        estimate(plan_of(tiny_backbone_dir, TextPairs(query_words=words, title=0))).stages[0].tokens
        for words in (2, 12)
    )
    longest = 12 * 8 * 2 * LENGTH
    assert 0.2 * longest < short < 0.9 * long < long < longest


def test_several_stages(tiny_backbone_dir, monkeypatch):
    monkeypatch.setattr("selfembed.training.estimate.forward_rate", lambda embedder, texts: RATE)
    recipe = override(find_recipe("text2token"), {"steps": 5, "batch_size": 4, "max_length": LENGTH, "prompt": PROMPT})
    plan = make_plan(tiny_backbone_dir, Corpus(TITLED), recipe, dtype="float32", device="cpu", tagger="hanta")
    guess = estimate(plan)
    assert [(stage.name, stage.texts) for stage in guess.stages] == [("data_driven", 20), ("model_derived", 20)]
    first, second = guess.stages
    assert first.tokens == second.tokens <= 20 * LENGTH
    assert second.seconds > first.seconds and guess.seconds == first.seconds + second.seconds


class Kept:
    """A tensor that autograd has kept."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


@contextmanager
def peak_of_kept_bytes(fixed: set[int]) -> Iterator[list[int]]:
    """Measures how many bytes autograd keeps at once for backward passes; what lies at `fixed` is the model's own."""
    now, peak = [0], [0]

    def keep(tensor: torch.Tensor) -> torch.Tensor | Kept:
        if tensor.untyped_storage().data_ptr() in fixed:
            return tensor
        kept, size = Kept(tensor), tensor.numel() * tensor.element_size()
        weakref.finalize(kept, lambda: now.__setitem__(0, now[0] - size))
        now[0] += size
        peak[0] = max(peak[0], now[0])
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: getattr(kept, "tensor", kept)):
        yield peak


def kept_and_estimated(model, objective, top_layers: float = 1.0, **stage) -> tuple[int, int]:
    """Bytes that a step keeps at once, and tokens that the estimate takes for kept."""
    plan = plan_of(model, objective, steps=1, **stage)
    lora = dataclasses.replace(plan.recipe.lora, top_layers=top_layers)
    plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, lora=lora))
    # As long as each other, so that little is padding: what is measured is which columns are kept.
    texts = [" ".join(text.split()[:11]) for text in SENTENCES if len(text.split()) > 10]
    queries = [" ".join(text.split()[:5]) for text in texts]
    return measured(plan, texts, {"query": queries} if isinstance(objective, TextPairs | Mixture) else {})


def measured(plan: Plan, texts: list[str], columns: dict[str, list[str]]) -> tuple[int, int]:
    """The same for a step of a plan on texts."""
    (budgeted,) = plan.recipe.stages.values()
    texts = texts[: budgeted.batch_size]
    columns = {name: column[: budgeted.batch_size] for name, column in columns.items()}
    embedder = trainable_embedder(plan, plan.backbone)
    embedder.max_seq_length = budgeted.max_length
    set_attention_dropout(embedder, 0.1)  # for all objectives, since it keeps masks
    embedder.train()
    given = {"texts": texts, "places": range(len(texts)), "columns": columns, "make_embedder": lambda: embedder}
    material = plan.material(max_length=budgeted.max_length, budget=budgeted.budget, **given)
    prepared = budgeted.objective.prepare(material)
    columns = {**columns, "text": texts}
    features = [embedder.preprocess(list(column)) for column in columns.values()]
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*embedder.parameters(), *embedder.buffers())}
    with peak_of_kept_bytes(fixed) as peak:
        loss = prepared.loss(features, torch.arange(len(texts)))
        (sum(loss.values()) if isinstance(loss, dict) else loss).backward()
    return peak[0], held_tokens(budgeted, {name: max(token_lengths(embedder, read)) for name, read in columns.items()})


HELD = {
    "pairs": (TextPairs(), {}),
    "pairs, cut": (TextPairs(), {"micro_batch_size": 4}),
    "two views": (TwoViews(), {}),
    "two views, cut": (TwoViews(), {"micro_batch_size": 2}),
    "mixture": (Mixture({"text_pairs": 1.0, "bag_of_tokens": 0.2}), {}),
    "mixture of views": (Mixture({"text_pairs": 1.0, "two_views": 0.2}), {}),
    "mixture, cut": (Mixture({"text_pairs": 1.0, "two_views": 0.2}), {"micro_batch_size": 4}),
}


@pytest.mark.parametrize("case", HELD)
def test_memory_is_that_of_the_columns_that_are_kept(case, tiny_backbone_dir):
    objective, stage = HELD[case]
    whole, tokens = kept_and_estimated(tiny_backbone_dir, BagOfTokens())
    kept, estimated = kept_and_estimated(tiny_backbone_dir, objective, **stage)
    assert kept / whole == pytest.approx(estimated / tokens, rel=0.15)
    if case == "pairs":
        assert estimated > 1.3 * tokens, "two columns"
    if "cut" in case:
        assert estimated <= tokens / 2


def test_compression_keeps_what_encoder_and_decoder_read(tmp_path):
    raw = save_tiny("llama", tmp_path, tied=True, tokenizer=tiny_tokenizer(with_bos=True))
    texts = [" ".join(" ".join(SENTENCES[at : at + 5]).split()[:38]) for at in range(32)]
    found = []
    for name in ("compression", "bag_of_tokens"):
        recipe = find_recipe("llm2comp-unsup" if name == "compression" else "bag-of-tokens")
        recipe = dataclasses.replace(recipe, stages={name: recipe.stages[name]})
        numbers = {"batch_size": 32, "micro_batch_size": 32, "max_length": 100}
        recipe = override(
            recipe, numbers | ({"min_context": 4, "min_continuation": 4} if name == "compression" else {})
        )
        plan = make_plan(raw, Corpus(iter(texts)), recipe, dtype="float32", device="cpu")
        found.append(measured(plan, texts, {}))
    (kept, estimated), (whole, tokens) = found
    assert kept / whole == pytest.approx(estimated / tokens, rel=0.15)


def test_labelled_columns_are_kept_one_after_the_other():
    assert Supervised().held_tokens({"query": 10, "positive": 40, "negative": 30}, cut=False) == 40


def test_layers_without_adapters_keep_nothing(tiny_backbone_dir):
    whole, half = (kept_and_estimated(tiny_backbone_dir, BagOfTokens(), top_layers=share)[0] for share in (1.0, 0.5))
    assert half == pytest.approx(whole / 2, rel=0.1)


def test_memory_of_the_plan_counts_columns_layers_and_checkpoints(tiny_backbone_dir):
    def activations(objective, top_layers=1.0, **stage) -> float:
        plan = plan_of(tiny_backbone_dir, objective, **stage)
        lora = dataclasses.replace(plan.recipe.lora, top_layers=top_layers)
        plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, lora=lora))
        vocabulary = 640
        weights = 4 * (sum(p.numel() for p in embedder.parameters()) + vocabulary * 32) + 3 * 8 * vocabulary * 4
        return (estimate(plan).memory_gib - 0.6) * 2**30 - weights

    embedder = build_embedder(
        plan_of(tiny_backbone_dir, BagOfTokens()).backbone, find_recipe("bag-of-tokens").embedder
    )
    a_token = 2 * 32 * 34 * 4
    texts, pairs = activations(BagOfTokens()), activations(TextPairs(query_words=4, title=0))
    assert texts == pytest.approx(8 * LENGTH * a_token, rel=1e-3)
    assert 1.2 * texts < pairs < 2 * texts
    assert activations(BagOfTokens(), top_layers=0.5) == pytest.approx(texts / 2, rel=1e-3)
    assert activations(BagOfTokens(), gradient_checkpointing=True) == pytest.approx(texts * 36 / 68, rel=1e-3)
