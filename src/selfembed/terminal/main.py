"""The verbs of the command line. Everything that prints is here; everything heavy is imported when a verb runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from selfembed.errors import InputError
from selfembed.terminal import index, search

_DESCRIPTION = "Turn a decoder-only language model into a text embedder, from unlabelled text alone."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0, 1 (doctor: not usable), 2 (input), 130 (interrupted)."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        quiet_libraries()
        return options.run(options)
    except InputError as error:
        print(f"selfembed: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("selfembed: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if "out of memory" not in str(error).lower() and "can't allocate memory" not in str(error).lower():
            raise
        print(f"selfembed: error: {str(error).splitlines()[0]}; try {options.less_memory}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="selfembed", description=_DESCRIPTION)
    less = "--set micro_batch_size=8, --set gradient_checkpointing=true or a smaller --max-length"
    top.set_defaults(less_memory=less)
    verbs = top.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("train", help="train an embedder on a corpus", description="Train an embedder.")
    add_plan_options(verb)
    add_pair_options(verb)
    verb.add_argument("--out", metavar="DIR", help="folder of the finished embedder (needed unless --dry-run)")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done and what it takes; do nothing")
    verb.add_argument("--no-report", action="store_true", help="leave no report.html in the folder")
    verb.set_defaults(run=run_train)

    verb = verbs.add_parser(
        "targets", help="show token targets of a sample of texts", description="Show token targets before training."
    )
    add_plan_options(verb)
    verb.add_argument("--texts", type=int, default=500, metavar="N", help="sample size for the figures (default 500)")
    verb.add_argument("--show", type=int, default=5, metavar="N", help="texts shown with their targets (default 5)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run_targets, pairs=[], instruction=[], dev=None)

    verb = verbs.add_parser(
        "explain", help="show what an embedding says in words", description="Show aligned tokens, raw and trained."
    )
    verb.add_argument("folder", metavar="DIR", help="embedder that selfembed train has made; another one with --model")
    verb.add_argument(
        "texts",
        metavar="TEXT",
        nargs="*",
        help="texts; of two, also why they are similar or not (default: four examples)",
    )
    verb.add_argument(
        "--corpus", nargs="+", metavar="C", help="over texts of a corpus: hits and misses, and the shape of the space"
    )
    verb.add_argument("--sample", type=int, default=300, metavar="N", help="texts of the corpus (default 300)")
    verb.add_argument("--html", metavar="FILE", help="write one self-contained HTML report over the corpus instead")
    verb.add_argument(
        "--scores", nargs="+", default=[], metavar="F", help="what evaluate --json printed, for the report"
    )
    verb.add_argument("--model", help="the backbone it was made from, if it has moved or is not recorded")
    verb.add_argument("-k", type=int, default=10, help="aligned tokens of a text (default 10)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run_explain)

    verb = verbs.add_parser(
        "evaluate",
        help="score an embedder with mteb, or on your own data",
        description="Score an embedder with mteb's own tasks, from the hub or a local folder, or on your own data.",
    )
    verb.add_argument("embedder", metavar="DIR", help="embedder: a folder, or a hub id of sentence-transformers")
    verb.add_argument("--name", help="what to call it in the results (default: the folder's name)")
    add_task_options(verb)
    verb.add_argument("--json", action="store_true", help="print JSON, with all that the scores depend on")
    verb.set_defaults(run=run_evaluate)

    verb = verbs.add_parser(
        "compare",
        help="embedders side by side, with bootstrap intervals",
        description="Score embedders on the same tasks, side by side. The first is what the others are held against; "
        "runs that differ in their seed alone are one column.",
    )
    verb.add_argument(
        "embedders", metavar="A", nargs="+", help="folders, hub ids, or what evaluate --json printed, as *.json"
    )
    add_task_options(verb)
    verb.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default 1000)")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--html", action="store_true", help="print one self-contained HTML page")
    verb.set_defaults(run=run_compare)

    index.add_verb(verbs)
    search.add_verb(verbs)

    verb = verbs.add_parser("doctor", help="examine a backbone", description="Examine a backbone.")
    verb.add_argument("--model", default="embedded", help="hub id, folder, GGUF file or 'embedded' (default)")
    verb.add_argument("--trust-remote-code", action="store_true", help="let the model's own Python code run")
    verb.set_defaults(run=run_doctor)
    return top


def add_plan_options(verb: argparse.ArgumentParser) -> None:
    """What train and targets have in common: model, corpus, recipe."""
    group = verb.add_argument_group("what to train, on what")
    group.add_argument("--model", default="embedded", help="hub id, folder, GGUF file or 'embedded' (default)")
    group.add_argument(
        "--corpus",
        nargs="+",
        action="extend",
        metavar="C",
        help="files and folders (txt, md, rst, jsonl, json, csv, tsv, parquet; .gz and .zst too), a datasets id or "
        "folder, or 'python-docs'; several are joined (needed unless train has --pairs)",
    )
    group.add_argument("--column", help="column of the texts (default: 'text', or the only one of strings)")
    group.add_argument("--split", default="train", help="split of a data set (default train)")
    group.add_argument("--encoding", default="utf-8", help="of text files (default utf-8)")
    group.add_argument(
        "--on-bad", choices=("raise", "skip"), default="raise", help="unreadable text: stop, or count it"
    )
    group.add_argument(
        "--passage-words",
        default=100,
        type=positive_or_none,
        metavar="N",
        help="cut longer texts (default 100; or none)",
    )
    group.add_argument("--limit", type=int, metavar="N", help="read at most N texts")
    group.add_argument(
        "--recipe",
        default="text2token",
        help="text2token (default; the paper's numbers), text2token-small (minutes on two CPU cores), bag-of-tokens, "
        "llm2comp-unsup, llm2comp (with --pairs), llm2vec-unsup, or these three with -small; or stages of several: "
        "'RECIPE.STAGE -> RECIPE.STAGE'",
    )

    group = verb.add_argument_group("numbers of the recipe")
    group.add_argument("--stages", metavar="A,B", help="which stages of the recipe, in which order")
    group.add_argument("--pooling", choices=("last", "mean"))
    group.add_argument("--attention", choices=("causal", "bidirectional"))
    group.add_argument("--prompt", metavar="TEMPLATE", help="with {text} where the text goes")
    for name, kind, meaning in (
        ("steps", int, "optimiser steps, of every stage"),
        ("batch-size", int, "texts per step"),
        ("max-length", int, "tokens of a training input, prompt included"),
        ("learning-rate", float, "peak learning rate"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar="N", help=meaning)
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other number, wherever it occurs or by its path (temperature=1e-2, STAGE.steps=100, lora.r=8)",
    )

    group = verb.add_argument_group("how to run")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the frozen weights"
    )
    group.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    group.add_argument("--tagger", default="auto", help="hanta, or a spaCy pipeline's name or folder")
    group.add_argument("--trust-remote-code", action="store_true", help="let the model's own Python code run")


def add_pair_options(verb: argparse.ArgumentParser) -> None:
    """Labelled examples, for recipes with a stage that reads them."""
    group = verb.add_argument_group("labelled pairs, for recipes with a stage that reads them (llm2comp)")
    group.add_argument(
        "--pairs",
        nargs="+",
        action="extend",
        default=[],
        metavar="P",
        help="files (jsonl, json, csv, tsv, parquet), folders that datasets saved, or datasets ids (ID or ID:CONFIG); "
        "columns query (or anchor, question), positive (or answer, pos) and perhaps negative, negative_1, ...; "
        "without --corpus the positives are the corpus",
    )
    group.add_argument(
        "--instruction",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="said before the queries of a set, which is named as its file without suffix, or as the id after its /",
    )
    group.add_argument(
        "--dev",
        metavar="FILE",
        help="pairs that decide when to stop and which step is kept; has its own --instruction",
    )


def add_task_options(verb: argparse.ArgumentParser) -> None:
    """On what embedders are scored."""
    group = verb.add_argument_group("mteb's tasks")
    group.add_argument("--benchmark", metavar="NAME", help='one of mteb\'s, e.g. "MTEB(eng, v2)"')
    group.add_argument(
        "--tasks", nargs="+", action="extend", metavar="TASK", help="tasks by name; with a benchmark, some of its own"
    )
    group.add_argument("--data", metavar="FOLDER", help="local data, a sub-folder a task (default: from the hub)")

    group = verb.add_argument_group("your own data (jsonl, json, csv, tsv, parquet)")
    for name, meaning in (
        ("sts", "text1, text2, score"),
        ("pairs", "text1, text2, label (1: they mean the same)"),
        ("classification", "text, label"),
        ("clustering", "text, label"),
        ("reranking", "query, positive, negative"),
    ):
        group.add_argument(f"--{name}", action="append", default=[], metavar="FILE", help=f"columns {meaning}")
    group.add_argument(
        "--retrieval",
        action="append",
        default=[],
        metavar="PATH",
        help="file with the columns query, document, relevance; or folder with corpus, queries and qrels, as in BEIR",
    )
    group.add_argument(
        "--self-retrieval",
        nargs="+",
        action="extend",
        metavar="C",
        help="no labels: in a corpus, a text's title (column title, beside text) or first sentence finds the rest",
    )

    group = verb.add_argument_group("how to run")
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts per forward pass (default 32)")
    group.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    group.add_argument("--no-cache", action="store_true", help="encode everything anew, keep no vectors")
    verb.set_defaults(less_memory="a smaller --batch-size")


def positive_or_none(value: str) -> int | None:
    return None if value.lower() == "none" else int(value)


def quiet_libraries() -> None:
    """Keeps the libraries' own bars and notes off the screen; ours say what is needed."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import logging
    import warnings

    import datasets
    import transformers

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

    for logger in ("datasets.packaged_modules", "sentence_transformers.base.sampler"):  # we say it in one line
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


