"""The stages of a plan, one after the other: prepared, trained, recorded."""

from __future__ import annotations

import ctypes
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import PrinterCallback, set_seed

from selfembed.calibration.affine_map import AffineMap, add_map
from selfembed.data.sampling import choose_rows
from selfembed.encoding.encode import Role, prompt_of
from selfembed.ground.files import write_json
from selfembed.ground.progress import Progress, silent
from selfembed.model.adapter import add_trainable_adapter, load_adapter, save_adapter
from selfembed.model.backbone import Backbone, LMHead
from selfembed.model.dropout import draw_dropout_quickly, set_attention_dropout
from selfembed.model.memory_tokens import memory_embedding
from selfembed.model.modes import checkpointing_kwargs
from selfembed.objectives.best_step import BestStep, keep_best
from selfembed.objectives.objective import Prepared
from selfembed.objectives.order import rows_in_order
from selfembed.recipes import Stage
from selfembed.training.checkpoints import StageWatch, checkpoint_step, last_checkpoint
from selfembed.training.export import merged_backbone
from selfembed.training.plan import Plan
from selfembed.training.trainer_card import keep_texts_out_of_card

_EAGER_LENGTH = 128  # tokens
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_ADAPTER, _RECORD = "adapter.safetensors", "record.json"
_LOOKS = "looks"  # their files, and their entry in the stage's record

