"""The command line: bad input is one line and status 2; a run from start to explanation."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys

import pytest
import zstandard
from datasets import Dataset
from evaluation_data import labelled, pairs, write_jsonl
from runs import PROMPT, plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, save_tiny, save_tiny_embedder
from transformers import BertConfig

from selfembed.terminal.main import main, parser

FAST = ["--recipe", "text2token", "--steps", "2", "--batch-size", "4", "--max-length", "48", "--prompt", PROMPT]
FAST += ["--dtype", "float32"]


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(SENTENCES))
    return str(file)


def refused(arguments, capsys) -> str:
    """The message, once it is proven to be the only line, with status 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("selfembed: error: "), captured.err
    assert captured.out == ""
    return lines[0]


def test_encoder_as_model(texts, tmp_path, capsys):
    folder = tmp_path / "bert"
    BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32).save_pretrained(
        folder
    )
    train = ["train", "--model", str(folder), "--corpus", texts, "--out", str(tmp_path / "out")]
    assert "bert is not a decoder-only language model" in refused(train, capsys)
    assert "bert is not a decoder-only language model" in refused(["doctor", "--model", str(folder)], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--recipe", "nonsense"], "recipe 'nonsense'"),
        (["--set", "steps"], "expected NAME=VALUE"),
        (["--set", "colour=red"], "setting 'colour'"),
        (["--set", "lora.r=big"], "setting lora.r=big: expected a whole number"),
        (["--set", "data_driven.steps=inf"], "setting data_driven.steps=inf: expected a whole number"),
        (["--steps", "0"], "steps 0"),
        (["--stages", "third"], "stage 'third'"),
        (["--prompt", "no slot"], "exactly once"),
        (["--passage-words", "0"], "--passage-words"),
        (["--encoding", "klingon"], "encoding"),
        (["--tagger", "no_such_pipeline"], "no_such_pipeline"),
        (["--model", "/none/such"], "model /none/such"),
        (["--max-length", "3"], "the prompt alone takes"),
        (["--corpus", "/none/such.txt"], "/none/such.txt"),
        (["--writer", "embedded"], "--writer embedded: recipe text2token has no stage that reads written queries"),
        (["--writer", "/none/such", "--recipe", "selfembed"], "recipe selfembed: writer /none/such: no such folder"),
    ],
)
def test_bad_input(extra, message, texts, tiny_backbone_dir, tmp_path, capsys):
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", texts, "--out", str(tmp_path / "out")]
    assert message in refused([*arguments, *FAST, "--tagger", "hanta", *extra], capsys)
    assert not (tmp_path / "out").exists()


def test_an_embedder_needs_another_writer(texts, tmp_path, capsys):
    ready = save_tiny_embedder("bert", tmp_path / "ready")
    train = ["train", "--model", str(ready), "--corpus", texts, "--no-report", "--out", str(tmp_path / "out")]
    message = refused([*train, "--set", "written=1"], capsys)
    assert "an embedder already, which writes no queries; expected a language model that does; use --writer" in message


