"""Masked next-token prediction: which tokens, in which place, read from where; by hand and against plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import add_random_adapter, plain_embedder
from tiny import SENTENCES, save_tiny, tiny_tokenizer

from selfembed.errors import InputError
from selfembed.losses.masked_next_token import MaskedNextTokenLoss, MaskedNextTokenOptions, mask_id, maskable
from selfembed.model.embedder import embedder_prompt
from selfembed.model.modes import decoder_of
from selfembed.model.prompt import PromptIds

MASK = 77


def loss_of(embedder, backbone, config, options, **more) -> MaskedNextTokenLoss:
    prompt = embedder_prompt(backbone, config)
    given = {"mask_id": MASK, "prompt": prompt, "vocab_size": backbone.vocab_size, **more}
    return MaskedNextTokenLoss(embedder, backbone.head(), options, **given)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A bidirectional embedder that puts bos and a prompt around its texts, its backbone and how it is read."""
    folder = save_tiny("llama", tmp_path_factory.mktemp("raw"), tokenizer=tiny_tokenizer(with_bos=True), tied=False)
    embedder, backbone, config = plain_embedder(folder, attention="bidirectional", prompt='a "{text}" b')
    add_random_adapter(embedder, dropout=0.0)
    return embedder, backbone, config


def features_of(embedder, texts: list[str]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in embedder.preprocess(texts).items() if torch.is_tensor(value)}


@pytest.mark.parametrize(
    ("before", "after", "span"),
    [((), (), (1, 6)), ((0,), (), (1, 6)), ((0, 5), (9,), (2, 5)), ((), (8, 9), (1, 4))],
)
def test_only_the_texts_own_tokens_are_masked_and_each_has_one_before_it(before, after, span):
    assert maskable([0, 1, 2, 3, 4, 5], PromptIds(before=before, after=after)) == span


def test_labels_and_positions_by_hand(monkeypatch):
    """Two texts of one batch: [bos, 11, 12, 13, eos] with the second padded; positions 2 and 3, and 1, are drawn."""
    ids_BT = torch.tensor([[0, 11, 12, 13, 1], [0, 21, 1, 2, 2]])
    loss = MaskedNextTokenLoss.__new__(MaskedNextTokenLoss)
    torch.nn.Module.__init__(loss)
    loss.options, loss.mask_id, loss.vocab_size, loss.seed = MaskedNextTokenOptions(style="all"), MASK, 100, 0
    loss.prompt = PromptIds(before=(0,), after=(1,))
    drawn = {(1, 4): [2, 3], (1, 2): [1]}
    monkeypatch.setattr(MaskedNextTokenOptions, "choose", lambda self, first, last, random: drawn[first, last])
    masked_BT, row_P, position_P = loss.mask(ids_BT, [5, 3], [0, 1])
    assert masked_BT.tolist() == [[0, 11, MASK, MASK, 1], [0, MASK, 1, 2, 2]]
    assert row_P.tolist() == [0, 0, 1] and position_P.tolist() == [2, 3, 1]
    assert ids_BT[row_P, position_P].tolist() == [12, 13, 21], "the labels are what was there"

    class Model(torch.nn.Module):
        def forward(self, features):
            assert features["input_ids"].tolist() == masked_BT.tolist()
            number_BT = torch.arange(10.0).reshape(2, 5)
            return {"token_embeddings": number_BT[..., None].expand(2, 5, 3)}

    read = []

    def cross_entropy(hidden_PD, target_P, head):
        read.append((hidden_PD[:, 0].tolist(), target_P.tolist()))
        return torch.tensor([1.0, 2.0, 6.0])

    loss.model, loss.head = Model(), None
    monkeypatch.setattr("selfembed.losses.masked_next_token.chunked_cross_entropy", cross_entropy)
    features = {"input_ids": ids_BT, "attention_mask": (ids_BT != 2).long()}
    assert loss([features], torch.tensor([0, 1])).item() == 3.0
    # Positions 1, 2 of the first text and 0 of the second: those before the masked ones.
    assert read == [([1.0, 2.0, 5.0], [12, 13, 21])]


