"""Mixtures of losses: their sum, and what they share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import add_random_adapter, assert_gradient_close, plain_embedder
from tiny import SENTENCES, VOCAB_SIZE

from selfembed.losses.contrastive import TwoViewsLoss, info_nce
from selfembed.losses.masked_next_token import MaskedNextTokenLoss
from selfembed.losses.mixture import MixtureLoss, mini_batch
from selfembed.losses.token_target import OnlineModelDerivedLoss, TokenTargetLoss
from selfembed.model.dropout import set_attention_dropout
from selfembed.model.prompt import PromptIds
from selfembed.targets.model_derived import ModelDerivedOptions
from selfembed.targets.token_targets import TokenTargets

TEXTS = sorted(SENTENCES[:6], key=len, reverse=True)
TURNS = [4, 1, 3, 5, 0, 2, 1]  # text of each turn
LABELS = torch.arange(6)


class PairsLoss(torch.nn.Module):
    """What reads two columns, each once: a query's embedding and its passage's."""

    columns = ("query", "text")

    def constants(self, features, labels):
        return features["query"]["input_ids"].shape

    def of_embeddings(self, embeddings, constants):
        assert constants[0] == len(embeddings[0])
        return info_nce(*embeddings, temperature=0.1)


class Counted:
    """How often a model runs, and on how many texts."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.sizes: list[int] = []
        model.register_forward_pre_hook(lambda module, inputs: self.sizes.append(len(inputs[0]["input_ids"])))


@pytest.fixture
def embedder(tiny_backbone_dir):
    made, _, _ = plain_embedder(tiny_backbone_dir)
    add_random_adapter(made, dropout=0.0)
    return made


@pytest.fixture
def head(tiny_backbone_dir):
    return plain_embedder(tiny_backbone_dir)[1].head()


def features_of(embedder, texts=TEXTS):
    return {name: value for name, value in embedder.preprocess(list(texts)).items() if torch.is_tensor(value)}


def targets() -> TokenTargets:
    rows = [(np.array([i, i + 9]), np.array([1.0, 1 + i])) for i in range(6)]
    return TokenTargets.from_rows(rows, vocab_size=VOCAB_SIZE)


def mixed(embedder, parts, *, mini_batch_size=None, columns=("text",), **options) -> MixtureLoss:
    weights = {name: 1.0 + number for number, name in enumerate(parts)}
    by_text = [name for name, part in parts.items() if isinstance(part, TokenTargetLoss)]
    given = {"columns": columns, "text_of_turn": TURNS, "by_text": by_text, "mini_batch_size": mini_batch_size}
    return MixtureLoss(embedder, parts, weights, **{**given, **options})


def gradients(embedder) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}


def sum_of(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(values.values())).sum()  # as the trainer does it


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_is_the_weighted_sum_of_its_parts(mini_batch_size, embedder, head):
    parts = {"token": TokenTargetLoss(embedder, head, targets()), "views": TwoViewsLoss(embedder, mini_batch_size=6)}
    alone = {
        "token": parts["token"]([features_of(embedder)], torch.tensor(TURNS)[LABELS]),
        "views": 2 * parts["views"]([features_of(embedder)]),
    }
    sum_of(alone).backward()
    expected = gradients(embedder)
    embedder.zero_grad()
    values = mixed(embedder, parts, mini_batch_size=mini_batch_size)([features_of(embedder)], LABELS)
    assert list(values) == ["token", "views"]
    for name, value in values.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-5, atol=1e-6)
    sum_of(values).backward()
    found = gradients(embedder)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_gradient_close(found[name], gradient, name)


def test_gradients_of_the_cache_are_those_of_the_same_dropout(embedder, head):
    """Scaled by half on the way back, as gradient scalers do."""
    add_dropout(embedder)
    parts = {"token": TokenTargetLoss(embedder, head, targets()), "views": TwoViewsLoss(embedder, mini_batch_size=6)}
    loss = mixed(embedder, parts, mini_batch_size=4)
    features = features_of(embedder)
    torch.manual_seed(3)
    (0.5 * sum_of(loss([features], LABELS))).backward()
    found = gradients(embedder)
    embedder.zero_grad()
    torch.manual_seed(3)
    views = [
        torch.cat([embedder(mini_batch(features, span))["sentence_embedding"] for span in (slice(0, 4), slice(4, 6))])
        for _ in range(2)
    ]
    assert not torch.equal(*views)
    constants = parts["token"].constants({}, torch.tensor(TURNS)[LABELS])
    total = parts["token"].of_embeddings(views[:1], constants) + 2 * info_nce(*views, temperature=0.05)
    (0.5 * total).backward()
    for name, gradient in gradients(embedder).items():
        assert_gradient_close(found[name], gradient, name)


