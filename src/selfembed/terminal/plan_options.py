"""The options that say what to train on what, and the plan that they make."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from selfembed.errors import InputError
from selfembed.ground.progress import Bars

if TYPE_CHECKING:
    from selfembed.training.plan import Plan

_LESS_MEMORY = "--set micro_batch_size=8, --set gradient_checkpointing=true or a smaller --max-length"


def add_plan_options(verb: argparse.ArgumentParser, *, recipe: str | None = None) -> None:
    """Adds the options that train and targets have in common: model, corpus, recipe."""
    verb.set_defaults(less_memory=_LESS_MEMORY)
    group = verb.add_argument_group("what to train, on what")
    group.add_argument(
        "--model",
        default="embedded",
        help="hub id, folder, GGUF file or 'embedded' (default); or a sentence-transformers folder, to adapt it",
    )
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
        default=recipe,
        help="selfembed (ours), text2token (the paper's numbers), llm2comp-unsup, llm2comp (with --pairs), "
        "llm2vec-unsup, each also with -small (minutes on two CPU cores), or bag-of-tokens; adapt, for a "
        "sentence-transformers folder; or stages of several, one "
        "after the other, 'RECIPE.STAGE -> RECIPE.STAGE', or mixed in one, 'RECIPE.STAGE + RECIPE.STAGE*0.5' "
        f"(default {recipe or 'selfembed, or adapt'})",
    )

    group = verb.add_argument_group("numbers of the recipe")
    group.add_argument("--stages", metavar="A,B", help="which stages of the recipe, in which order")
    group.add_argument("--pooling", choices=("last", "mean", "weightedmean", "mean+last", "memory"))
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
    group.add_argument(
        "--saved-dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="of the folder's weights on disk (default auto: float16 below 2 billion parameters, computed in float32)",
    )
    group.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    group.add_argument("--tagger", default="auto", help="hanta, or a spaCy pipeline's name or folder")
    group.add_argument(
        "--language",
        nargs="+",
        action="extend",
        metavar="CODE",
        help="of the texts, for the model card: en, de, multilingual (default: the tagger's, or none)",
    )
    group.add_argument("--trust-remote-code", action="store_true", help="let the model's own Python code run")


def add_pair_options(verb: argparse.ArgumentParser) -> None:
    """Adds the options for labelled examples, which some recipes have a stage for."""
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


def positive_or_none(value: str) -> int | None:
    """Reads a whole number, or `none`; that it is positive is checked by whoever takes it."""
    return None if value.lower() == "none" else int(value)


def plan_of(options: argparse.Namespace, progress: Bars) -> Plan:
    """Makes the plan that a command line asks for, and prints what was left out of the corpus."""
    from selfembed.data.corpus import Corpus
    from selfembed.recipes import choose_stages, find_recipe
    from selfembed.recipes.override import setting_names
    from selfembed.training.plan import default_recipe, make_plan

    writer = getattr(options, "writer", None)
    settings: dict[str, Any] = {} if writer is None else {"writer": writer, "written": 1}
    for name in ("pooling", "attention", "prompt", "steps", "batch_size", "max_length", "learning_rate"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    for item in options.set:
        name, value = named_value("--set", item, "temperature=1e-2")
        settings[name] = value
    instructions = dict(
        named_value("--instruction", item, "'nli=Retrieve entailed sentences'") for item in options.instruction
    )
    recipe = find_recipe(options.recipe or default_recipe(options.model))
    if options.stages:
        recipe = choose_stages(recipe, [name.strip() for name in options.stages.split(",")])
    if writer is not None and "writer" not in setting_names(recipe):
        raise InputError(
            f"--writer {writer}: recipe {recipe.name} has no stage that reads written queries; expected one that cuts "
            "pairs out of texts, as selfembed and adapt do; leave it out"
        )
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
            language=options.language,
            saved_dtype=options.saved_dtype,
            calibrate=getattr(options, "calibrate", None),
        )
    finally:
        progress.close()
    for reason, count in plan.corpus.report.skipped.items():
        print(f"left out: {count:,} x {reason}", file=sys.stderr)
    return plan


def named_value(option: str, item: str, example: str) -> tuple[str, str]:
    """Splits what was given to an option like `NAME=VALUE`."""
    name, equals, value = item.partition("=")
    if not equals:
        raise InputError(f"{option} {item}: expected NAME=VALUE, e.g. {option} {example}")
    return name.strip(), value.strip()