@pytest.mark.parametrize("style", ["bert", "all"])
def test_equals_the_shifted_cross_entropy_of_one_text_at_a_time(style, read):
    embedder, backbone, config = read
    options = MaskedNextTokenOptions(rate=0.4, style=style)
    loss = loss_of(embedder, backbone, config, options)
    texts = sorted(SENTENCES[:5], key=len)
    features = features_of(embedder, texts)
    value = loss([dict(features)], torch.arange(5))
    lengths = features["attention_mask"].sum(1).tolist()
    masked_BT, row_P, position_P = loss.mask(features["input_ids"], lengths, list(range(5)))
    total = []
    for row, length in enumerate(lengths):
        alone = {"input_ids": masked_BT[row : row + 1, :length], "attention_mask": torch.ones(1, length).long()}
        hidden_1TD = decoder_of(embedder)(**alone, use_cache=False).last_hidden_state
        labels_T = torch.full((length,), -100)
        here = position_P[row_P == row]
        labels_T[here] = features["input_ids"][row, here]
        shifted = backbone.head()(hidden_1TD[0, :-1]), labels_T[1:]
        total += torch.nn.functional.cross_entropy(*shifted, reduction="none")[labels_T[1:] >= 0].tolist()
    assert value.item() == pytest.approx(np.mean(total), rel=1e-5)
    value.backward()
    assert all(p.grad is not None for name, p in embedder.named_parameters() if "lora_B" in name)


def test_a_text_is_a_document_of_its_own(read):
    """What else is in the batch changes neither which tokens are masked nor what they are worth."""
    embedder, backbone, config = read
    loss = loss_of(embedder, backbone, config, MaskedNextTokenOptions(rate=0.3))
    with torch.no_grad():
        alone = loss([features_of(embedder, [SENTENCES[3]])], torch.tensor([7]))
        found = []
        for other in (SENTENCES[0], "x"):
            features = features_of(embedder, [SENTENCES[3], other])
            lengths = features["attention_mask"].sum(1).tolist()
            masked_BT, row_P, position_P = loss.mask(features["input_ids"], lengths, [7, 8])
            hidden_BTD = embedder({**features, "input_ids": masked_BT})["token_embeddings"]
            here_P = position_P[row_P == 0]
            logits_PV = backbone.head()(hidden_BTD[0, here_P - 1])
            found.append(torch.nn.functional.cross_entropy(logits_PV, features["input_ids"][0, here_P]).item())
    assert found == pytest.approx([alone.item()] * 2, rel=1e-5)


def test_seed_and_turn_decide_what_is_masked(read):
    embedder, backbone, config = read
    features = features_of(embedder, [SENTENCES[3]])
    length = [int(features["attention_mask"].sum())]

    def positions(seed: int, turn: int) -> list[int]:
        loss = loss_of(embedder, backbone, config, MaskedNextTokenOptions(rate=0.5), seed=seed)
        return loss.mask(features["input_ids"], length, [turn])[2].tolist()

    assert positions(0, 0) == positions(0, 0)
    assert positions(0, 0) != positions(0, 1) and positions(0, 0) != positions(1, 0)


def test_rate_and_styles_are_as_said():
    random = np.random.default_rng(0)
    options = MaskedNextTokenOptions(rate=0.2)
    counts = [len(options.choose(1, 101, random)) for _ in range(500)]
    assert np.mean(counts) == pytest.approx(20, rel=0.03)
    assert all(len(options.choose(5, 6, random)) == 1 for _ in range(20)), "a short text has one, rate or no rate"
    drawn = [options.replacement(5, mask_id=MASK, vocab_size=50, random=random) for _ in range(20_000)]
    assert drawn.count(MASK) / 20_000 == pytest.approx(0.8, abs=0.01)
    assert drawn.count(5) / 20_000 == pytest.approx(0.1 + 0.1 / 50, abs=0.01)
    everything = MaskedNextTokenOptions(style="all")
    assert {everything.replacement(5, mask_id=MASK, vocab_size=50, random=random) for _ in range(100)} == {MASK}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate 0: expected a number above 0 and below 1, e.g. 0.2"),
        ({"rate": 1.0}, "rate 1.0"),
        ({"rate": -1}, "rate"),
        ({"rate": float("nan")}, "rate nan"),
        ({"style": "roberta"}, "style 'roberta': expected 'bert' or 'all'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        MaskedNextTokenOptions(**options)


def test_the_mask_token_is_one_of_the_vocabulary():
    tokenizer = tiny_tokenizer()
    assert mask_id(tokenizer, "_") == tokenizer.convert_tokens_to_ids("_")
    assert mask_id(tokenizer, tokenizer.pad_token) == tokenizer.pad_token_id
    with pytest.raises(InputError, match=r"mask_token '\[MASK\]': not in the vocabulary of \d+ tokens") as caught:
        mask_id(tokenizer, "[MASK]")
    assert "\n" not in str(caught.value)
