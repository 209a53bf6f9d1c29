"""Runs a recipe's stages on a corpus, goes on where it was interrupted, and leaves one finished embedder."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import PrinterCallback, TrainerCallback, set_seed

from selfembed.errors import InputError
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.ground.files import write_json, writing
from selfembed.ground.progress import Progress, silent
from selfembed.losses.compression import Compression, CompressionLoss
from selfembed.losses.contrastive import (
    Supervised,
    TwoViews,
    require_two_views,
    set_attention_dropout,
    supervised_loss,
    two_views_loss,
)
from selfembed.losses.token_target import OnlineModelDerivedLoss, TokenTargetLoss, finite
from selfembed.model.attention import require_attention
from selfembed.model.backbone import EMBEDDED, Backbone, LMHead, Lora, lora_config
from selfembed.model.dropout import draw_dropout_quickly
from selfembed.model.embedder import build_embedder, fitting_length
from selfembed.model.folder import RunRecord, StageRecord
from selfembed.model.memory_tokens import memory_embedding
from selfembed.model.modes import checkpointing_kwargs
from selfembed.model.prompt import NO_PROMPT
from selfembed.recipes import Recipe, Stage
from selfembed.targets.cache import choose_texts, summary
from selfembed.targets.model_derived import ModelDerived
from selfembed.training.export import export_embedder, merged_backbone
from selfembed.training.plan import Plan, make_plan
from selfembed.training.supervised import BestOnDev, SupervisedData

_STATE_FILE = "stage_state.safetensors"
_EAGER_LENGTH = 128  # tokens
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def train(
    model: str | Path = EMBEDDED,
    corpus: str | Path | Iterable[str] | None = None,
    recipe: str | Recipe = "text2token",
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
    progress: Progress = silent,
) -> SentenceTransformer:
    """Turns a language model into a text embedder, from unlabelled text or labelled pairs, and leaves it as a folder.

    Interrupted and called again with the same arguments, it goes on from the last checkpoint, which it keeps in
    ``<out>.partial``, and ends in the same weights.

    Args:
        model: hub id, folder, GGUF file, or ``"embedded"``.
        corpus: files, folders, a ``datasets`` id or folder, several of them, ``"python-docs"``, any iterable of
            strings, or a :class:`~selfembed.data.corpus.Corpus`; None: the positives of the pairs, or
            ``"python-docs"`` where there are none.
        recipe: name or object.
        out: folder of the finished embedder; must not exist.
        pairs: labelled examples for a supervised stage, see :func:`selfembed.data.pairs.read_sets`.
        dev: one more set of them, which decides when that stage stops and which of its steps is kept.
        instructions: said before the queries of a set, by its name. Whoever embeds a query later says it likewise:
            ``"instruction: query"``.
        settings: numbers of the recipe to replace, see :func:`selfembed.recipes.override`.
        seed: of the choice of texts, the adapter's start, dropout and order.
        dtype: of the frozen weights: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for what the machine does best. The
            adapter and the losses are float32 always.
        device: ``"cpu"``, ``"cuda"``; None takes a GPU where there is one.
        tagger: part-of-speech tagger, see :func:`selfembed.targets.tagger.load_tagger`.
        trust_remote_code: let the model's own Python code run.
        progress: called with (task, done, total).

    Returns:
        The finished embedder, loaded from ``out``.

    Raises:
        InputError: something given cannot be used; the message says what and what to do.
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
        plan: what to train.
        out: folder of the finished embedder; must not exist.
        progress: called with (task, done, total).
        after_stage: called with the record of every finished stage and the embedder as it stands, adapter on, to be
            looked at; also with stages that an earlier, interrupted run had finished.
    """
    out = Path(out)
    work = open_work_folder(plan, out)
    with writing(work), nothing_left_of_nothing(work):
        weights = plan.backbone
        embedder = trainable_embedder(plan, weights)
        head = plan.backbone.head().to(plan.device)
        stages = []
        texts_used = 0
        for number, (name, stage) in enumerate(plan.recipe.stages.items(), 1):
            folder = work / f"{number}-{name}"
            if stage.adapter == "merge" and number > 1:
                progress("merging", 0, 1)
                weights = merged_backbone(embedder, weights, work / f"{number}-merged")
                embedder = trainable_embedder(plan, weights, memory_of=embedder)
                progress("merging", 1, 1)
            if (folder / "record.json").exists():
                load_adapter(embedder, folder / "adapter.safetensors")
            else:
                run_stage(plan, name, stage, embedder, head, folder, texts_used, progress)
            stages.append(json.loads((folder / "record.json").read_text()))
            embedder.eval()
            embedder.max_seq_length = fitting_length(plan.backbone, plan.recipe.embedder, plan.recipe.embed_length)
            after_stage(stages[-1], embedder)
            texts_used += stage.texts
        require_sound(embedder, plan)
        progress("saving", 0, 1)
        on_gpu = plan.device.startswith("cuda")
        record = RunRecord(
            **plan.to_dict(),
            stages=[StageRecord.from_dict(stage) for stage in stages],
            environment=environment(),
            peak_memory_gib=round(peak_memory_gib(), 2),
            peak_gpu_memory_gib=round(torch.cuda.max_memory_allocated() / 2**30, 2) if on_gpu else None,
        )
        finished = export_embedder(embedder, plan.backbone, plan.recipe, record, out, weights=weights)
        progress("saving", 1, 1)
    shutil.rmtree(work, ignore_errors=True)
    return finished


def require_new(out: Path) -> None:
    """Refuses to overwrite.

    Raises:
        InputError: ``out`` exists already and is no empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"output {out}: exists already; name a new folder or remove this one")