Look = Callable[[SentenceTransformer, int], float]  # of an embedder after a step of its training


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Holds an embedder after a stage.

    Args:
        record: Record of the stage.
        embedder: The embedder as it stands, its adapter on.
        weights: The backbone under the adapter, with what earlier stages merged into it.
        looks: Scores of the looks in training, the best step and whether it was stopped early; None without looks.
    """

    record: dict[str, Any]
    embedder: SentenceTransformer
    weights: Backbone
    looks: dict[str, Any] | None = None


def run_stages(
    plan: Plan,
    folder_of: Callable[[int, str], Path],
    *,
    make_head: Callable[[LMHead], LMHead] | None = None,
    affine_map: AffineMap | None = None,
    look: Look | None = None,
    progress: Progress = silent,
) -> Iterator[Trained]:
    """Trains the stages of a plan in order, and goes on where an earlier run was interrupted.

    Args:
        plan: The plan, whose recipe is run.
        folder_of: Gives a stage's folder, by its number, from 1, and its name. It holds checkpoints, adapter and
            record; where it holds a record already, the stage is not trained again. Merged weights come beside it.
        make_head: Makes the decoder layer for the losses from the backbone's; None takes it as it is.
        affine_map: Map behind the pooling in training, which stays as it is; None leaves it out.
        look: Scores the embedder after a step; the last stage, whose embedder is the finished one, then ends with the
            best of the recipe's looks. None keeps the last step.
        progress: Called with (task, done, total).

    Yields:
        What came of every stage, also of those that an earlier run had finished. The embedder goes on being trained
        afterwards.
    """
    weights = plan.backbone
    embedder = trainable_embedder(plan, weights, affine_map)

    @functools.cache
    def head() -> LMHead:  # read when an objective first asks for it
        assert plan.ready is None, "its objectives need no decoder"
        own = plan.backbone.head()
        return (make_head(own) if make_head else own).to(plan.device)

    texts_used = 0
    for number, (name, stage) in enumerate(plan.recipe.stages.items(), 1):
        folder = folder_of(number, name)
        if stage.adapter == "merge" and number > 1:
            progress("merging", 0, 1)
            weights = merged_backbone(embedder, weights, folder.with_name(f"{folder.name}-merged"))
            embedder = trainable_embedder(plan, weights, affine_map, memory_of=embedder)
            progress("merging", 1, 1)
        if (folder / _RECORD).exists():
            load_adapter(embedder, folder / _ADAPTER)
        else:
            last = number == len(plan.recipe.stages)
            run_stage(
                plan,
                name,
                stage,
                embedder,
                head,
                folder,
                skip=texts_used,
                look=look if last else None,
                progress=progress,
            )
        embedder.eval()
        embedder.max_seq_length = plan.embed_length
        record = json.loads((folder / _RECORD).read_text())
        looks = record.pop(_LOOKS, None)
        yield Trained(record=record, embedder=embedder, weights=weights, looks=looks)
        texts_used += stage.texts


def trainable_embedder(
    plan: Plan,
    weights: Backbone,
    affine_map: AffineMap | None = None,
    *,
    memory_of: SentenceTransformer | None = None,
) -> SentenceTransformer:
    """Builds the embedder of a plan, with a fresh adapter.

    Args:
        plan: The plan, which gives embedder, adapter and seed.
        weights: The plan's backbone, or that with earlier stages merged into it.
        affine_map: Map that goes behind the pooling; None leaves it out.
        memory_of: Embedder whose memory vectors are carried over; None starts afresh.
    """
    set_seed(plan.seed)
    embedder = plan.untrained(weights, seed=plan.seed)
    if memory_of is not None and plan.memory_tokens:
        memory_embedding(embedder).memory.data.copy_(memory_embedding(memory_of).memory)
    if affine_map is not None and not affine_map.changes_nothing:
        embedder = add_map(embedder, affine_map)
    keep_texts_out_of_card(embedder)
    add_trainable_adapter(embedder, plan.recipe.lora)
    train_fast_on_cpu(embedder, plan.device, max(stage.max_length for stage in plan.recipe.stages.values()))
    return embedder


def train_fast_on_cpu(embedder: SentenceTransformer, device: str, max_length: int) -> None:
    """Makes training steps on a CPU faster, and changes nothing but rounding (docs/log.md).

    The backward pass of the fused attention kernel takes longer there than that of plain matrix products, which need
    memory by the square of the length; torch's dropout draws its numbers one by one; and the allocator gives a step's
    memory back to the system only to ask for it again.
    """
    if device != "cpu":
        return
    draw_dropout_quickly(embedder)
    if max_length <= _EAGER_LENGTH:
        embedder.transformers_model.set_attn_implementation("eager")
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL("libc.so.6").mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def run_stage(
    plan: Plan,
    name: str,
    stage: Stage,
    embedder: SentenceTransformer,
    make_head: Callable[[], LMHead],
    folder: Path,
    *,
    skip: int,
    look: Look | None,
    progress: Progress,
) -> None:
    """Trains one stage from the adapter as it stands; leaves adapter and record in its folder.

    Args:
        plan: The plan of the run.
        name: Name of the stage.
        stage: The stage to train.
        embedder: The embedder, with a trainable adapter.
        make_head: Reads the frozen decoder layer.
        folder: Folder of the stage.
        skip: Number of texts of the corpus that earlier stages have read.
        look: Scores the embedder after a step; None keeps the last step.
        progress: Called with (task, done, total).
    """
    started = time.monotonic()
    objective = stage.objective
    embedder.max_seq_length = plan.fitting_length(stage.max_length)
    if plan.memory_tokens:
        memory_embedding(embedder).memory.requires_grad_(objective.trains_memory)
    set_attention_dropout(embedder, objective.attention_dropout)
    texts, places = [], []
    if objective.reads == "texts":
        corpus = plan.corpus.texts()
        places = choose_rows(len(corpus), stage.texts, skip=skip, seed=plan.seed).tolist()
        texts = list(corpus.select(places)["text"])
    material = plan.material(
        max_length=stage.max_length,
        budget=stage.budget,
        texts=texts,
        places=places,
        make_embedder=lambda: embedder,
        make_head=make_head,
        folder=folder,
        progress=progress,
    )
    material = objective.cut(material)
    prepared = objective.prepare(material)
    if look is not None:
        looks = BestStep(
            _LOOKS, functools.partial(look, embedder), plan.recipe.look_steps, plan.recipe.patience, embedder, folder
        )
        prepared = keep_best(prepared, looks, steps=stage.steps)
    data = prepared.data
    if data is None:
        rows = rows_in_order(material, prepared)
        notes = {"texts": len(material.texts if prepared.rows is None else prepared.rows), **prepared.notes}
    else:
        notes = prepared.notes
    seconds = time.monotonic() - started
    trained = time.monotonic()
    logged, resumed_from = optimise(
        plan, name, stage, embedder, prepared, data or (lambda step: rows), folder, progress
    )
    folder.mkdir(parents=True, exist_ok=True)
    notes |= prepared.finish()
    save_adapter(embedder, folder / _ADAPTER)
    write_json(
        folder / _RECORD,
        {
            "name": name,
            **notes,
            "resumed_from": resumed_from.name if resumed_from else None,
            "preparation_seconds": round(seconds, 1),
            "training_seconds": round(time.monotonic() - trained, 1),
            "loss_curve": [curve_entry(entry) for entry in logged if "loss" in entry],
        },
    )


def optimise(
    plan: Plan,
    name: str,
    stage: Stage,
    embedder: SentenceTransformer,
    prepared: Prepared,
    data: Callable[[int], Dataset],
    folder: Path,
    progress: Progress,
) -> tuple[list[dict[str, Any]], Path | None]:
    """Runs the trainer, from the last checkpoint where there is one, and once more whenever the data change.

    Returns:
        What the trainer logged, and the checkpoint it went on from.
    """
    if stage.gradient_checkpointing and not embedder.transformers_model.is_gradient_checkpointing:
        embedder.transformers_model.gradient_checkpointing_enable(checkpointing_kwargs(embedder))
    watch = StageWatch(name, stage.steps, prepared, progress)
    resumed_from = checkpoint = last_checkpoint(folder, watch)
    while True:
        rows = data(checkpoint_step(checkpoint))
        trainer = SentenceTransformerTrainer(
            model=embedder,
            args=training_arguments(plan, stage, folder, prompts=column_prompts(embedder, rows.column_names)),
            train_dataset=rows,
            loss=prepared.loss,
            callbacks=[watch, *prepared.callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        if checkpoint is not None:
            watch.restore(checkpoint)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not prepared.goes_on(trainer.state.global_step):
            return trainer.state.log_history, resumed_from
        checkpoint = last_checkpoint(folder, watch)


def column_prompts(embedder: SentenceTransformer, columns: Sequence[str]) -> dict[str, str] | None:
    """Gives the embedder's own prompt before the texts of each column, None where there are none.

    Queries are in the column `query`; all other texts are documents.
    """
    roles: dict[str, Role] = {name: "query" if name == "query" else "document" for name in columns if name != "label"}
    prompts = {name: prompt for name, role in roles.items() if (prompt := prompt_of(embedder, role))}
    return prompts or None


def curve_entry(logged: dict[str, Any]) -> dict[str, Any]:
    """Keeps of a logged step what the record holds; numbers that are not the trainer's own are parts of the loss."""
    own = ("step", "loss", "grad_norm", "learning_rate")
    parts = {key: value for key, value in logged.items() if key not in (*own, "epoch")}
    return {**{key: logged[key] for key in own if key in logged}, **({"parts": parts} if parts else {})}


def training_arguments(
    plan: Plan, stage: Stage, folder: Path, *, prompts: dict[str, str] | None = None
) -> SentenceTransformerTrainingArguments:
    """Translates a stage's numbers into the trainer's arguments, with what is said before the texts of a column."""
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.batch_size // stage.accumulation,
        gradient_accumulation_steps=stage.accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule if stage.schedule != "constant" else "constant_with_warmup",
        warmup_steps=round(stage.warmup * stage.steps),
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm,
        seed=plan.seed,
        data_seed=plan.seed,
        batch_sampler=in_order,
        prompts=prompts,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=max(1, min(50, stage.steps // 4)),
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=plan.device == "cpu",
        dataloader_pin_memory=plan.device != "cpu",
    )


def in_order(dataset: Dataset, batch_size: int, drop_last: bool, **unused: Any) -> BatchSampler:
    """Makes the trainer's batches of a data set that is in order already."""
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)
