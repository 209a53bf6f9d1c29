"""Trains and scores many small embedders on one GPU: which pairs, losses and numbers make the best one.

A loop of its own, without trainer and folders, since a run is over in seconds. What it finds is built into a recipe,
and the recipe is measured by itself. Reads what sweep_data.py wrote.

Shapes: B texts, T tokens, D dimensions, V vocabulary, S support of a target.
"""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import dev_tasks
import domains
import numpy as np
import torch
from domains import passage
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from selfembed.data.pair_sources import draw_pairs
from selfembed.search.fusion import fuse_scores

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
READ_TOKENS = 512
BUDGET = 65_536  # tokens of a batch that is only read


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a run; weights of 0 leave a loss out."""

    steps: int
    batch: int = 64
    lr: float = 2e-4
    pairs: float = 1.0
    tokens: float = 0.0
    keep: float = 0.0
    sources: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("title", "sentence", "parts", "neighbour"), 1.0)
    )
    temperature: float = 0.05
    keep_temperature: float = 0.05
    query_tokens: int = 48
    passage_tokens: int = 128
    both: bool = True
    map: str = "none"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One embedder: where it is trained, how, with which seed."""

    name: str
    domain: str
    stages: tuple[Stage, ...] = ()
    targets: str = "all"
    r: int = 16
    dropout: float = 0.0
    top_half: bool = False
    seed: int = 0
    strengths: tuple[float, ...] = (1.0,)
    general: bool = False
    save: bool = False


