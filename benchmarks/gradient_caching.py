"""What a larger batch costs in memory where gradients are cached: loss and backward pass of the two-view stage.

A small random decoder, dropout on. Each case runs in processes of its own, one after the other: gradients cached with
one micro-batch at two batch sizes, and the plain loss, which has no micro-batches, at the smaller. The peak is the
memory above what was held before. Prints one JSON object a line; exit status 1 when the ratio is over its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.losses.contrastive import TwoViewsLoss
from selfembed.model.dropout import set_attention_dropout
from selfembed.objectives.two_views import TwoViews

LIMIT = 1.2
VOCABULARY = 1_000


class Embedder(nn.Module):
    """The mean of a decoder's hidden states, in the form that sentence-transformers' losses ask for."""

    def __init__(self, decoder: LlamaModel) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden_BTD = self.decoder(**features, use_cache=False).last_hidden_state
        return {"sentence_embedding": hidden_BTD.mean(1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs=2, default=(64, 512), metavar="N", help="the smaller first")
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", nargs=2, metavar=("FORM", "BATCH"), help="measure this one, in this process")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments)))
        return
    shape = {name: getattr(arguments, name) for name in ("micro_batch", "tokens", "hidden", "layers", "device")}
    print(json.dumps({**shape, "dtype": "float32", "environment": environment()}))
    small, large = arguments.batches
    peaks = {}
    for form, batch in (("plain", small), ("cached", small), ("cached", large)):
        runs = [measured_elsewhere(form, batch) for _ in range(arguments.repeats)]
        medians = {f"median_{name}": round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
        print(json.dumps({"run": form, "batch": batch, **medians}))
        peaks[form, batch] = medians["median_peak_gib"]
    ratio = peaks["cached", large] / peaks["cached", small]
    print(json.dumps({"ratio": "peak_gib", "large_to_small": round(ratio, 3), "limit": LIMIT}))
    sys.exit(int(ratio > LIMIT))


def measured_elsewhere(form: str, batch: int) -> dict[str, float]:
    """:func:`measure` in a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--case", form, str(batch)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory in GiB and processor seconds of a loss and its backward pass."""
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    form, batch = arguments.case[0], int(arguments.case[1])
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=arguments.hidden,
        intermediate_size=3 * arguments.hidden,
        num_hidden_layers=arguments.layers,
        num_attention_heads=4,
    )
    model = nn.Sequential(Embedder(LlamaModel(config))).to(device).train()
    set_attention_dropout(model, TwoViews().attention_dropout)
    ids_BT = torch.randint(VOCABULARY, (batch, arguments.tokens), device=device)
    text = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}
    if form == "plain":
        views, loss = [text, dict(text)], MultipleNegativesRankingLoss(model, scale=1 / TwoViews().temperature)
    else:
        views, loss = [text], TwoViewsLoss(model, mini_batch_size=arguments.micro_batch)
    before = held_gib(device)
    processor = time.process_time()
    loss(views, None).backward()
    return {"peak_gib": held_gib(device) - before, "processor_seconds": time.process_time() - processor}


def held_gib(device: torch.device) -> float:
    """The most memory held so far."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else peak_memory_gib()


if __name__ == "__main__":
    main()