class Bars:
    """Progress bars on standard error, one task after the other; what follows a comma in a task's name may change."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task = ""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        from tqdm import tqdm

        name, _, note = task.partition(", ")
        if name != self.task:
            self.close()
            self.task = name
            self.bar = tqdm(total=total, desc=name, leave=True, dynamic_ncols=True)
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar, self.task = None, ""


def plan_of(options: argparse.Namespace, progress: Bars) -> Any:
    """The plan that a command line asks for."""
    from selfembed.data.corpus import Corpus
    from selfembed.recipes import choose_stages, find_recipe
    from selfembed.training.plan import make_plan

    settings: dict[str, Any] = {}
    for name in ("pooling", "attention", "prompt", "steps", "batch_size", "max_length", "learning_rate"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    for item in options.set:
        name, value = named_value("--set", item, "temperature=1e-2")
        settings[name] = value
    instructions = dict(
        named_value("--instruction", item, "'nli=Retrieve entailed sentences'") for item in options.instruction
    )
    recipe = find_recipe(options.recipe)
    if options.stages:
        recipe = choose_stages(recipe, [name.strip() for name in options.stages.split(",")])
    if not options.corpus and not options.pairs:
        raise InputError("--corpus: missing; name texts to train on, or labelled pairs (--pairs) for llm2comp")
    corpus = options.corpus and Corpus(
        options.corpus,
        column=options.column,
        split=options.split,
        passage_words=options.passage_words,
        encoding=options.encoding,
        on_bad=options.on_bad,
        limit=options.limit,
        progress=lambda texts: progress("reading the corpus", texts, None),
    )
    try:
        plan = make_plan(
            options.model,
            corpus,
            recipe,
            pairs=options.pairs,
            dev=options.dev,
            instructions=instructions,
            settings=settings,
            seed=options.seed,
            dtype=options.dtype,
            device=options.device,
            tagger=options.tagger,
            trust_remote_code=options.trust_remote_code,
        )
    finally:
        progress.close()
    for reason, count in plan.corpus.report.skipped.items():
        print(f"left out: {count:,} x {reason}", file=sys.stderr)
    return plan


def named_value(option: str, item: str, example: str) -> tuple[str, str]:
    """Name and value of an option like ``NAME=VALUE``."""
    name, equals, value = item.partition("=")
    if not equals:
        raise InputError(f"{option} {item}: expected NAME=VALUE, e.g. {option} {example}")
    return name.strip(), value.strip()


def run_train(options: argparse.Namespace) -> int:
    from selfembed.training.run import require_new, run_plan

    if not options.dry_run and not options.out:
        raise InputError("--out: missing; name the folder of the finished embedder, or give --dry-run")
    if not options.dry_run:
        require_new(options_out(options))
    progress = Bars()
    plan = plan_of(options, progress)
    if options.dry_run:
        print_plan(plan)
        return 0
    try:
        run_plan(plan, options.out, progress=progress)
    finally:
        progress.close()
    record = json.loads((options_out(options) / "selfembed.json").read_text())
    for stage in record["stages"]:
        losses = [entry["loss"] for entry in stage["loss_curve"]]
        tenth = max(1, len(losses) // 10)
        print(
            f"{stage['name']}: {stage['texts']:,} texts, loss {sum(losses[:tenth]) / tenth:.3f} -> "
            f"{sum(losses[-tenth:]) / tenth:.3f}, {stage['training_seconds']:.0f} s"
            + (f", {stage['texts_without_target']} texts had no target" if stage.get("texts_without_target") else "")
            + (f", {stage['texts_too_short']} texts were too short to split" if stage.get("texts_too_short") else "")
            + (f", {stage['negatives_filled_in']:,} negatives filled in" if stage.get("negatives_filled_in") else "")
        )
        if "dev" in stage:
            dev, best = stage["dev"], stage["dev"]["best_step"]
            scores = {entry["step"]: entry["score"] for entry in dev["curve"]}
            print(f"{stage['name']}: dev {dev['metric']} {scores[0]:.3f} -> {scores[best]:.3f} at step {best}, kept")
    print(f"embedder: {options.out} (peak memory {record['peak_memory_gib']:.1f} GiB)")
    if not options.no_report:
        leave_report(options_out(options), plan.corpus, tagger=plan.tagger, model=options.model)
    print(f'next: selfembed explain {options.out} "some text"')
    return 0


def leave_report(folder: Any, corpus: Any, **options: Any) -> None:
    """Writes the report of a finished embedder into its folder; whatever goes wrong is one line, and costs only it."""
    progress = Bars()
    try:
        import torch

        from selfembed.explanation.report import REPORT, REPORT_TOKENS, build_report, write_report

        tokens = None if torch.cuda.is_available() else REPORT_TOKENS
        html = build_report(folder, corpus, tokens=tokens, progress=progress, **options)
        write_report(folder / REPORT, html)
    except (Exception, KeyboardInterrupt) as error:
        progress.close()
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        print(
            f"selfembed: no report: {reason}; the embedder is complete; "
            f"write one with selfembed explain {folder} --corpus C --html FILE",
            file=sys.stderr,
        )
    else:
        progress.close()
        print(f"report: {folder / REPORT}")


def options_out(options: argparse.Namespace) -> Any:
    from pathlib import Path

    return Path(options.out)


def print_plan(plan: Any) -> None:
    """The resolved recipe and what it would take."""
    from selfembed.training.estimate import estimate

    guess = estimate(plan)
    print(json.dumps(plan.to_dict(), indent=2, ensure_ascii=False))
    print(f"corpus: {guess.corpus_texts:,} texts, about {guess.corpus_tokens:,} tokens")
    for stage in guess.stages:
        print(
            f"{stage.name}: {stage.texts:,} texts, about {stage.tokens:,} tokens with the prompt, "
            f"about {stage.seconds / 60:.1f} min"
        )
    print(f"in all: about {guess.seconds / 60:.1f} min and {guess.memory_gib:.1f} GiB on {plan.device}")
    print("nothing was trained")


def run_targets(options: argparse.Namespace) -> int:
    from selfembed.explanation.target_preview import preview

    progress = Bars()
    plan = plan_of(options, progress)
    try:
        views = preview(plan, texts=options.texts, show=options.show, progress=progress)
    finally:
        progress.close()
    if options.json:
        print(json.dumps([view.to_dict() for view in views], indent=2, ensure_ascii=False))
        return 0
    for view in views:
        print(f"\n== {view.stage} ==")
        for line in view.lines():
            print(line)
    return 0


def run_explain(options: argparse.Namespace) -> int:
    from selfembed.explanation.aligned_tokens import EXAMPLES, aligned_tokens, load_explained
    from selfembed.explanation.memory_tokens import explain_memory
    from selfembed.explanation.similarity import explain_similarity
    from selfembed.ground.page import shorten

    if options.k < 1:
        raise InputError(f"-k {options.k}: expected at least 1")
    if not options.texts and not options.corpus:
        options.texts = list(EXAMPLES)
    if any(not text.strip() for text in options.texts):
        raise InputError("text: empty; expected at least one word")
    if options.html:
        return run_report(options)
    if options.scores:
        raise InputError("--scores: belongs to a report; give --html FILE too")
    explained = load_explained(options.folder, model=options.model)
    space = explain_corpus(options, explained) if options.corpus else None
    columns = {
        name: aligned_tokens(model, explained.head, explained.tokenizer, options.texts, k=options.k)
        for name, model in (("raw", explained.raw), ("trained", explained.embedder))
        if options.texts
    }
    memory = explain_memory(explained.embedder, explained.head, explained.tokenizer, options.texts, k=options.k)
    pair = None
    if len(options.texts) == 2:
        pair = explain_similarity(explained.embedder, explained.head, explained.tokenizer, *options.texts, k=options.k)
    if options.json:
        rows = [
            {
                "text": text,
                **{name: [vars(token) for token in column[i]] for name, column in columns.items()},
                **({"memory": memory[i].to_dict()["memory"]} if memory else {}),
            }
            for i, text in enumerate(options.texts)
        ]
        found: dict[str, Any] = {"texts": rows}
        if pair is not None:
            found["similarity"] = pair.to_dict()
        if space is not None:
            found |= {name: change.to_dict() for name, change in space.items()}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for i, text in enumerate(options.texts):
        print(shorten(text))
        for line in aligned_table(columns["raw"][i], columns["trained"][i]):
            print(line)
        if memory:
            print("\n".join(memory[i].lines()))
        print()
    if options.texts:
        print("* occurs in the text, case and leading space aside")
    if pair is not None:
        print("\nWhy the embedder finds these two alike, or not:")
        print("\n".join(pair.lines()))
    for change in (space or {}).values():
        print("\n" + "\n".join(change.lines()))
    return 0


def run_report(options: argparse.Namespace) -> int:
    """The report of a finished embedder, as a file."""
    from selfembed.data.corpus import Corpus
    from selfembed.explanation.report import build_report, write_report

    if not options.corpus or options.texts or options.json:
        raise InputError("--html: takes its texts from a corpus; give --corpus, and neither texts nor --json")
    progress = Bars()
    try:
        html = build_report(
            options.folder,
            Corpus(options.corpus),
            texts=options.sample,
            model=options.model,
            scores=options.scores,
            k=options.k,
            progress=progress,
        )
    finally:
        progress.close()
    write_report(options.html, html)
    print(f"report: {options.html}")
    return 0


def explain_corpus(options: argparse.Namespace, explained: Any) -> dict[str, Any]:
    """Hits and misses and the shape of the space, raw and trained, over a seeded sample of a corpus."""
    from selfembed.data.corpus import Corpus
    from selfembed.explanation.reading import read_texts, sample_texts

    progress = Bars()
    try:
        reading = read_texts(
            explained, sample_texts(Corpus(options.corpus), options.sample), k=options.k, progress=progress
        )
    finally:
        progress.close()
    return {"hit_miss": reading.hits, "spectrum": reading.space}


def aligned_table(raw: list[Any], trained: list[Any]) -> list[str]:
    """Two columns of aligned tokens as text."""
    lines = [f"  {'raw backbone':<32}embedder"]
    for left, right in zip(raw, trained, strict=True):
        cells = [
            f"{token.probability:6.1%} {'*' if token.in_text else ' '} {token.token!r}" for token in (left, right)
        ]
        lines.append(f"  {cells[0]:<32}{cells[1]:<32}".rstrip())
    return lines


def run_evaluate(options: argparse.Namespace) -> int:
    from selfembed.evaluation.run import evaluate

    progress = Bars()
    try:
        scores = evaluate(options.embedder, name=options.name, progress=progress, **task_choice(options))
    finally:
        progress.close()
    if options.json:
        print(json.dumps(scores.to_dict(), indent=2, ensure_ascii=False))
        return 0
    settings = scores.settings
    print(
        f"{scores.embedder}: pooling {settings['pooling']}, {settings['attention']}, at most {settings['max_length']} "
        f"tokens, {settings['dtype']} on {settings['device']}, batch {settings['batch_size']}"
    )
    print("\n".join(scores.lines()))
    return 0


def run_compare(options: argparse.Namespace) -> int:
    from selfembed.evaluation.compare import compare

    progress = Bars()
    try:
        found = compare(options.embedders, resamples=options.resamples, progress=progress, **task_choice(options))
    finally:
        progress.close()
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    elif options.markdown:
        print(found.markdown())
    elif options.html:
        print(found.html())
    else:
        print("\n".join(found.lines()))
    return 0


def task_choice(options: argparse.Namespace) -> dict[str, Any]:
    """What a command line says of tasks, as `evaluate` takes it."""
    from selfembed.evaluation import own_data
    from selfembed.evaluation.self_retrieval import self_retrieval_task, titled_texts

    own = [
        make(path)
        for make, paths in (
            (own_data.sts_task, options.sts),
            (own_data.pair_task, options.pairs),
            (own_data.classification_task, options.classification),
            (own_data.clustering_task, options.clustering),
            (own_data.reranking_task, options.reranking),
            (own_data.retrieval_task, options.retrieval),
        )
        for path in paths
    ]
    if options.self_retrieval:
        own.append(self_retrieval_task(titled_texts(options.self_retrieval)))
    return {
        "benchmark": options.benchmark,
        "tasks": options.tasks,
        "data": options.data,
        "own": own,
        "batch_size": options.batch_size,
        "device": options.device,
        "cache": not options.no_cache,
    }


def run_doctor(options: argparse.Namespace) -> int:
    from selfembed.doctor import examine

    diagnosis = examine(options.model, trust_remote_code=options.trust_remote_code)
    for topic, finding, good in diagnosis.findings:
        print(f"{'ok  ' if good else 'note'} {topic}: {finding}")
    print(diagnosis.verdict)
    return 0 if diagnosis.usable else 1
