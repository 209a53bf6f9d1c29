"""Sweeps over ways to make an embedder out of unlabelled text, within minutes of one lent GPU.

    python studies/gpu_hour.py --data FOLDER --model FILE.gguf --preset sweep --seconds 280 --out OUT

``FOLDER`` is what sweep_data.py wrote. Several processes share the GPU; each takes the next run of the preset's list
until the time is over. Every finished run is one line of ``OUT/PRESET.jsonl``. ``--preset smoke --device cpu`` tries
everything in a minute without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch
import torch.multiprocessing as multiprocessing
from sweep import Lab, Run, Stage, perform, variants

NEAR = {"sentence": 1.0, "parts": 1.0, "neighbour": 1.0}
SMALL = Stage(steps=24, batch=32, lr=5e-4, query_tokens=40, passage_tokens=56)  # six minutes of two AVX2 cores
LARGE = Stage(steps=200, batch=128, lr=3e-4)
GENERAL = Stage(steps=300, batch=128, lr=2e-4)


def on_two_splits(runs: list[Run]) -> list[Run]:
    """Each run on two sets of held-out docstrings, neither the one that the quickstart shows."""
    return [replace(run, name=f"{run.name} /{n}", domain=f"python-docs-{n}", seed=n) for run in runs for n in (1, 2)]


def small() -> list[Run]:
    """Python documentation at a budget of minutes on a CPU."""
    base = Run(name="small", domain="python-docs-1", stages=(SMALL,))
    with_ = {name: 1.0 for name in ("title", "sentence", "parts", "neighbour")}
    return [
        replace(base, name="raw", stages=()),
        base,
        *variants(
            base,
            lr=(2e-4, 1e-3, 2e-3),
            temperature=(0.02, 0.03, 0.1),
            tokens=(0.02, 0.1, 0.3),
            map=("center", "both"),
            both=(False,),
            sources=(
                NEAR,
                *({name: 1.0} for name in with_),
                {"crop": 1.0},
                {**with_, "crop": 1.0},
                {"neighbour": 3.0, "title": 1.0, "sentence": 1.0},
            ),
        ),
        replace(base, name="small top half", top_half=True),
        replace(base, name="small top half 1e-3", top_half=True, stages=(replace(SMALL, lr=1e-3),)),
        replace(base, name="small r 64", r=64),
        replace(base, name="small qv 1e-3", targets="qv", stages=(replace(SMALL, lr=1e-3),)),
        replace(base, name="small 12 x 64", stages=(replace(SMALL, steps=12, batch=64),)),
        replace(base, name="small 12 x 64 1e-3", stages=(replace(SMALL, steps=12, batch=64, lr=1e-3),)),
        replace(base, name="small 48 x 16", stages=(replace(SMALL, steps=48, batch=16),)),
        replace(
            base, name="small 36 x 32 short", stages=(replace(SMALL, steps=36, query_tokens=32, passage_tokens=40),)
        ),
        replace(base, name="small 60 x 32", stages=(replace(SMALL, steps=60),)),
        replace(
            base,
            name="tokens 12, small 16",
            stages=(replace(SMALL, steps=12, pairs=0.0, tokens=1.0), replace(SMALL, steps=16)),
        ),
    ]


def large() -> list[Run]:
    """Python documentation at a budget of minutes on a GPU."""
    base = Run(name="large", domain="python-docs-1", stages=(LARGE,))
    return [
        base,
        *variants(
            base,
            lr=(1e-4, 1e-3),
            temperature=(0.02, 0.1),
            tokens=(0.05, 0.2),
            keep=(1.0,),
            map=("both",),
            steps=(60, 600),
            sources=(NEAR, {"title": 1.0}, {"sentence": 1.0}, {"neighbour": 1.0}, {"parts": 1.0}, {"crop": 1.0}),
        ),
        replace(base, name="large r 64", r=64),
        replace(base, name="large dropout", dropout=0.1),
        replace(base, name="large 100 x 256", stages=(replace(LARGE, steps=100, batch=256),)),
    ]


def general() -> list[Run]:
    """Wikipedia, scored on the ten development tasks."""
    base = Run(name="wiki", domain="wiki", stages=(GENERAL,), general=True, strengths=(1.0, 0.6))
    tokens = replace(GENERAL, pairs=0.0, tokens=1.0, batch=64, steps=500, lr=3e-5)
    return [
        replace(base, name="wiki raw", stages=()),
        base,
        *variants(base, tokens=(0.1,), keep=(1.0,)),
        replace(base, name="wiki tokens 3e-5", stages=(tokens,)),
        *variants(base, lr=(6e-4, 5e-5), temperature=(0.1,)),
        *variants(base, sources=({"title": 1.0}, NEAR, {"crop": 1.0})),
        replace(base, name="wiki tokens 2e-4", stages=(replace(tokens, lr=2e-4, steps=200),)),
        *variants(base, steps=(60,), map=("both",)),
        replace(base, name="wiki tokens then pairs", stages=(replace(tokens, lr=1e-4, steps=200), GENERAL)),
        replace(base, name="wiki keep and tokens", stages=(replace(GENERAL, tokens=0.1, keep=1.0),)),
        replace(base, name="wiki qv", targets="qv"),
    ]


def other_domains() -> list[Run]:
    """The other domains with the numbers of the large runs."""
    base = Run(name="domain", domain="", stages=(replace(LARGE, batch=64),))
    return [
        replace(base, name=f"{name}{' raw' * (not stages)}", domain=name, stages=stages)
        for name in ("biorxiv", "arguana", "foldoc", "wordnet", "wikinews")
        for stages in (base.stages, ())
    ]


def interleaved(*lists: list[Run]) -> list[Run]:
    """One of each in turn, so that whatever the time allows holds some of every kind."""
    return [runs[i] for i in range(max(map(len, lists))) for runs in lists if i < len(runs)]


def presets(name: str) -> list[Run]:
    """The runs of a preset, in the order in which they are taken."""
    if name == "smoke":
        stage = Stage(steps=2, batch=4, tokens=0.1, keep=0.5, map="both", query_tokens=24, passage_tokens=32)
        run = Run(name="smoke", domain="python-docs-1", stages=(stage,), top_half=True, save=True)
        return [run]
    return interleaved(general(), on_two_splits(small()), on_two_splits(large()), other_domains())


def work(number: int, runs: list[Run], counter, lock, options: argparse.Namespace, deadline: float) -> None:
    """Takes runs until none is left or the time is over."""
    from transformers import AutoModel

    if options.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = AutoModel.from_pretrained(options.unpacked, dtype=dtype).to(options.device)
    model.requires_grad_(False)
    lab = Lab(options.data, model, options.device, 30 if options.preset == "smoke" else None)
    while time.monotonic() < deadline:
        with lock:
            index = counter.value
            counter.value += 1
        if index >= len(runs):
            return
        try:
            record = perform(lab, runs[index], options.out)
        except Exception:
            record = {"run": {"name": runs[index].name}, "error": traceback.format_exc()[-1500:]}
            if options.device == "cuda":
                torch.cuda.empty_cache()
            model = AutoModel.from_pretrained(options.unpacked, dtype=dtype).to(options.device)
            model.requires_grad_(False)
            lab.model = model
        with lock, (options.out / f"{options.preset}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
            shown = {
                strength: {
                    "search": {k: round(v, 3) for k, v in result.get("search", {}).items() if "BM25" not in k},
                    "general": {
                        k: {n: round(s, 3) for n, s in v.items() if n not in ("SICK-R",)}.get("macro")
                        for k, v in result.get("general", {}).items()
                    },
                }
                for strength, result in record.get("results", {}).items()
            }
            print(number, runs[index].name, record.get("seconds"), record.get("error", ""), shown, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="the backbone's GGUF file or folder")
    parser.add_argument("--preset", default="sweep")
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    options.unpacked = options.model
    if options.model.suffix == ".gguf":
        from transformers import AutoModelForCausalLM

        options.unpacked = options.out / "backbone"
        model = AutoModelForCausalLM.from_pretrained(options.model.parent, gguf_file=options.model.name)
        model.model.to(torch.bfloat16).save_pretrained(options.unpacked)
    runs = presets(options.preset)
    print(len(runs), "runs; backbone after", round(time.monotonic() - deadline + options.seconds, 1), "s", flush=True)
    context = multiprocessing.get_context("spawn")
    counter, lock = context.Value("i", 0), context.Lock()
    workers = [
        context.Process(target=work, args=(number, runs, counter, lock, options, deadline), daemon=True)
        for number in range(min(options.workers, len(runs)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(1.0, deadline + 45 - time.monotonic()))
    print("done after", round(time.monotonic() - deadline + options.seconds, 1), "s", flush=True)


if __name__ == "__main__":
    main()
