"""A training step in forward passes of the same batch: stage I (stored targets) and stage II (targets in the step).

The forward pass is the raw backbone's as sentence-transformers runs it, in eval mode and without gradient; the steps
are set up as in training. Prints one JSON object a line; exit status 1
when a ratio is over its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from selfembed.ground.environment import environment
from selfembed.losses.token_target import OnlineModelDerivedLoss, TokenTargetLoss
from selfembed.model.adapter import adapter_parameters, add_trainable_adapter
from selfembed.model.backbone import EMBEDDED, best_dtype, load_backbone
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.model.lora import Lora
from selfembed.objectives.model_derived import ModelDerived
from selfembed.targets.token_targets import TokenTargets
from selfembed.training.stage import train_fast_on_cpu

LIMITS = {"stage I": 2.5, "stage II": 3.5}
TARGET_TOKENS = 40  # of a data-driven target, about what a passage of 100 words has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=75, help="of each text, prompt included")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    runs, dtype = prepare(arguments)
    for run in runs.values():  # warm up
        timed(run, arguments.device)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run, arguments.device))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    batch = f"{arguments.batch_size} x {arguments.tokens} tokens"
    print(json.dumps({"model": arguments.model, "batch": batch, "dtype": dtype, "environment": environment()}))
    print(json.dumps({"run": "forward", "median_seconds": round(medians["forward"], 4)}))
    over = False
    for name, limit in LIMITS.items():
        ratio = medians[name] / medians["forward"]
        over |= ratio > limit
        line = {"run": name, "median_seconds": round(medians[name], 4), "forwards": round(ratio, 3), "limit": limit}
        print(json.dumps(line))
    sys.exit(int(over))


def prepare(arguments: argparse.Namespace) -> tuple[dict[str, Callable[[], None]], str]:
    """What is timed, all on one model and one batch, and the dtype of the frozen weights."""
    backbone = load_backbone(arguments.model)
    dtype = best_dtype(arguments.device)
    embedder = build_embedder(
        backbone, EmbedderConfig(), max_length=arguments.tokens, dtype=dtype, device=arguments.device
    )
    add_trainable_adapter(embedder, Lora())
    train_fast_on_cpu(embedder, arguments.device, arguments.tokens)
    raw = build_embedder(backbone, EmbedderConfig(), max_length=arguments.tokens, dtype=dtype, device=arguments.device)
    head = backbone.head().to(arguments.device)
    # Each text is longer than the batch is wide, so that all are cut to the same length.
    texts = [f"Text {i} of the batch: " + "the harbour of the old town " * 200 for i in range(arguments.batch_size)]
    features = {
        name: value.to(arguments.device) if isinstance(value, torch.Tensor) else value
        for name, value in embedder.preprocess(texts).items()
    }
    if features["input_ids"].shape != (arguments.batch_size, arguments.tokens):
        raise RuntimeError(f"the batch is {tuple(features['input_ids'].shape)}")
    labels_B = torch.arange(arguments.batch_size, device=arguments.device)
    losses = {
        "stage I": TokenTargetLoss(embedder, head, random_targets(arguments.batch_size, backbone.vocab_size)),
        "stage II": OnlineModelDerivedLoss(embedder, head, ModelDerived(common="online")),
    }
    optimizer = torch.optim.AdamW(adapter_parameters(embedder), lr=3e-5)

    def forward() -> None:
        with torch.no_grad():
            raw(dict(features))

    def step(loss: nn.Module) -> None:
        embedder.train()
        optimizer.zero_grad()
        loss([dict(features)], labels_B).backward()
        nn.utils.clip_grad_norm_(adapter_parameters(embedder), 1.0)
        optimizer.step()

    runs = {"forward": forward, **{name: lambda loss=loss: step(loss) for name, loss in losses.items()}}
    return runs, str(dtype).removeprefix("torch.")


def random_targets(count: int, vocab_size: int) -> TokenTargets:
    """Targets of the size that data-driven ones have."""
    random = np.random.default_rng(0)
    size = min(TARGET_TOKENS, vocab_size)
    rows = [(random.choice(vocab_size, size, replace=False), random.dirichlet(np.ones(size))) for _ in range(count)]
    return TokenTargets.from_rows(rows, vocab_size=vocab_size)


def timed(run: Callable[[], None], device: str) -> float:
    """Wall seconds of one run."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