def test_a_writer_and_hard_negatives(texts, tiny_backbone_dir, tmp_path, capsys, monkeypatch):
    writes = "selfembed.objectives.written_queries.write_queries"
    monkeypatch.setattr(writes, lambda writer, passages, **options: [text.partition(" ")[2] for text in passages])
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", texts, *FAST, "--recipe", "selfembed"]
    arguments += ["--writer", str(tiny_backbone_dir), "--set", "parts=0", "--set", "calibration_pairs=12"]
    arguments += ["--set", "negatives=1", "--no-report"]
    assert main([*arguments, "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out.partition("\ncorpus: ")[0])
    objective = plan["recipe"]["stages"]["text_pairs"]["objective"]
    assert objective["writer"] == str(tiny_backbone_dir) and objective["written"] == 1.0
    assert not (tmp_path / "cache" / "queries").exists(), "nothing is written for an estimate"
    assert main([*arguments, "--set", "written=0.5", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    wrote = re.search(
        r"^text_pairs: \S+ wrote for (\d+) passages, and (\d+) queries \(100%\) find theirs$", shown, re.M
    )
    assert 0 < int(wrote[1]) == int(wrote[2]) <= 8
    mined = re.findall(r"(\d+) pairs with [01]", shown.partition("text_pairs: hard negatives: ")[2])
    assert sum(map(int, mined)) == 8
    record = json.loads((tmp_path / "out" / "selfembed.json").read_text())
    assert record["recipe"]["stages"]["text_pairs"]["objective"]["written"] == 0.5


def test_message_after_progress_bars_has_a_line_of_its_own(texts, tiny_backbone_dir, tmp_path, capsys):
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", texts, *FAST, "--tagger", "hanta"]
    assert main([*arguments, "--set", "lora.targets=nowhere", "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("selfembed: error: LoRA targets nowhere")
    assert sum("selfembed: error" in line for line in lines) == 1
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"good text\n\n" * 2000 + b"\xff\xfe bad")
    arguments[arguments.index(texts)] = str(bad)
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("selfembed: error: ") and "bad.txt" in lines[-1]


def test_corpus_without_texts(tiny_backbone_dir, tmp_path, capsys):
    folder, empty = tmp_path / "folder", tmp_path / "empty.txt"
    folder.mkdir()
    empty.write_text("")
    for source in (folder, empty):
        arguments = [
            "train",
            "--model",
            str(tiny_backbone_dir),
            "--corpus",
            str(source),
            "--out",
            str(tmp_path / "out"),
        ]
        assert str(source) in refused(arguments, capsys)


def test_output_missing_or_taken(texts, tiny_backbone_dir, tmp_path, capsys):
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", texts, *FAST, "--tagger", "hanta"]
    assert "--out: missing" in refused(arguments, capsys)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    assert "exists already" in refused([*arguments, "--out", str(tmp_path / "out")], capsys)


def test_explain_refuses_what_it_did_not_make(tiny_backbone_dir, tmp_path, capsys):
    assert "has no modules.json" in refused(["explain", str(tiny_backbone_dir), "text"], capsys)
    assert "-k 0" in refused(["explain", str(tiny_backbone_dir), "text", "-k", "0"], capsys)
    assert "text 1: empty" in refused(["explain", str(tiny_backbone_dir), " "], capsys)


def test_out_of_memory_is_one_line_and_other_errors_are_not_hidden(tiny_backbone_dir, capsys, monkeypatch):
    import selfembed.doctor

    def fail(message):
        def examine(*_, **__):
            raise RuntimeError(message)

        monkeypatch.setattr(selfembed.doctor, "examine", examine)

    fail("CUDA out of memory. Tried\nto allocate")
    assert "try a smaller model" in refused(["doctor", "--model", str(tiny_backbone_dir)], capsys)
    fail("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        main(["doctor", "--model", str(tiny_backbone_dir)])


def test_train_explain_and_doctor(texts, tmp_path, capsys):
    raw = str(save_tiny("llama", tmp_path / "raw", tied=False))
    out = str(tmp_path / "out")
    train = ["train", "--model", raw, "--corpus", texts, *FAST, "--tagger", "hanta", "--set", "lora.r=2"]
    assert main([*train, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert "nothing was trained" in dry and '"r": 2' in dry and "data_driven: 8 texts" in dry
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    assert main([*train, "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "data_driven: 8 texts, loss" in printed and "model_derived: 8 texts, loss" in printed
    assert SentenceTransformer(out, device="cpu").encode(["Fox."]).shape == (1, 32)
    assert main(["explain", out, SENTENCES[0], "-k", "3", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["texts"]
    assert row["text"] == SENTENCES[0] and len(row["raw"]) == len(row["trained"]) == 3
    assert row["raw"][0]["probability"] >= row["raw"][1]["probability"]
    assert [token["probability"] for token in row["raw"]] != [token["probability"] for token in row["trained"]]
    assert main(["explain", out, "Fox.", "-k", "3"]) == 0
    assert capsys.readouterr().out.startswith("Fox.\n  raw backbone")
    assert main(["explain", out, *SENTENCES[:2], "-k", "3"]) == 0
    assert "Why the embedder finds these two alike" in capsys.readouterr().out
    assert main(["explain", out, "--corpus", texts, "--sample", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hit_miss"]["raw"]["texts"] == 20 and found["spectrum"]["trained"]["effective_rank"] > 1
    assert found["hit_miss"]["raw"]["k"] == 10 and found["spectrum"]["raw"]["alignment"] > 0
    assert main(["explain", out, "--corpus", texts, "--sample", "20", "-k", "3"]) == 0
    assert "their top 3 aligned tokens" in capsys.readouterr().out
    assert "k 9999: expected 1 to" in refused(["explain", out, "Fox.", "-k", "9999"], capsys)
    assert main(["explain", out, "-k", "2"]) == 0
    shown = capsys.readouterr().out
    assert all(subject in shown for subject in ("Noori", "Ballarat", "Workman", "Henry Cow"))
    assert main(["doctor", "--model", raw]) == 0
    assert "ready, with causal or bidirectional attention" in capsys.readouterr().out


def test_a_mixture_by_name(tiny_backbone_dir, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n\n".join([*SENTENCES[:7], "and or but"]))
    train = ["train", "--model", str(tiny_backbone_dir), "--corpus", str(tmp_path / "texts.txt"), "--no-report"]
    train += ["--recipe", "text2token.data_driven*0.5+bag-of-tokens", "--steps", "2", "--batch-size", "4"]
    train += ["--max-length", "48", "--dtype", "float32", "--tagger", "hanta", "--out", str(tmp_path / "out")]
    assert main([*train, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert '"name": "text2token.data_driven*0.5 + bag-of-tokens"' in dry and '"data_driven": 0.5' in dry
    assert "data_driven+bag_of_tokens: 8 texts" in dry
    assert main(train) == 0
    printed = capsys.readouterr().out
    assert "data_driven+bag_of_tokens: 7 texts, loss" in printed and ", 1 texts had no target" in printed
    assert "data_driven+bag_of_tokens, of it data_driven: loss" in printed and "of it bag_of_tokens: loss" in printed


def test_importing_the_command_line_is_light():
    heavy = "[name for name in ('torch', 'transformers', 'datasets') if name in sys.modules]"
    code = f"import sys, selfembed, selfembed.terminal.main; sys.exit(str({heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stderr.strip() == "[]"


def test_help_and_usage_errors(capsys):
    for arguments, status in ((["--help"], 0), (["train", "--help"], 0), ([], 2), (["explain"], 2)):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == status
    capsys.readouterr()


ROW = {"query": "who guards the lamp", "positive": "the keeper", "negative": "the fox"}
COMPRESS = ["--set", "memory_tokens=3", "--steps", "2", "--batch-size", "4", "--set", "micro_batch_size=2"]
COMPRESS += ["--max-length", "40", "--dtype", "float32", "--no-report"]


@pytest.mark.parametrize(
    ("content", "extra", "message"),
    [
        ([{"query": "q", "negative": "n"}], [], "nli.jsonl: no column 'positive' or 'answer' or 'pos' among"),
        ([ROW, {"query": "q", "positive": "p"}], [], "nli.jsonl: row 2 has None as 'negative_1'; expected a text"),
        ([ROW, {**ROW, "negative": "the keeper"}], [], "row 2 has its positive as a negative too ('the keeper')"),
        ("", [], "nli.jsonl: has no rows; expected at least one example"),
        ('{"query": "q", "posi', [], "nli.jsonl', line 1: malformed JSON"),
        (
            [{**ROW, "positive": text} for text in SENTENCES],
            [],
            "--batch-size 4: the pairs have 60 rows, and no text may",
        ),
        (None, ["--recipe", "bag-of-tokens", "--set", "memory_tokens=0"], "--pairs: recipe bag-of-tokens has"),
        (None, ["--recipe", "llm2comp-unsup"], "pairs: recipe llm2comp-unsup has no stage that reads"),
        (None, ["--instruction", "quora=Find it"], "instruction 'quora': no pairs of that name; expected one of nli"),
        (None, ["--instruction", "nli"], "--instruction nli: expected NAME=VALUE"),
        (None, ["--instruction", "nli="], "instruction 'nli': empty"),
        (None, ["--dev", "dev.jsonl"], "dev.jsonl: there is no such file"),
        (None, ["--set", "memory_tokens=0"], "memory_tokens 0: expected at least 1 for pooling 'memory'"),
        (None, ["--set", "refresh_every=0"], "refresh_every 0: expected at least 1"),
        (None, ["--stages", "labels"], "stage 'labels': expected one of compression, two_views, supervised of"),
    ],
)
def test_bad_pairs(content, extra, message, tiny_backbone_dir, tmp_path, capsys):
    file = tmp_path / "nli.jsonl"
    if isinstance(content, str):
        file.write_text(content)
    else:
        write_jsonl(file, content or [{**ROW, "query": text[:20], "positive": text} for text in SENTENCES])
    arguments = ["train", "--model", str(tiny_backbone_dir), "--recipe", "llm2comp", "--pairs", str(file), *COMPRESS]
    assert message in refused([*arguments, "--out", str(tmp_path / "out"), *extra], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["nli.jsonl"]


def test_labels_are_missing(tiny_backbone_dir, tmp_path, texts, capsys):
    arguments = ["train", "--model", str(tiny_backbone_dir), "--out", str(tmp_path / "out")]
    assert "--corpus: missing" in refused(arguments, capsys)
    message = refused([*arguments, "--recipe", "llm2comp-small", "--corpus", texts], capsys)
    assert "give them (--pairs FILE), or use llm2comp-unsup-small, which needs none" in message


def test_pairs_alone_do(tiny_backbone_dir, tmp_path, capsys):
    file = write_jsonl(tmp_path / "nli.jsonl", [{"query": text[:20], "positive": text} for text in SENTENCES])
    arguments = ["train", "--model", str(tiny_backbone_dir), "--recipe", "llm2comp", "--stages", "supervised"]
    arguments += ["--pairs", str(file), "--dev", str(file), "--instruction", "nli=Find the rest", *COMPRESS]
    arguments += ["--set", "false_negative_margin=0.1"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "supervised: 60 texts, loss" in shown and "supervised: dev ndcg@10" in shown
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from 60 labelled pairs of `nli`.\n" in card and "`Find the rest: QUERY`" in card
    folder = SentenceTransformer(str(tmp_path / "out"), device="cpu", trust_remote_code=True)
    assert folder.encode(["Fox."]).shape == (1, 32)


def test_texts_too_short_to_split(tiny_backbone_dir, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join([*SENTENCES[:6], "a", "b"]))
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", str(file), *COMPRESS]
    arguments += ["--recipe", "llm2comp-unsup", "--stages", "compression", "--out", str(tmp_path / "out")]
    bounds = ["--set", "min_context=3", "--set", "min_continuation=3"]
    message = failed([*arguments, "--set", "min_context=90"], capsys)
    assert "8 texts can be split; expected 100 tokens; give longer texts, or lower --set min_context" in message
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]
    assert main([*arguments, *bounds]) == 0
    assert "compression: 6 texts, loss" in (shown := capsys.readouterr().out)
    assert "2 texts were too short" in shown


def test_a_backbone_without_bos(texts, tmp_path, capsys):
    raw = save_tiny("llama", tmp_path / "raw")
    settings = json.loads((raw / "tokenizer_config.json").read_text())
    settings.pop("bos_token")
    (raw / "tokenizer_config.json").write_text(json.dumps(settings))
    arguments = ["train", "--model", str(raw), "--corpus", texts, *COMPRESS, "--recipe", "llm2comp-unsup"]
    arguments += ["--set", "min_context=2", "--set", "min_continuation=2"]
    assert "no beginning-of-sequence token" in failed([*arguments, "--out", str(tmp_path / "out")], capsys)
    assert not list(tmp_path.glob("out*"))


def failed(arguments, capsys) -> str:
    """The message, which is the only one, though progress bars may stand above it."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("selfembed: error: ") and sum("error" in line for line in lines) == 1, lines
    return lines[-1]


def test_loss_that_is_not_a_number(texts, tiny_backbone_dir, tmp_path, capsys):
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", texts, *FAST, "--tagger", "hanta"]
    arguments += ["--steps", "20", "--learning-rate", "1e30", "--set", "warmup=0", "--out", str(tmp_path / "out")]
    assert "diverged" in failed(arguments, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n".join(["!!! ... ???", "--- ,,, ;;;", "()()()"]), "key token"),
        ("\n\n".join(["\U0001f600 \U0001f389", "\U0001f680\U0001f680", "\u2764\ufe0f"]), "key token"),
        ("\n\n \n\n\t\n", "texts.txt"),
        ("good text\n\nbad \x00 text\n\n", "NUL"),
    ],
    ids=["punctuation", "emoji", "white space", "NUL"],
)
def test_texts_that_cannot_teach(text, message, tiny_backbone_dir, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text(text)
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", str(file), *FAST, "--tagger", "hanta"]
    assert message in failed([*arguments, "--out", str(tmp_path / "out")], capsys)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", ["texts.txt.gz", "texts.txt.zst", "texts.parquet"])
def test_truncated_corpus(name, tiny_backbone_dir, tmp_path, capsys):
    file = tmp_path / name
    if name.endswith("parquet"):
        Dataset.from_dict({"text": SENTENCES}).to_parquet(file)
    else:
        data = "\n\n".join(SENTENCES).encode()
        file.write_bytes(gzip.compress(data) if name.endswith("gz") else zstandard.compress(data))
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", str(file), *FAST, "--tagger", "hanta"]
    assert main([*arguments, "--dry-run"]) == 0
    capsys.readouterr()
    file.write_bytes(file.read_bytes()[:-200])
    assert name in failed([*arguments, "--out", str(tmp_path / "out")], capsys)


def test_hub_id_that_cannot_be_had(texts, tmp_path, capsys):
    message = failed(["train", "--model", "nobody/nothing", "--corpus", texts, "--out", str(tmp_path / "out")], capsys)
    assert "model nobody/nothing: no such folder or file, and the hub did not give it" in message


def test_one_very_long_line_and_a_text_without_key_token(tiny_backbone_dir, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text("word fox river " * 70_000 + "\n\nand or but\n\n" + "\n\n".join(SENTENCES[:8]))
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", str(file), *FAST, "--tagger", "hanta"]
    assert main([*arguments, "--limit", "3000", "--out", str(tmp_path / "out")]) == 0
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(["Fox."]).shape == (1, 32)


def test_targets(texts, tiny_backbone_dir, capsys):
    arguments = ["targets", "--model", str(tiny_backbone_dir), "--corpus", texts, *FAST, "--tagger", "hanta"]
    assert main([*arguments, "--texts", "20", "--show", "2"]) == 0
    shown = capsys.readouterr().out
    assert "== data_driven ==" in shown and "== model_derived ==" in shown
    assert "median entropy" in shown and "weight on punctuation" in shown
    assert main([*arguments, "--texts", "20", "--json"]) == 0
    views = json.loads(capsys.readouterr().out)
    assert [view["stage"] for view in views] == ["data_driven", "model_derived"]
    assert main([*arguments, "--texts", "20", "--recipe", "bag-of-tokens"]) == 0
    assert "== bag_of_tokens ==" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tiny_embedder_dir(tiny_backbone_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedder")
    plain_embedder(tiny_backbone_dir)[0].save(str(folder), create_model_card=False)
    return folder


def test_evaluate_on_own_data(tiny_embedder_dir, tmp_path, capsys):
    sts = write_jsonl(tmp_path / "pairs.jsonl", pairs())
    texts = write_jsonl(tmp_path / "labelled.jsonl", labelled())
    arguments = ["evaluate", str(tiny_embedder_dir), "--sts", str(sts), "--clustering", str(texts)]
    assert main([*arguments, "--self-retrieval", str(texts)]) == 2
    assert "self" in capsys.readouterr().err.lower()
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "pairs" in shown and "labelled" in shown and "per category" in shown
    assert main([*arguments, "--json", "--name", "mine"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["embedder"] == "mine"
    assert {score["name"] for score in found["scores"]} == {"pairs", "labelled"}
    assert found["settings"]["pooling"] == "lasttoken" and found["average"]["tasks"] > 0


def test_compare(tiny_embedder_dir, tmp_path_factory, tmp_path, capsys):
    other = tmp_path_factory.mktemp("embedder")
    plain_embedder(save_tiny("llama", tmp_path / "raw", seed=5))[0].save(str(other), create_model_card=False)
    sts = write_jsonl(tmp_path / "pairs.jsonl", pairs())
    arguments = ["compare", str(tiny_embedder_dir), str(other), "--sts", str(sts), "--resamples", "100"]
    assert main(arguments) == 0
    assert "pairs" in capsys.readouterr().out
    for form, start in (("--markdown", "| task"), ("--html", "<!doctype html>"), ("--json", "{")):
        assert main([*arguments, form]) == 0
        assert capsys.readouterr().out.lower().startswith(start), form


def test_options_given_twice_add_up():
    options = ["--tasks", "a", "b", "--tasks", "c", "--self-retrieval", "x", "--self-retrieval", "y"]
    found = parser().parse_args(["evaluate", "folder", *options])
    assert found.tasks == ["a", "b", "c"] and found.self_retrieval == ["x", "y"]


def test_out_of_memory_in_evaluate_names_its_own_option(capsys, monkeypatch):
    import selfembed.evaluation.run

    def fail(*_, **__):
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(selfembed.evaluation.run, "evaluate", fail)
    assert refused(["evaluate", "folder", "--tasks", "t"], capsys).endswith("try a smaller --batch-size")


def test_self_retrieval_takes_titles(tiny_embedder_dir, tmp_path, capsys):
    rows = [{"title": f"Title {i}", "text": f"{text} {SENTENCES[i + 9]}"} for i, text in enumerate(SENTENCES[:9])]
    file = write_jsonl(tmp_path / "titled.jsonl", rows)
    assert main(["evaluate", str(tiny_embedder_dir), "--self-retrieval", str(file)]) == 0
    assert "data of SelfRetrieval, own data: 9 queries, 9 documents" in capsys.readouterr().out


def test_evaluate_refuses_unknown_tasks(tiny_embedder_dir, capsys):
    assert "STSBenchmark" in refused(["evaluate", str(tiny_embedder_dir), "--tasks", "STSBenchmarks"], capsys)
    assert "MTEB(eng, v2)" in refused(["evaluate", str(tiny_embedder_dir), "--benchmark", "MTEB(eng,v2)"], capsys)
    assert "expected something to evaluate on" in refused(["evaluate", str(tiny_embedder_dir)], capsys)


def test_calibrate_prints_every_map_and_leaves_a_folder(tmp_path, capsys):
    model = save_tiny("llama", tmp_path / "model")
    texts = [f"{one} {other}" for one, other in zip(SENTENCES[:30], SENTENCES[30:60], strict=True)]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts))
    arguments = ["calibrate", str(model), "--corpus", str(tmp_path / "texts.txt"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "<- chosen" in printed and "as it is" in printed and (tmp_path / "out" / "modules.json").exists()
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
