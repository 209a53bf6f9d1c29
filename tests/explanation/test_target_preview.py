"""What `selfembed targets` says of good and bad targets."""

from __future__ import annotations

import numpy as np
import pytest
from runs import SETTINGS
from tiny import SENTENCES, VOCAB_SIZE, tiny_tokenizer

from selfembed.errors import InputError
from selfembed.explanation.target_preview import preview, view_of
from selfembed.targets.token_targets import TokenTargets
from selfembed.training.plan import make_plan

TOKENIZER = tiny_tokenizer()


def ids_of(*words: str) -> list[int]:
    return [TOKENIZER(word, add_special_tokens=False)["input_ids"][0] for word in words]


def view(rows, **options):
    targets = TokenTargets.from_rows([(np.array(ids), np.array(w)) for ids, w in rows], vocab_size=VOCAB_SIZE)
    return view_of("stage", targets, ["a text"] * len(rows), TOKENIZER, options.get("show", 1))


def test_figures():
    first, second, comma, the = *ids_of("h", "f"), *ids_of(",", "the")
    seen = view([([first, second, comma, the], [0.5, 0.25, 0.125, 0.125]), ([], [])])
    assert seen.texts == 2 and seen.empty == 0.5 and seen.support == 4
    assert seen.entropy_nats == pytest.approx(1.75 * np.log(2), rel=1e-5)
    assert seen.effective_support == pytest.approx(2**1.75, rel=1e-5)
    assert seen.punctuation == pytest.approx(0.125) and seen.function_words == pytest.approx(0.125)
    assert seen.commonest == ("h", 1.0)
    assert [weight for _, weight in seen.samples[0][1]] == [0.5, 0.25, 0.125, 0.125]
    assert any("50.0% without a target" in line for line in seen.lines())


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([(range(VOCAB_SIZE), np.ones(VOCAB_SIZE))], "uniform over the vocabulary"),
        ([(range(300, 330), np.ones(30))], "uniform over its support"),
        ([([301, 302], [0.99, 0.01])], "one-hot"),
        ([([301, 302, 303], [0.5, 0.3, 0.2])] * 20, "weighs most in 100% of the texts"),
        ([(ids_of(",", ".", "h"), [0.3, 0.3, 0.4])], "punctuation and function words"),
        ([([301, 302], [0.5, 0.5]), ([], [])], "50% of the texts have no target"),
        ([([], [])], "no text has a target"),
    ],
)
def test_warnings(rows, warning):
    assert any(warning in said for said in view(rows).warnings)


def test_good_targets_raise_no_warning():
    rows = [([300 + i, 340 + i, 380 + i], [0.5, 0.3, 0.2]) for i in range(30)]
    assert view(rows).warnings == []


def test_preview_of_a_plan_covers_every_stage(tiny_backbone_dir):
    plan = make_plan(
        tiny_backbone_dir, iter(SENTENCES), "text2token", settings=SETTINGS, dtype="float32", device="cpu",
        tagger="hanta",
    )  # fmt: skip
    views = preview(plan, texts=20, show=2)
    assert [seen.stage for seen in views] == ["data_driven", "model_derived"]
    assert all(seen.texts == 20 and len(seen.samples) == 2 and seen.entropy_nats > 0 for seen in views)
    with pytest.raises(InputError, match="texts 0: expected at least 1"):
        preview(plan, texts=0)
