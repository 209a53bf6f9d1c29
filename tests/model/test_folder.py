"""The record of a run: written, read, and refused in one line where it is damaged."""

from __future__ import annotations

import json

import pytest
from runs import run_record

from selfembed.errors import InputError
from selfembed.model.folder import RECORD, RunRecord, StageRecord

STAGE = {
    "name": "data_driven",
    "texts": 12,
    "targets": {"support_mean": 3.5},
    "resumed_from": None,
    "preparation_seconds": 0.5,
    "training_seconds": 2,
    "loss_curve": [{"step": 1, "loss": 2.5, "grad_norm": 1.0}, {"step": 2, "loss": 2.0}],
}


def record(**changes) -> RunRecord:
    stage = StageRecord.from_dict(STAGE)
    return run_record(stages=[stage, stage], peak_gpu_memory_gib=2.5, pairs=[{"name": "nli", "rows": 3}], **changes)


def test_round_trip(tmp_path):
    written = record(saved_dtype="float32")
    written.to_file(tmp_path / RECORD)
    assert RunRecord.of_folder(tmp_path) == RunRecord.from_file(tmp_path / RECORD) == written
    value = json.loads((tmp_path / RECORD).read_text())
    assert value["stages"][0] == STAGE, "an objective's own notes stand among the other keys"
    assert "dev" not in value and value["pairs"] == [{"name": "nli", "rows": 3}]
    assert written.seconds == 5.0 and written.stages[0].losses == [2.5, 2.0]
    assert written.stages[0].notes == {"targets": {"support_mean": 3.5}, "resumed_from": None}
    assert (written.config.pooling, written.config.attention) == ("last", "causal")


def test_folder_without_a_record(tmp_path):
    assert RunRecord.of_folder(tmp_path) is None
    assert RunRecord.of_folder("owner/name-of-the-hub") is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["colour"], "red", ": unknown 'colour'"),
        (["seed"], None, ": no 'seed'"),
        (["seed"], "0", ', seed: "0" instead of a whole number'),
        (["seed"], True, ", seed: true instead of a whole number"),
        (["model"], 3, ", model: 3 instead of a string"),
        (["peak_memory_gib"], [], r", peak_memory_gib: \[\] instead of a number"),
        (["peak_gpu_memory_gib"], "much", ', peak_gpu_memory_gib: "much" instead of a number'),
        (["stages"], {}, ", stages: {} instead of a list"),
        (["stages", 1], 7, ", stages: 7 instead of an object"),
        (["stages", 1, "texts"], None, ", stages: no 'texts'"),
        (["stages", 1, "loss_curve", 0], {"step": 1}, ", stages: a step of loss_curve has no loss"),
        (["corpus_report", "words"], None, ", corpus_report: no 'words'"),
        (["recipe"], "text2token", ', recipe: "text2token" instead of an object'),
        (["recipe", "embedder", "colour"], "red", ", recipe.embedder: .*unexpected keyword argument 'colour'"),
        (["recipe", "embedder", "pooling"], "cls", ", recipe.embedder: pooling 'cls': expected"),
        (["recipe", "lora", "r"], None, ", recipe.lora: no 'r'"),
        (["recipe", "stages", "data_driven", "objective"], {}, ", recipe.stages.data_driven.objective: no 'kind'"),
    ],
)
def test_damaged_record_is_one_clear_line(path, value, message, tmp_path):
    damaged = json.loads(json.dumps(record().to_dict()))
    *above, last = path
    holder = damaged
    for key in above:
        holder = holder[key]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    (tmp_path / RECORD).write_text(json.dumps(damaged))
    with pytest.raises(InputError, match=f"^{tmp_path / RECORD}{message}") as refused:
        RunRecord.of_folder(tmp_path)
    line = str(refused.value)
    assert "\n" not in line and "; expected what this version of selfembed train has written; restore the file" in line


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\xff"])
def test_file_that_is_no_json(content, tmp_path):
    (tmp_path / RECORD).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=rf"^{tmp_path / RECORD}: .*; expected what this version"):
        RunRecord.of_folder(tmp_path)