def open_work_folder(plan: Plan, out: Path) -> Path:
    """The folder for checkpoints, ``<out>.partial``.

    Raises:
        InputError: ``out`` exists already, or the folder holds an unfinished run of other settings.
    """
    require_new(out)
    work = out.with_name(out.name + ".partial")
    plan_file = work / "plan.json"
    if plan_file.exists():
        before = json.loads(plan_file.read_text())
        if before["key"] != plan.key:
            now = {**plan.to_dict(), "key": plan.key}
            changed = [name for name in now if name != "key" and json.loads(json.dumps(now[name])) != before.get(name)]
            raise InputError(
                f"{work} holds an unfinished run with another {', '.join(changed) or 'version'}; "
                "repeat that command to go on with it, or remove the folder to start anew"
            )
        return work
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        write_json(plan_file, {**plan.to_dict(), "key": plan.key})
    return work


@contextmanager
def nothing_left_of_nothing(work: Path) -> Iterator[None]:
    """Takes a work folder away when an error came before there was anything to go on from."""
    try:
        yield
    except Exception:
        if not any(path.is_dir() for path in work.iterdir()):
            shutil.rmtree(work, ignore_errors=True)
        raise


def require_sound(embedder: SentenceTransformer, plan: Plan) -> None:
    """The leak probe once more, on the trained model.

    Raises:
        InputError: it fails, though the raw backbone passed it: training has broken the model.
    """
    try:
        require_attention(embedder.transformers_model, plan.recipe.embedder.attention)
    except InputError as error:
        rates = ", ".join(f"{stage.learning_rate:g}" for stage in plan.recipe.stages.values())
        raise InputError(
            f"training has diverged: its tokens no longer see each other as the raw backbone's do ({error}); "
            f"lower the learning rate, now {rates}"
        ) from error


def trainable_embedder(
    plan: Plan, weights: Backbone, *, memory_of: SentenceTransformer | None = None
) -> SentenceTransformer:
    """The embedder of a plan with a fresh adapter.

    Args:
        plan: whose embedder, adapter and seed count.
        weights: the plan's backbone, or that with earlier stages merged into it.
        memory_of: embedder whose memory vectors are carried over.
    """
    set_seed(plan.seed)
    embedder = build_embedder(
        weights, plan.recipe.embedder, dtype=plan.dtype, device=plan.device, max_length=512, seed=plan.seed
    )
    if memory_of is not None and plan.recipe.embedder.memory_tokens:
        memory_embedding(embedder).memory.data.copy_(memory_embedding(memory_of).memory)
    # The trainer's model card would pick examples out of the corpus; the folder gets a card of ours.
    embedder.model_card_data.widget = [{"text": "unused"}]
    add_trainable_adapter(embedder, plan.recipe.lora)
    train_fast_on_cpu(embedder, plan.device, max(stage.max_length for stage in plan.recipe.stages.values()))
    return embedder


