"""Does it matter which decoder layer an embedding learns to decode through? Text2Token's stage I with other heads.

    python studies/text2token_decoder_layer.py --preset cpu

Writes ``text2token_decoder_layer_<preset>.json``, ``.md`` and ``.svg``. The tasks of presets cpu and smoke are
subsamples. Data-driven targets only, since they do not depend on the head; model-derived ones do, and with its rows
permuted in targets and loss alike the head would be the exact one under other names. ``--other-head MODEL`` takes that
of another backbone with the same vocabulary and hidden size; none is embedded, so it is left out otherwise.
"""

from __future__ import annotations

import torch
from findings import better, verdict
from variants import Study, Variant, command_line, run_quietly

from selfembed.errors import InputError
from selfembed.model.backbone import LMHead, load_backbone

FINDING = (
    "embeddings align with key tokens through the backbone's own decoder layer, which is frozen in the loss (Eq. 8); "
    "so a head that is not the backbone's own is expected to do worse."
)
SEED = 0  # of the wrong heads
EXACT = "exact head"


def permuted(head: LMHead) -> LMHead:
    """The head with its rows permuted: every token is asked for through the row of another one, drawn at random."""
    order_V = torch.randperm(len(head.weight), generator=torch.Generator().manual_seed(SEED))
    weights = {"weight": head.weight[order_V], **({} if head.bias is None else {"bias": head.bias[order_V]})}
    return LMHead(weights, scale=head.scale, soft_cap=head.soft_cap)


def gaussian(head: LMHead) -> LMHead:
    """A head of Gaussian numbers with the mean and standard deviation of the exact one's."""
    draws_VD = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(SEED))
    weights = {"weight": draws_VD * head.weight.float().std() + head.weight.float().mean()}
    return LMHead(weights, scale=head.scale, soft_cap=head.soft_cap)


def head_of(model: str):
    """Makes a function that puts another backbone's head in the place of the exact one."""
    other = load_backbone(model).head()

    def other_head(head: LMHead) -> LMHead:
        if other.weight.shape != head.weight.shape:
            theirs, ours = (" x ".join(map(str, found.weight.shape)) for found in (other, head))
            raise InputError(
                f"--other-head {model}: its decoder layer is {theirs}; expected {ours}, as the backbone's"
            )
        return other

    other_head.__name__ = f"of {model}"
    return other_head


def main() -> None:
    more = ("--other-head", {"metavar": "MODEL", "help": "another backbone with the same vocabulary and hidden size"})
    options = command_line(__doc__, more)
    heads = {EXACT: None, "permuted head": permuted, "Gaussian head": gaussian}
    if options.other_head:
        heads["other backbone's head"] = head_of(options.other_head)
    variants = [Variant(name="raw")]
    variants += [Variant(name=name, stages=("data_driven",), head=head, raw="raw") for name, head in heads.items()]
    title = "The decoder layer in the loss (Text2Token, stage I)"
    study = Study("text2token_decoder_layer", title=title, finding=FINDING, variants=variants, options=options)
    study.run()
    exact = ("the exact head", study.values(EXACT))
    wrong = [(f"the {name}", study.values(name)) for name in heads if name != EXACT]
    note = "" if options.other_head else "No other backbone of this vocabulary was at hand (`--other-head`).\n"
    study.conclude(verdict([better("in stage I", exact, rival) for rival in wrong]), note)


if __name__ == "__main__":
    run_quietly(main)
