"""Data-driven targets on one core: words per CPU second, and how far memory grows from N texts to 4 N.

Token statistics and targets of the corpus's first texts, each size in a process of its own. Prints one JSON object a
line; exit status 1 when it is too slow or takes too much memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with wiki/passages.parquet")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--tagger", default="auto")
    parser.add_argument("--texts", type=int, default=5000, help="N")
    parser.add_argument("--least-words-per-second", type=float, default=20_000)
    parser.add_argument("--most-kib-per-text", type=float, default=8, help="of growth between N and 4 N")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)  # one size, in this process
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments, arguments.measure)))
        return
    small, large = (measured_apart(size) for size in (arguments.texts, 4 * arguments.texts))
    kib = (large["growth_mib"] - small["growth_mib"]) * 1024 / (3 * arguments.texts)
    slow = large["words_per_cpu_second"] < arguments.least_words_per_second
    print(json.dumps(small))
    print(json.dumps(large))
    limits = {
        "least_words_per_cpu_second": arguments.least_words_per_second,
        "most_growth_kib_per_text": arguments.most_kib_per_text,
    }
    print(json.dumps({"growth_kib_per_text": round(kib, 2), "limits": limits}))
    sys.exit(int(slow or kib > arguments.most_kib_per_text))


def measured_apart(texts: int) -> dict[str, float]:
    """One size, measured in a process of its own, on one core."""
    single = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    command = [sys.executable, *sys.argv, "--measure", str(texts)]
    environment = {**os.environ, **single, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace, size: int) -> dict[str, float | str]:
    """CPU time and growth of the peak of resident memory of one build."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from selfembed.data.corpus import Corpus
    from selfembed.ground.environment import peak_memory_gib
    from selfembed.model.backbone import load_backbone
    from selfembed.objectives.data_driven import DataDriven
    from selfembed.targets.data_driven import TokenStatistics, build_targets
    from selfembed.targets.tagger import Tagger, load_tagger

    backbone, options = load_backbone(arguments.model), DataDriven()
    corpus = Corpus(arguments.data / "wiki" / "passages.parquet", limit=size)
    texts = corpus.texts()

    def build(count: int, tagger: Tagger) -> int:
        def stream():
            return (text for batch in texts.select(range(count)).iter(1000) for text in batch["text"])

        statistics = TokenStatistics.collect(stream(), backbone.tokenizer, options, backbone.vocab_size)
        return len(build_targets(stream(), backbone.tokenizer, tagger, statistics, options, backbone.vocab_size))

    # First what is loaded once and the working memory of a batch; then with a tagger that has seen no word yet.
    build(min(1000, len(texts)), load_tagger(arguments.tagger))
    tagger = load_tagger(arguments.tagger)
    memory, started = peak_memory_gib(), time.process_time()
    build(len(texts), tagger)
    seconds = time.process_time() - started
    return {
        "texts": len(texts),
        "words": corpus.report.words,
        "tagger": tagger.name,
        "cpu_seconds": round(seconds, 2),
        "words_per_cpu_second": round(corpus.report.words / seconds),
        "growth_mib": round((peak_memory_gib() - memory) * 1024, 1),
    }


if __name__ == "__main__":
    main()