def add_trainable_adapter(embedder: SentenceTransformer, lora: Lora) -> None:
    """LoRA in float32 on frozen weights of any dtype."""
    embedder.add_adapter(lora_config(embedder.transformers_model, lora))
    for parameter in adapter_parameters(embedder):
        parameter.data = parameter.data.float()


def train_fast_on_cpu(embedder: SentenceTransformer, device: str, max_length: int) -> None:
    """What makes a step on a CPU faster and changes nothing but rounding (docs/log.md).

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


def adapter_parameters(embedder: SentenceTransformer) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in embedder.parameters() if parameter.requires_grad]


def save_adapter(embedder: SentenceTransformer, file: Path) -> None:
    """Writes the trained parameters under their names in the model."""
    trained = {name: p.detach().cpu().contiguous() for name, p in embedder.named_parameters() if p.requires_grad}
    partial = file.with_suffix(".partial")
    save_file(trained, partial)
    partial.replace(file)


def load_adapter(embedder: SentenceTransformer, file: Path) -> None:
    """Reads what :func:`save_adapter` wrote."""
    parameters = dict(embedder.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(file).items():
            parameters[name].copy_(tensor)


def run_stage(
    plan: Plan,
    name: str,
    stage: Stage,
    embedder: SentenceTransformer,
    head: LMHead,
    folder: Path,
    texts_used: int,
    progress: Progress,
) -> None:
    """Trains one stage from the adapter as it stands; leaves ``adapter.safetensors`` and ``record.json``."""
    started = time.monotonic()
    embedder.max_seq_length = fitting_length(plan.backbone, plan.recipe.embedder, stage.max_length)
    data = best = None
    if isinstance(stage.objective, Supervised):
        loss = supervised_stage_loss(plan, stage, embedder)
        data = SupervisedData(plan.pairs, stage, embedder, folder, seed=plan.seed)
        best = BestOnDev(plan.dev, stage.objective, embedder, folder, partial(save_adapter, embedder))
        notes = data.notes
    else:
        texts = list(choose_texts(plan.corpus.texts(), stage.texts, skip=texts_used, seed=plan.seed)["text"])
        loss, texts, notes = stage_loss(plan, stage, embedder, head, texts, progress)
        notes = {"texts": len(texts), **notes}
        dataset = stage_dataset(texts, stage, seed=plan.seed)
    prepared = time.monotonic()
    if stage.gradient_checkpointing and not embedder.transformers_model.is_gradient_checkpointing:
        embedder.transformers_model.gradient_checkpointing_enable(checkpointing_kwargs(embedder))
    watch = StageWatch(name, stage.steps, progress, loss)
    resumed_from = checkpoint = last_checkpoint(folder, watch)
    while True:
        trainer = SentenceTransformerTrainer(
            model=embedder,
            args=training_arguments(plan, stage, folder),
            train_dataset=data.at(checkpoint_step(checkpoint)) if data else dataset,
            loss=loss,
            callbacks=[watch, best, data] if data else [watch],
        )
        trainer.remove_callback(PrinterCallback)
        if checkpoint is not None:
            watch.restore(checkpoint)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not data or best.over or not data.due(trainer.state.global_step):
            break
        checkpoint = last_checkpoint(folder, watch)  # on with other negatives
    folder.mkdir(parents=True, exist_ok=True)
    if data:
        if best.adapter is not None:
            load_adapter(embedder, best.adapter)
        notes |= {**best.record(), **data.record()}
    save_adapter(embedder, folder / "adapter.safetensors")
    write_json(
        folder / "record.json",
        {
            "name": name,
            **notes,
            "resumed_from": resumed_from.name if resumed_from else None,
            "preparation_seconds": round(prepared - started, 1),
            "training_seconds": round(time.monotonic() - prepared, 1),
            "loss_curve": [
                {key: entry[key] for key in ("step", "loss", "grad_norm", "learning_rate") if key in entry}
                for entry in trainer.state.log_history
                if "loss" in entry
            ],
        },
    )


def training_arguments(plan: Plan, stage: Stage, folder: Path) -> SentenceTransformerTrainingArguments:
    """A stage's numbers, as the trainer takes them."""
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
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=max(1, min(50, stage.steps // 4)),
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=plan.device == "cpu",
        dataloader_pin_memory=plan.device != "cpu",
    )


def training_order(length_N: Sequence[int], stage: Stage, *, seed: int) -> list[int]:
    """Which text when: the texts over and over, shuffled anew each time, cut into steps.

    Within a step texts go from long to short, so that the texts of a micro-batch are padded little. What a step
    consists of does not depend on the size of micro-batches.

    Args:
        length_N: of the texts, in any unit.
        stage: whose steps and batch size count.
        seed: of every shuffle but the first, which :func:`choose_texts` did.

    Returns:
        ``stage.texts`` rows.
    """
    random = np.random.default_rng(seed)
    rows = np.arange(len(length_N))
    while len(rows) < stage.texts:
        rows = np.concatenate([rows, random.permutation(len(length_N))])
    steps = rows[: stage.texts].reshape(stage.steps, stage.batch_size)
    lengths = np.asarray(length_N)[steps]
    return np.take_along_axis(steps, np.argsort(-lengths, axis=1, kind="stable"), axis=1).ravel().tolist()


def stage_dataset(texts: Sequence[str], stage: Stage, *, seed: int) -> Dataset:
    """The texts as the trainer shall take them, in the columns that the objective's loss reads."""
    rows = training_order([len(text) for text in texts], stage, seed=seed)
    if isinstance(stage.objective, TwoViews):
        return Dataset.from_dict({"view": texts, "other_view": texts}).select(rows)
    dataset = Dataset.from_dict({"text": texts, "label": list(range(len(texts)))}).select(rows)
    if isinstance(stage.objective, Compression):  # a text that comes again is split elsewhere
        return dataset.remove_columns("label").add_column("label", range(len(rows)))
    return dataset


def in_order(dataset: Dataset, batch_size: int, drop_last: bool, **unused: Any) -> BatchSampler:
    """The trainer's batches, from a dataset that is in its order already."""
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def stage_loss(
    plan: Plan, stage: Stage, embedder: SentenceTransformer, head: LMHead, texts: list[str], progress: Progress
) -> tuple[nn.Module, list[str], dict[str, Any]]:
    """The loss of a stage, the texts that have a target, and what to note of the targets in the run record.

    Raises:
        InputError: no text has a target.
    """
    objective = stage.objective
    if plan.recipe.embedder.memory_tokens:
        memory_embedding(embedder).memory.requires_grad_(isinstance(objective, Compression))
    set_attention_dropout(embedder, getattr(objective, "attention_dropout", 0.0))
    if isinstance(objective, TwoViews):
        require_two_views(embedder, texts[0])
        mini_batch_size = stage.micro_batch_size or stage.batch_size
        return two_views_loss(embedder, objective, mini_batch_size=mini_batch_size), texts, {}
    if isinstance(objective, Compression):
        kept, notes = long_enough(texts, embedder, plan, objective)
        bos_id = plan.backbone.tokenizer.bos_token_id
        return CompressionLoss(embedder, head, objective, bos_id=bos_id, seed=plan.seed), kept, notes
    if isinstance(objective, ModelDerived) and objective.common == "online":
        return OnlineModelDerivedLoss(embedder, head, objective), texts, {"targets": "in the step"}
    targets = plan.target_source(embedder, head).targets(objective, texts, progress)
    empty_N = targets.support_N == 0
    notes = {"targets": summary(targets), "texts_without_target": int(empty_N.sum())}
    if empty_N.all():
        raise InputError(
            f"corpus {plan.corpus.name}: none of {len(texts)} texts has a key token (noun, proper noun or adjective "
            "that does not occur in every text); give other text, or --set pos=none to keep all words"
        )
    if empty_N.any():
        kept = np.flatnonzero(~empty_N).tolist()
        targets = targets.select(kept)
        texts = [texts[i] for i in kept]
    return TokenTargetLoss(embedder, head, targets), texts, notes


def supervised_stage_loss(plan: Plan, stage: Stage, embedder: SentenceTransformer) -> nn.Module:
    """The loss of a supervised stage: attention without dropout, memory vectors as they stand."""
    if plan.recipe.embedder.memory_tokens:
        memory_embedding(embedder).memory.requires_grad_(False)
    set_attention_dropout(embedder, 0.0)
    return supervised_loss(embedder, stage.objective, mini_batch_size=stage.micro_batch_size or stage.batch_size)


def long_enough(
    texts: Sequence[str], embedder: SentenceTransformer, plan: Plan, objective: Compression
) -> tuple[list[str], dict[str, Any]]:
    """The texts that can be split, and the number of those that cannot, for the run record.

    Raises:
        InputError: none can, or a prompt would be split along with the text.
    """
    if plan.recipe.embedder.template != NO_PROMPT:
        raise InputError(
            f"prompt {plan.recipe.embedder.template!r}: compression splits the bare text; expected no prompt"
        )
    memory_tokens = plan.recipe.embedder.memory_tokens
    ids = embedder.tokenizer(list(texts), truncation=True)["input_ids"]
    kept = [text for text, row in zip(texts, ids, strict=True) if len(row) - memory_tokens >= objective.min_tokens]
    if not kept:
        raise InputError(
            f"corpus {plan.corpus.name}: none of {len(texts)} texts has {objective.min_tokens} tokens, as a split "
            "needs; give longer texts, or lower min_context and min_continuation"
        )
    return kept, {"texts_too_short": len(texts) - len(kept)}


class StageWatch(TrainerCallback):
    """Reports steps, and keeps with every checkpoint what the trainer does not know to be training state.

    That is the common distribution of targets made in the step, and memory vectors, which are in no adapter.
    """

    def __init__(self, name: str, steps: int, progress: Progress, loss: nn.Module) -> None:
        self.name = name
        self.steps = steps
        self.progress = progress
        self.loss = loss

    @property
    def has_state(self) -> bool:
        return isinstance(self.loss, OnlineModelDerivedLoss | CompressionLoss)

    def state(self) -> dict[str, torch.Tensor]:
        if isinstance(self.loss, CompressionLoss):
            return {"memory": memory_embedding(self.loss.model).memory.detach().cpu()}
        return {"sum": self.loss.common.sum_V.cpu(), "texts": torch.tensor(self.loss.common.texts)}

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        shown = self.name
        if logs and "loss" in logs:
            finite(torch.tensor(logs["loss"]))  # before this step's checkpoint is written
            shown = f"{self.name}, loss {logs['loss']:.3f}"
        self.progress(shown, state.global_step, self.steps)

    def on_save(self, args, state, control, **kwargs) -> None:
        if self.has_state:
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _STATE_FILE
            save_file(self.state(), file.with_suffix(".partial"))
            file.with_suffix(".partial").replace(file)

    def restore(self, checkpoint: Path) -> None:
        """Reads back what :meth:`on_save` wrote."""
        if self.has_state:
            tensors = load_file(checkpoint / _STATE_FILE)
            if "memory" in tensors:
                memory_embedding(self.loss.model).memory.data.copy_(tensors["memory"])
                return
            self.loss.common.sum_V = tensors["sum"].to(self.loss.head.weight.device)
            self.loss.common.texts = int(tensors["texts"])


def checkpoint_step(checkpoint: Path | None) -> int:
    """The step after which a checkpoint was written; 0 for none."""
    return int(checkpoint.name.split("-")[1]) if checkpoint else 0


def last_checkpoint(folder: Path, watch: StageWatch) -> Path | None:
    """The newest checkpoint that was written to its end; the trainer writes ``trainer_state.json`` last."""
    found = sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
            continue
        if not watch.has_state or (checkpoint / _STATE_FILE).exists():
            return checkpoint
        shutil.rmtree(checkpoint)
    return None
