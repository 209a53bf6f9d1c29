"""`selfembed train`: an embedder from a model and texts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfembed.errors import InputError
from selfembed.ground.extras import missing_package
from selfembed.ground.progress import Bars
from selfembed.terminal.plan_options import add_pair_options, add_plan_options, plan_of

if TYPE_CHECKING:
    from selfembed.model.folder import StageRecord
    from selfembed.training.plan import Plan


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser("train", help="train an embedder on a corpus", description="Train an embedder.")
    add_plan_options(verb)
    add_pair_options(verb)
    verb.add_argument(
        "--writer",
        metavar="MODEL",
        help="language model that writes search queries, one more source of pairs (--set written=1, its weight), for "
        "recipes that cut pairs out of texts; --set written=1 alone: the model that is trained",
    )
    verb.add_argument("--out", metavar="DIR", help="folder of the finished embedder (needed unless --dry-run)")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done and what it takes; do nothing")
    last = verb.add_mutually_exclusive_group()
    last.add_argument(
        "--calibrate",
        action="store_true",
        default=None,
        help="end with an affine map behind the pooling, chosen on the corpus, whatever the recipe",
    )
    last.add_argument("--no-calibrate", dest="calibrate", action="store_false", help="leave that map out")
    verb.add_argument("--no-report", action="store_true", help="leave no report.html in the folder")
    verb.set_defaults(run=run, verb=verb)


def run(options: argparse.Namespace) -> int:
    """Trains, or says what it would take."""
    from selfembed.ground.files import require_new
    from selfembed.model.folder import RunRecord
    from selfembed.model.ready_embedder import is_ready
    from selfembed.training.run import run_plan

    if not options.dry_run and not options.out:
        raise InputError("--out: missing; name the folder of the finished embedder, or give --dry-run")
    if options.dry_run:
        with Bars() as progress:
            plan = plan_of(options, progress)
        print_plan(plan)
        return 0
    out = Path(options.out)
    require_new(out)
    if not options.no_report and is_ready(options.model):
        print("selfembed: no report will be left: it shows words, which only a decoder layer reads", file=sys.stderr)
        options.no_report = True
    if not options.no_report and (package := missing_package("explain")) is not None:
        print(
            f'selfembed: no report will be left: package {package} is not installed; pip install "selfembed[explain]"',
            file=sys.stderr,
        )
        options.no_report = True
    with Bars() as progress:
        plan = plan_of(options, progress)
        run_plan(plan, out, progress=progress)
    record = RunRecord.of_folder(out)
    assert record is not None  # it was written a moment ago
    for stage in record.stages:
        print_stage(stage)
    if record.self_retrieval is not None:
        print_judgement(record.self_retrieval, adapted=record.adapted)
    print(f"embedder: {options.out} (peak memory {record.peak_memory_gib:.1f} GiB)")
    if not options.no_report:
        print_report(out, plan, options.model)
    if record.adapted:
        print(f"next: selfembed index {options.out} --corpus C --out my-index")
    else:
        print(f'next: selfembed explain {options.out} "some text"')
    return 0


def print_stage(stage: StageRecord) -> None:
    """Prints how a stage went, in a few lines."""
    notes = stage.notes
    parts = [notes, *notes.get("parts", {}).values()]  # of a mixture
    counts = [
        f", {count:,} {words}"
        for name, words in (
            ("texts_without_target", "texts had no target"),
            ("texts_too_short", "texts were too short"),
            ("negatives_filled_in", "negatives filled in"),
        )
        if (count := sum(part.get(name, 0) for part in parts))
    ]
    print(
        f"{stage.name}: {stage.texts:,} texts, loss {went(stage.losses)}, {stage.training_seconds:.0f} s"
        + "".join(counts)
    )
    for written in (part["written"] for part in parts if "written" in part):
        share = written["kept"] / max(1, written["asked"])
        print(
            f"{stage.name}: {written['writer']} wrote for {written['asked']:,} passages, and {written['kept']:,} "
            f"queries ({share:.0%}) find theirs"
        )
    for mined in (part["negatives"]["pairs_by_number_found"] for part in parts if "negatives" in part):
        shown = ", ".join(f"{count:,} pairs with {number}" for number, count in mined.items())
        print(f"{stage.name}: hard negatives: {shown}")
    for part in stage.parts:
        print(f"{stage.name}, of it {part}: loss {went(stage.losses_of(part))}")
    if "dev" in notes:
        dev, best = notes["dev"], notes["dev"]["best_step"]
        scores = {entry["step"]: entry["score"] for entry in dev["curve"]}
        print(f"{stage.name}: dev {dev['metric']} {scores[0]:.3f} -> {scores[best]:.3f} at step {best}, kept")


def went(losses: list[float]) -> str:
    """Shows the mean of the first tenth of the losses, and of the last."""
    tenth = max(1, len(losses) // 10)
    return f"{sum(losses[:tenth]) / tenth:.3f} -> {sum(losses[-tenth:]) / tenth:.3f}"


def print_judgement(judged: dict[str, Any], *, adapted: bool = False) -> None:
    """Prints what training was worth on the corpus itself, and what is shipped.

    Args:
        judged: What the record of the run says of it.
        adapted: Whether a ready embedder was trained.
    """
    scores = {name: judged[name]["self_retrieval_ndcg@10"] for name in ("raw", "trained")}
    maps = {name: judged[name]["chosen"] for name in scores}
    print(
        f"nDCG@10 of {judged['trained']['pairs']} titles and sentences that seek the rest of their text"
        f"{'' if judged['unseen'] else ' (which training has read)'}:"
    )
    without_maps = all(len(tried) == 1 for tried in scores.values())
    for name in scores:
        calibrated = "" if without_maps else f", calibrated {scores[name][maps[name]]:.3f} ({maps[name]})"
        shown = "before" if adapted and name == "raw" else name
        print(f"  {shown:8} {scores[name]['as it is']:.3f}{calibrated}")
    if looks := judged.get("looks"):
        count, last = len(looks["curve"]), looks["curve"][-1]["step"]
        stopped = f"; training stopped at step {last}, as nothing better came" if looks["stopped_early"] else ""
        print(f"trained is the best of {count} looks, at step {looks['best_step']} of {looks['steps']}{stopped}")
    if judged["shipped"] == "raw" and adapted:
        print(
            "training found no more than the embedder did before, so it is shipped as it was; "
            "more text, more steps or a lower learning rate may change that"
        )
    elif judged["shipped"] == "raw":
        print(
            "training found no more than the raw backbone does, so the raw backbone is shipped"
            f"{'' if without_maps else ', calibrated'}; "
            "more text, more steps or a lower learning rate may change that"
        )


def print_report(out: Path, plan: Plan, model: str) -> None:
    """Leaves the report in the folder of a finished embedder, or says in one line why not."""
    from selfembed.explanation.report.write import REPORT, leave_report

    with Bars() as progress:
        reason = leave_report(out, plan.corpus, model=model, tagger=plan.tagger, progress=progress)
    if reason is None:
        print(f"report: {out / REPORT}")
    else:
        print(
            f"selfembed: no report: {reason}; the embedder is complete; "
            f"write one with selfembed explain {out} --corpus C --html FILE",
            file=sys.stderr,
        )


def print_plan(plan: Plan) -> None:
    """Prints the resolved recipe and what it would take."""
    from selfembed.training.estimate import estimate

    guess = estimate(plan)
    print(json.dumps(plan.to_dict(), indent=2, ensure_ascii=False))
    print(f"corpus: {guess.corpus_texts:,} texts, about {guess.corpus_tokens:,} tokens")
    for stage in guess.stages:
        print(
            f"{stage.name}: {stage.texts:,} texts, about {stage.tokens:,} tokens with the prompt, "
            f"about {stage.seconds / 60:.1f} min"
        )
    if guess.judging_seconds:
        looks = len(plan.recipe.look_steps)
        print(
            f"self-retrieval: {plan.recipe.calibration_pairs:,} pairs, read before training and "
            f"{looks} time{'s' if looks > 1 else ''} since, about {guess.judging_seconds / 60:.1f} min"
        )
    print(f"in all: about {guess.seconds / 60:.1f} min and {guess.memory_gib:.1f} GiB on {plan.device}")
    print("nothing was trained")
