"""Where a package is not installed, the verbs that need it say so in one line, and the others do not mind."""

from __future__ import annotations

import processes
import pytest
from tiny import SENTENCES, save_tiny

HIDDEN = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from selfembed.terminal.main import main
sys.exit(main(sys.argv[2:]))
"""


def without(modules: str, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit status, output and lines of error of a command where some modules are not installed."""
    run = processes.run(HIDDEN, modules, *arguments)
    return run.returncode, run.stdout, [line for line in run.stderr.splitlines() if line.startswith("selfembed")]


TEXT2TOKEN = ["train", "--recipe", "text2token", "--corpus", "python-docs", "--out", "o", "--model", "M"]


@pytest.mark.parametrize(
    ("modules", "arguments", "extra"),
    [
        ("mteb", ["evaluate", "folder", "--tasks", "STSBenchmark"], "eval"),
        ("pytrec_eval", ["compare", "a", "b", "--tasks", "STSBenchmark"], "eval"),
        ("matplotlib", ["explain", "folder", "--corpus", "python-docs", "--html", "page.html"], "explain"),
        (
            "HanTa",
            [*TEXT2TOKEN, "--tagger", "hanta"],
            "tagger",
        ),
        (
            "spacy",
            [*TEXT2TOKEN, "--tagger", "xx"],
            "spacy",
        ),
    ],
)
def test_one_line_that_says_what_to_install(modules, arguments, extra, tiny_backbone_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [str(tiny_backbone_dir) if argument == "M" else argument for argument in arguments]
    status, output, errors = without(modules, *given)
    assert (status, output) == (2, "")
    (line,) = errors
    assert line.startswith(f"selfembed: error: package {modules}: not installed; expected for ")
    assert line.endswith(f'run: pip install "selfembed[{extra}]"')
    assert not list(tmp_path.iterdir())


def test_training_needs_none_of_them_and_says_at_its_start_that_there_will_be_no_report(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(SENTENCES[:12]))
    raw = str(save_tiny("llama", tmp_path / "raw"))
    arguments = ["train", "--model", raw, "--corpus", str(file), "--out", str(tmp_path / "out"), "--dtype", "float32"]
    arguments += ["--recipe", "bag-of-tokens", "--steps", "2", "--batch-size", "4", "--max-length", "48"]
    hidden = "mteb,pytrec_eval,matplotlib,HanTa"
    status, output, (line,) = without(hidden, *arguments)
    assert status == 0 and f"embedder: {tmp_path / 'out'}" in output and "report:" not in output
    assert line.startswith("selfembed: no report will be left: package matplotlib is not installed; pip install ")
    status, output, errors = without(hidden, "explain", str(tmp_path / "out"), "A fox.", "-k", "3")
    assert (status, errors) == (0, []) and output.startswith("A fox.\n  raw backbone")