class Lab:
    """Backbone, texts and tasks, loaded once a process."""

    def __init__(self, data: Path, model: nn.Module, device: str, limit: int | None = None) -> None:
        self.data, self.model, self.device, self.limit = data, model, device, limit
        self.tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
        prompt = json.loads((data / "prompt.json").read_text())
        self.before, self.after = prompt["before"], prompt["after"]
        self.head_VD = model.get_input_embeddings().weight.detach()
        self._domains: dict[str, domains.Domain] = {}
        self._ids: dict[str, list[int]] = {}
        self.tasks: dev_tasks.Tasks | None = None

    def domain(self, name: str) -> domains.Domain:
        if name not in self._domains:
            with gzip.open(self.data / "domains" / f"{name}.json.gz", "rt", encoding="utf-8") as stream:
                record = json.load(stream)
            record["passages"] = [passage(*row) for row in record["passages"][: self.limit]]
            if self.limit:
                record |= {key: record[key][: self.limit] for key in ("queries", "documents", "relevant")}
            self._domains[name] = domains.Domain(**record | {"itself": dict(record["itself"])})
        return self._domains[name]

    def targets(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = np.load(self.data / "targets" / f"{name}.npz")
        return found["offsets"], found["ids"].astype(np.int64), found["weights"].astype(np.float32)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of bare texts, tokenized once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._ids]
        for start in range(0, len(new), 4096):
            part = new[start : start + 4096]
            encoded = self.tokenizer.encode_batch_fast(part, add_special_tokens=False)
            self._ids |= {text: encoding.ids for text, encoding in zip(part, encoded, strict=True)}
        return [self._ids[text] for text in texts]

    def batch(self, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Prompted ids, padded on the right, ``ids_BT``, and the place of the last token, ``last_B``."""
        room = max_length - len(self.before) - len(self.after)
        rows = [self.before + ids[:room] + self.after for ids in self.ids(texts)]
        ids_BT = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            ids_BT[i, : len(row)] = torch.tensor(row)
        last_B = torch.tensor([len(row) - 1 for row in rows])
        return ids_BT.to(self.device, non_blocking=True), last_B.to(self.device, non_blocking=True)

    def embed(self, model: nn.Module, texts: Sequence[str], max_length: int) -> Tensor:
        """Embeddings, float32, ``(B, D)``. Causal attention and padding on the right need no mask."""
        ids_BT, last_B = self.batch(texts, max_length)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu"):
            hidden_BTD = model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return hidden_BTD[torch.arange(len(texts), device=self.device), last_B].float()

    @torch.no_grad()
    def encode(self, model: nn.Module, texts: Sequence[str], max_length: int = READ_TOKENS) -> np.ndarray:
        """Embeddings of many texts in their order, ``(N, D)``."""
        model.eval()
        lengths = [min(len(ids) + len(self.before) + len(self.after), max_length) for ids in self.ids(texts)]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        out_ND: Tensor | None = None
        start = 0
        while start < len(order):
            size = 1
            while start + size < len(order) and (size + 1) * lengths[order[start + size]] <= BUDGET:
                size += 1
            rows = order[start : start + size]
            part = self.embed(model, [texts[i] for i in rows], max_length)
            if out_ND is None:
                out_ND = torch.empty(len(texts), part.shape[1], device=self.device)
            out_ND[torch.tensor(rows, device=self.device)] = part
            start += size
        return out_ND.cpu().numpy()


def adapted(lab: Lab, run: Run) -> nn.Module:
    """The backbone with a fresh adapter in float32."""
    torch.manual_seed(run.seed)
    layers = range(len(lab.model.layers) // 2 if run.top_half else 0, len(lab.model.layers))
    projections = ["q_proj", "v_proj"] if run.targets == "qv" else LINEAR
    config = LoraConfig(
        r=run.r,
        lora_alpha=2 * run.r,
        lora_dropout=run.dropout,
        target_modules=rf"layers\.({'|'.join(map(str, layers))})\.\w+\.({'|'.join(projections)})",
    )
    model = get_peft_model(lab.model, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model


def band(head_VD: Tensor, low: float, high: float) -> Tensor:
    """Right singular vectors of the decoder layer between two shares of the spectrum, ``(D, kept)`` (EmbedFilter)."""
    values_D, vectors_DD = torch.linalg.eigh(head_VD.float().T @ head_VD.float())
    ordered_DD = vectors_DD[:, values_D.argsort(descending=True)]
    width = len(values_D)
    return ordered_DD[:, round(low * width) : round(high * width)]


def train_stage(lab: Lab, model: nn.Module, run: Run, stage: Stage, number: int) -> list[float]:
    """Trains the adapter; the loss of every step."""
    domain = lab.domain(run.domain)
    seed = 1000 * run.seed + number
    pairs = draw_pairs(domain.passages, stage.steps * stage.batch * 2, weights=stage.sources, seed=seed)
    if stage.tokens:
        offsets, target_ids, target_weights = lab.targets(run.domain)
    texts = [passage.text for passage in domain.passages[:2000]]
    basis_DK = band(lab.head_VD, 0.25, 0.75) if stage.map in ("band", "both") else None
    with torch.no_grad(), model.disable_adapter():
        mean_D = torch.from_numpy(lab.encode(model, texts[:1000], 128).mean(0)).to(lab.device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=stage.lr, weight_decay=0.0)
    warm = max(1, stage.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (stage.steps - step) / max(1, stage.steps - warm)))
    )

    def mapped(vectors_BD: Tensor) -> Tensor:
        if stage.map in ("center", "both"):
            vectors_BD = vectors_BD - mean_D
        if basis_DK is not None:
            vectors_BD = vectors_BD @ basis_DK
        return F.normalize(vectors_BD, dim=-1)

    if stage.batch * stage.passage_tokens > 4096:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    losses, place = [], 0
    for _ in range(stage.steps):
        model.train()
        chosen, seen = [], set()
        while len(chosen) < stage.batch and place < len(pairs):  # one pair a document a batch
            pair = pairs[place]
            place += 1
            if pair.document not in seen:
                chosen.append(pair)
                seen.add(pair.document)
        if len(chosen) < 2:
            break
        passages_BD = lab.embed(model, [pair.passage for pair in chosen], stage.passage_tokens)
        loss = passages_BD.new_zeros(())
        if stage.pairs:
            queries_BD = lab.embed(model, [pair.query for pair in chosen], stage.query_tokens)
            logits_BB = mapped(queries_BD) @ mapped(passages_BD).T / stage.temperature
            own_B = torch.arange(len(chosen), device=lab.device)
            both = [F.cross_entropy(logits_BB, own_B)]
            if stage.both:
                both.append(F.cross_entropy(logits_BB.T, own_B))
            loss = loss + stage.pairs * torch.stack(both).mean()
        if stage.tokens:
            log_q_BV = F.log_softmax((passages_BD.to(lab.head_VD.dtype) @ lab.head_VD.T).float(), -1)
            terms = []
            for row, pair in enumerate(chosen):
                span = slice(offsets[pair.index], offsets[pair.index + 1])
                weights_S = torch.from_numpy(target_weights[span]).to(lab.device)
                if len(weights_S):
                    weights_S = weights_S / weights_S.sum()
                    picked_S = log_q_BV[row, torch.from_numpy(target_ids[span]).to(lab.device)]
                    terms.append((weights_S * (weights_S.log() - picked_S)).sum())
            if terms:
                loss = loss + stage.tokens * torch.stack(terms).mean()
        if stage.keep:
            with torch.no_grad(), model.disable_adapter():
                raw_BD = lab.embed(model, [pair.passage for pair in chosen], stage.passage_tokens) - mean_D
            diagonal = torch.eye(len(chosen), dtype=torch.bool, device=lab.device)
            units = [F.normalize(x, dim=-1) for x in (raw_BD, passages_BD - passages_BD.mean(0).detach())]
            teacher_BB, student_BB = (
                (unit_BD @ unit_BD.T / stage.keep_temperature).masked_fill(diagonal, -1e4) for unit_BD in units
            )
            loss = loss + stage.keep * F.kl_div(
                F.log_softmax(student_BB, -1), F.log_softmax(teacher_BB, -1), log_target=True, reduction="batchmean"
            )
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.detach())
    model.gradient_checkpointing_disable()
    return [round(value, 4) for value in torch.stack(losses).tolist()] if losses else []


def set_strength(model: nn.Module, strength: float) -> None:
    """Scales what the adapter adds: 0 is the raw backbone, 1 the trained one."""
    for module in model.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            rank = next(iter(module.r.values()))
            alpha = next(iter(module.lora_alpha.values()))
            module.scaling = dict.fromkeys(module.scaling, strength * alpha / rank)


def maps(vectors_ND: np.ndarray, head_VD: Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Affine maps learnt from embeddings of unlabelled texts: mean and matrix, by name."""
    width = vectors_ND.shape[1]
    mean_D, none_D, identity = vectors_ND.mean(0), np.zeros(width, np.float32), np.eye(width, dtype=np.float32)
    middle = band(head_VD, 0.25, 0.75).cpu().numpy()
    values_D, axes_DD = np.linalg.eigh(np.cov(vectors_ND.T))
    shrunk = axes_DD @ np.diag((values_D + values_D.mean()) ** -0.5) @ axes_DD.T
    soft = axes_DD @ np.diag((values_D + 0.1 * values_D.mean()) ** -0.5) @ axes_DD.T
    quarter = axes_DD @ np.diag(np.maximum(values_D, 1e-6) ** -0.25) @ axes_DD.T
    return {
        "as it is": (none_D, identity),
        "centred": (mean_D, identity),
        "middle": (none_D, middle),
        "both": (mean_D, middle),
        "whitened, shrunk": (mean_D, shrunk.astype(np.float32)),
        "whitened, soft": (mean_D, soft.astype(np.float32)),
        "half whitened": (mean_D, quarter.astype(np.float32)),
    }


def search_scores(lab: Lab, model: nn.Module, name: str) -> dict[str, float]:
    """nDCG@10 of a domain's search, by map, alone and fused with BM25."""
    domain = lab.domain(name)
    texts = [*domain.queries, *domain.documents, *(passage.text for passage in domain.passages[:2000])]
    vectors_ND = lab.encode(model, texts, 256)
    count = len(domain.queries), len(domain.queries) + len(domain.documents)
    lexical_QN = bm25(domain)
    found = {}
    for title, (mean_D, matrix) in maps(vectors_ND[count[1] :], lab.head_VD).items():
        mapped = dev_tasks.unit((vectors_ND[: count[1]] - mean_D) @ matrix)
        scores_QN = mapped[: count[0]] @ mapped[count[0] :].T
        found[title] = float(domains.ndcg_at_10(scores_QN, domain).mean())
        found[f"{title} + BM25"] = float(domains.ndcg_at_10(fuse_scores(scores_QN, lexical_QN), domain).mean())
    return found


_BM25: dict[str, np.ndarray] = {}


def bm25(domain: domains.Domain) -> np.ndarray:
    """BM25's scores of every document for every query, computed once."""
    if domain.name not in _BM25:
        _BM25[domain.name] = domains.bm25_scores(domain, stemmed=False)
    return _BM25[domain.name]


def general_scores(
    lab: Lab, model: nn.Module, sample: Sequence[str], chosen: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Scores of the ten development tasks and their categories, by map."""
    if lab.tasks is None:
        lab.tasks = dev_tasks.Tasks(dev_tasks.read(lab.data / "mteb"))
    texts = lab.tasks.texts()
    vectors_ND = lab.encode(model, texts)
    row = {text: i for i, text in enumerate(texts)}
    found = {}
    every = maps(lab.encode(model, sample, 256), lab.head_VD)
    for title in chosen:
        mean_D, matrix = every[title]
        mapped = (vectors_ND - mean_D) @ matrix

        def vectors(wanted: Sequence[str], mapped: np.ndarray = mapped) -> np.ndarray:
            return mapped[[row[text] for text in wanted]]

        scores = {name: lab.tasks.score(name, vectors) for name in dev_tasks.CATEGORIES}
        found[title] = scores | dev_tasks.summary(scores)
    return found


def perform(lab: Lab, run: Run, out: Path) -> dict[str, Any]:
    """Trains and scores one run; the record of it."""
    started = time.monotonic()
    model = adapted(lab, run)
    losses = [train_stage(lab, model, run, stage, number) for number, stage in enumerate(run.stages)]
    if lab.device != "cpu":
        torch.cuda.synchronize()
    trained = time.monotonic()
    record: dict[str, Any] = {"run": asdict(run), "training_seconds": round(trained - started, 1), "results": {}}
    record["losses"] = [curve[:: max(1, len(curve) // 20)] + curve[-1:] for curve in losses]
    for strength in run.strengths if run.stages else (1.0,):
        set_strength(model, strength)
        result: dict[str, Any] = {"search": search_scores(lab, model, run.domain)}
        if run.general:
            sample = [passage.text for passage in lab.domain("wiki").passages[:2000]]
            chosen = ("as it is", "both") if strength == 1 else ("as it is",)
            result["general"] = general_scores(lab, model, sample, chosen)
        record["results"][str(strength)] = result
    record["seconds"] = round(time.monotonic() - started, 1)
    if any(math.isnan(value) for curve in losses for value in curve):
        record["diverged"] = True
    if run.save:
        state = {
            name: parameter.detach().to(torch.float16).cpu()
            for name, parameter in model.named_parameters()
            if "lora_" in name
        }
        torch.save(state, out / f"{run.name}.pt")
    model.unload()
    return record


def variants(base: Run, **changes: Sequence[Any]) -> list[Run]:
    """The run with one number of its last stage changed at a time."""
    found = []
    for name, values in changes.items():
        for value in values:
            stages = (*base.stages[:-1], replace(base.stages[-1], **{name: value}))
            label = "+".join(f"{k}{v:g}" for k, v in value.items()) if isinstance(value, dict) else value
            found.append(replace(base, name=f"{base.name} {name}={label}", stages=stages))
    return found