def add_dropout(embedder) -> None:
    set_attention_dropout(embedder, 0.2)
    embedder.train()


@pytest.mark.parametrize(("mini_batch_size", "sizes"), [(None, [6, 6]), (4, [4, 2, 4, 2] * 2)])
def test_two_views_and_a_token_target_take_two_forward_passes(mini_batch_size, sizes, embedder, head):
    parts = {"token": TokenTargetLoss(embedder, head, targets()), "views": TwoViewsLoss(embedder, mini_batch_size=6)}
    counted = Counted(embedder)
    sum_of(mixed(embedder, parts, mini_batch_size=mini_batch_size)([features_of(embedder)], LABELS)).backward()
    assert counted.sizes == sizes


def test_several_token_targets_take_one(embedder, head):
    parts = {name: TokenTargetLoss(embedder, head, targets()) for name in ("one", "two", "three")}
    counted = Counted(embedder)
    sum_of(mixed(embedder, parts)([features_of(embedder)], LABELS)).backward()
    assert counted.sizes == [6]


@pytest.mark.parametrize(("mini_batch_size", "sizes"), [(None, [6, 6]), (3, [3, 3, 3, 3] * 2)])
def test_a_token_target_reads_the_passage_of_a_pair(mini_batch_size, sizes, embedder, head):
    """Query and passage once each; the target is on the passage."""
    parts = {"pairs": PairsLoss(), "token": TokenTargetLoss(embedder, head, targets())}
    loss = mixed(embedder, parts, mini_batch_size=mini_batch_size, columns=("query", "text"))
    queries = features_of(embedder, [text[:15] for text in TEXTS])
    counted = Counted(embedder)
    values = loss([queries, features_of(embedder)], LABELS)
    sum_of(values).backward()
    assert counted.sizes == sizes
    expected = parts["token"]([features_of(embedder)], torch.tensor(TURNS)[LABELS])
    torch.testing.assert_close(values["token"], 2 * expected, rtol=1e-5, atol=1e-6)
    query_BD, text_BD = (embedder(dict(one))["sentence_embedding"] for one in (queries, features_of(embedder)))
    torch.testing.assert_close(values["pairs"], info_nce(query_BD, text_BD, temperature=0.1), rtol=1e-5, atol=1e-6)


def test_what_runs_by_itself_is_cut_into_mini_batches_too(embedder, head):
    """Its dropout in the second pass is that of the first."""
    add_dropout(embedder)
    masked = MaskedNextTokenLoss(
        embedder, head, mask_id=5, prompt=PromptIds(before=(), after=()), vocab_size=VOCAB_SIZE
    )
    loss = mixed(embedder, {"views": TwoViewsLoss(embedder, mini_batch_size=6), "masked": masked}, mini_batch_size=3)
    features = features_of(embedder)
    torch.manual_seed(0)
    counted = Counted(embedder)
    values = loss([features], LABELS)
    state = torch.get_rng_state()
    sum_of(values).backward()
    assert counted.sizes == [3] * 12, "each half of two views and of the part, and each once more"
    found = gradients(embedder)
    embedder.zero_grad()
    torch.manual_seed(0)
    spans = slice(0, 3), slice(3, 6)
    views = [
        torch.cat([embedder(mini_batch(features, span))["sentence_embedding"] for span in spans]) for _ in range(2)
    ]
    halves = [masked([mini_batch(features, span)], LABELS[span]) for span in spans]
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(values["masked"], sum(halves))  # weight 2, half of the texts each
    (info_nce(*views, temperature=0.05) + sum(halves)).backward()
    for name, gradient in gradients(embedder).items():
        assert_gradient_close(found[name], gradient, name)


def test_targets_made_in_the_step_count_each_text_once(embedder, head):
    parts = {
        "online": OnlineModelDerivedLoss(embedder, head, ModelDerivedOptions(temperature=0.1)),
        "views": TwoViewsLoss(embedder, mini_batch_size=6),
    }
    loss = mixed(embedder, parts, mini_batch_size=4)
    sum_of(loss([features_of(embedder)], LABELS)).backward()
    assert parts["online"].common.texts == 6
    state = loss.state()
    assert set(state) == {"online.sum", "online.texts"}
    other = OnlineModelDerivedLoss(embedder, head, ModelDerivedOptions(temperature=0.1))
    mixed(embedder, {"online": other}).restore(state)
    assert other.common.texts == 6 and torch.equal(other.common.sum_V, parts["online"].common.sum_V)


def test_mini_batches_are_without_the_padding_they_do_not_need(embedder):
    features = features_of(embedder, ["a much longer text than the others", "a", "b"])
    part = mini_batch(features, slice(1, 3))
    assert part["input_ids"].shape == part["attention_mask"].shape == (2, int(features["attention_mask"][1].sum()))
