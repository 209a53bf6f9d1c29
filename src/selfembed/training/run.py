"""Runs a recipe's stages on a corpus, goes on where it was interrupted, and leaves one finished embedder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from selfembed.errors import InputError, TrainingDiverged
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.ground.files import require_new, writing
from selfembed.ground.progress import Progress, silent
from selfembed.model.attention import require_attention
from selfembed.model.backbone import EMBEDDED
from selfembed.model.folder import RunRecord, StageRecord
from selfembed.model.origin import origin_of
from selfembed.recipes import Recipe
from selfembed.training.adapted import export_adapted
from selfembed.training.export import export_embedder
from selfembed.training.judgement import Judge, make_raw, shipped_weights
from selfembed.training.output import RAW_VECTORS, open_work_folder, remove_work_folder, removed_unless_resumable
from selfembed.training.plan import Plan, make_plan
from selfembed.training.stage import run_stages


def train(
    model: str | Path = EMBEDDED,
    corpus: str | Path | Iterable[str] | None = None,
    recipe: str | Recipe | None = None,
    *,
    out: str | Path,
    pairs: Any = None,
    dev: Any = None,
    instructions: Mapping[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    tagger: str = "auto",
    trust_remote_code: bool = False,
    language: str | Sequence[str] | None = None,
    saved_dtype: str = "auto",
    calibrate: bool | None = None,
    progress: Progress = silent,
) -> SentenceTransformer:
    """Turns a language model into a text embedder, or adapts one, from unlabelled text or pairs, and leaves a folder.

    Interrupted and called again with the same arguments, it goes on from the last checkpoint, which it keeps in
    `<out>.partial`, and ends in the same weights.

    Args:
        model: Hub id, folder or GGUF file of the language model, or `"embedded"`; or hub id or folder of a ready
            embedder of sentence-transformers, decoder or encoder, which is adapted and keeps its modules and prompts.
        corpus: Files, folders, a `datasets` id or folder, several of them, `"python-docs"`, any iterable of
            strings, or a :class:`~selfembed.data.corpus.Corpus`; None: the positives of the pairs, or
            `"python-docs"` where there are none.
        recipe: A recipe, or its name as :func:`selfembed.recipes.find_recipe` takes it; None takes `"adapt"` for a
            ready embedder, `"selfembed"` for a language model.
        out: Folder of the finished embedder; must not exist.
        pairs: Labelled examples for a supervised stage, see :func:`selfembed.data.pairs.read_sets`.
        dev: One more set of labelled examples, which decides when that stage stops and which of its steps is kept.
        instructions: What is said before the queries of a set, by its name. Say it likewise when you embed a query:
            `"instruction: query"`.
        settings: Numbers of the recipe to replace, see :func:`selfembed.recipes.override`.
        seed: Seed of the choice of texts, the adapter's start, dropout and order.
        dtype: Type of the frozen weights: `"float32"`, `"bfloat16"`, or `"auto"` for what the machine does best. The
            adapter and the losses are float32 always.
        device: Device to train on, `"cpu"` or `"cuda"`; None takes a GPU where there is one.
        tagger: Part-of-speech tagger, see :func:`selfembed.targets.tagger.load_tagger`.
        trust_remote_code: Whether the model's own Python code may run.
        language: Language of the texts for the model card, as its ISO 639 code or several of them; None names that of
            the tagger where one reads them, and none otherwise.
        saved_dtype: Dtype of the folder's weights on disk: `"float32"`, `"float16"`, `"bfloat16"`, or `"auto"`, which
            takes float16 for backbones below two billion parameters, which compute in float32 whatever is on disk, and
            a larger backbone's own dtype otherwise.
        calibrate: Whether an affine map behind the pooling is chosen for the finished embedder, see
            :func:`selfembed.recipes.recipe.with_calibration`; None is the recipe's own way.
        progress: Called with (task, done, total).

    Returns:
        The finished embedder, loaded from `out`.

    Raises:
        InputError: An argument cannot be used; the message says which and what to do.
        TrainingDiverged: Training has led to a model that is good for nothing.
    """
    require_new(Path(out))
    plan = make_plan(
        model,
        corpus,
        recipe,
        pairs=pairs,
        dev=dev,
        instructions=instructions,
        settings=settings,
        seed=seed,
        dtype=dtype,
        device=device,
        tagger=tagger,
        trust_remote_code=trust_remote_code,
        language=language,
        saved_dtype=saved_dtype,
        calibrate=calibrate,
    )
    return run_plan(plan, out, progress=progress)


def run_plan(
    plan: Plan,
    out: str | Path,
    *,
    progress: Progress = silent,
    after_stage: Callable[[dict[str, Any], SentenceTransformer], None] = lambda record, embedder: None,
) -> SentenceTransformer:
    """Trains what :func:`make_plan` resolved; see :func:`train`.

    Args:
        plan: The plan to run.
        out: Folder of the finished embedder; must not exist.
        progress: Called with (task, done, total).
        after_stage: Called with the record of every finished stage and the embedder as it stands, adapter on, to be
            looked at; also with stages that an earlier, interrupted run had finished.
    """
    out = Path(out)
    work = open_work_folder(plan, out)
    with writing(work), removed_unless_resumable(work):
        stages = []
        judge = Judge(plan, work / RAW_VECTORS, progress) if plan.recipe.calibration_pairs else None
        before = judge.raw.map if judge and plan.recipe.calibration == "before" else None
        for trained in run_stages(
            plan,
            lambda number, name: work / f"{number}-{name}",
            affine_map=before,
            look=judge.look if judge and plan.recipe.looks > 1 else None,
            progress=progress,
        ):
            stages.append(trained.record)
            after_stage(trained.record, trained.embedder)
        require_sound(trained.embedder, plan)
        judgement = judge.judge(trained.embedder, trained.looks) if judge else None
        if judgement is not None and not judgement.trained:
            make_raw(trained.embedder)
        progress("saving", 0, 1)
        on_gpu = plan.device.startswith("cuda")
        record = RunRecord(
            **plan.to_dict(),
            stages=[StageRecord.from_dict(stage) for stage in stages],
            environment=environment(),
            peak_memory_gib=round(peak_memory_gib(), 2),
            peak_gpu_memory_gib=round(torch.cuda.max_memory_allocated() / 2**30, 2) if on_gpu else None,
            self_retrieval=None if judgement is None else judgement.record,
            origin=origin_of(plan.backbone).to_dict(),
        )
        weights = shipped_weights(plan, judgement, trained.weights)
        if plan.ready is not None:
            finished = export_adapted(
                trained.embedder, plan.ready, plan.recipe, record, out, weights=weights, saved_dtype=plan.saved_dtype
            )
        else:
            finished = export_embedder(
                trained.embedder,
                plan.backbone,
                plan.recipe,
                record,
                out,
                weights=weights,
                affine_map=judgement.affine_map if judgement is not None else None,
                saved_dtype=plan.saved_dtype,
            )
        progress("saving", 1, 1)
    remove_work_folder(work)
    return finished


def require_sound(embedder: SentenceTransformer, plan: Plan) -> None:
    """Probes once more, on the trained model, whether attention is as it should be; a ready embedder's is its own.

    Raises:
        TrainingDiverged: It is not, though that of the raw backbone was.
    """
    if plan.recipe.embedder is None:
        return
    try:
        require_attention(embedder.transformers_model, plan.recipe.embedder.attention)
    except InputError as error:
        rates = ", ".join(f"{stage.learning_rate:g}" for stage in plan.recipe.stages.values())
        raise TrainingDiverged(
            f"training has diverged: its tokens no longer see each other as the raw backbone's do ({error}); "
            f"lower `learning_rate`, now {rates}"
        ) from error
