"""Messages of the library in the words of the command line."""

from __future__ import annotations

import pytest

from selfembed.terminal.main import parser
from selfembed.terminal.wording import worded

TRAIN = ["train", "--max-length", "3", "--set", "steps=0", "--corpus", "texts.txt", "--instruction", "a=b"]


@pytest.mark.parametrize(
    ("arguments", "message", "said"),
    [
        (
            TRAIN,
            "max_length 3: the prompt takes 9; give a larger one",
            "--max-length 3: the prompt takes 9; give a la",
        ),
        (TRAIN, "steps 0: expected at least 1", "steps 0: expected at least 1"),  # set by --set, not by --steps
        (TRAIN, "batch_size 64: expected a divisor", "batch_size 64: expected a divisor"),  # the recipe's own
        (TRAIN, "model embedded: no", "model embedded: no"),  # the default
        (TRAIN, "corpus: none of 3 texts", "--corpus: none of 3 texts"),
        (TRAIN, "instructions 'a': no pairs", "--instruction 'a': no pairs"),
        (TRAIN, "corpora: none", "corpora: none"),
        (TRAIN, "give a smaller `max_length`", "give a smaller --max-length"),
        (TRAIN, "use `attention='causal'` or another", "use --attention causal or another"),
        (TRAIN, "say `prompt='a {text}'`", "say --prompt 'a {text}'"),
        (TRAIN, "or `pos=None` for all", "or --set pos=none for all"),
        (TRAIN, "lower `lora.dropout`", "lower --set lora.dropout"),
        (TRAIN, "with `trust_remote_code=True`", "with --trust-remote-code"),
        (TRAIN, "with `trust_remote_code=False`", "with no --trust-remote-code"),
        (TRAIN, "give `column=NAME`", "give --column NAME"),
        (TRAIN, "as `Find it: QUERY`", "as `Find it: QUERY`"),
        (["evaluate", "x"], "use `cache=False`", "use --no-cache"),
        (["evaluate", "x"], "use `temperature=1`", "use `temperature=1`"),  # no option, and no --set
        (["explain", "x", "-k", "0"], "k 0: expected at least 1", "-k 0: expected at least 1"),
        (["explain", "x"], "k 10: expected at most 5", "k 10: expected at most 5"),
        (["explain", "x"], "", ""),
        (["doctor", "--model", "x"], "model x: use `attention='causal'`", "--model x: use --attention causal"),
        (["doctor"], "seed 0: no option of its own", "seed 0: no option of its own"),
    ],
)
def test_worded(arguments, message, said):
    assert worded(message, parser().parse_args(arguments)).startswith(said)
