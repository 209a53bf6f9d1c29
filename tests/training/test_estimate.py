"""The estimate of a dry run, held against what training reads."""

from __future__ import annotations

import dataclasses

import pytest
from datasets import Dataset
from runs import PROMPT
from tiny import SENTENCES

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_rows
from selfembed.model.embedder import build_embedder
from selfembed.objectives.mixture import Mixture
from selfembed.objectives.order import rows_in_order
from selfembed.objectives.text_pairs import TextPairs
from selfembed.recipes import Recipe, Stage, find_recipe, override
from selfembed.training.estimate import estimate
from selfembed.training.plan import Plan, make_plan

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
