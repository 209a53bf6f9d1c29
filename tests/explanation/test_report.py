"""The report: what a page on a finished embedder shows, that it stands by itself, and that it costs no embedder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_data import pairs, write_jsonl
from runs import PROMPT, short_train
from tiny import SENTENCES, save_tiny

from selfembed import Corpus
from selfembed.errors import InputError
from selfembed.evaluation.own_data import sts_task
from selfembed.evaluation.run import evaluate
from selfembed.explanation.aligned_tokens import aligned_tokens, load_explained
from selfembed.explanation.hit_miss import hit_miss
from selfembed.explanation.memory_tokens import correlate_memory, memory_words, read_memory
from selfembed.explanation.report import plots
from selfembed.explanation.report.build import build_report
from selfembed.explanation.report.write import write_report
from selfembed.explanation.spectrum import compare_spectra
from selfembed.ground.page import fill, page, plain
from selfembed.recipes import choose_stages, find_recipe
from selfembed.targets.tagger import Tagger, load_tagger
from selfembed.terminal.main import main
from selfembed.training.run import train

EVIL = '<script>alert(1)</script> & "quoted" <img src=x onerror=alert(2)> fox river http://example.org/x'
COMPRESSION = {"min_context": 2, "min_continuation": 2, "memory_tokens": 3, "learning_rate": 1e-4}
COMPRESSION |= {"steps": 2, "batch_size": 4, "max_length": 48, "embed_length": 64}
SECTIONS = ["recipe", "losses", "targets", "tokens", "hits", "space", "scores"]


class Page(HTMLParser):
    """Tags, attributes and text of a page, by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.sections: dict[str, str] = {}
        self.graphics: dict[str, int] = {}
        self.text = ""
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "section":
            self._section = dict(attrs)["id"]
            self.sections[self._section] = ""
        self.graphics[self._section] = self.graphics.get(self._section, 0) + (tag == "svg")

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._section:
            self.sections[self._section] += data


@pytest.fixture(scope="module", autouse=True)
def float32():
    """As the explanations compute, so that numbers can be compared; a report takes what is fastest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("selfembed.explanation.report.build.best_dtype", lambda device: torch.float32)
        yield


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("report") / "raw", tied=False)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(iter([*SENTENCES, EVIL]))


@pytest.fixture(scope="module")
def embedder(backbone: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "<b>mine</b>"
    short_train(backbone, out, corpus=corpus)
    return out


@pytest.fixture(scope="module")
def html(embedder: Path, corpus: Corpus) -> str:
    return build_report(embedder, corpus)


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    """Loading one takes a second."""
    return load_tagger("hanta")


def test_page_stands_by_itself(html: str) -> None:
    found = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "base", "b"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name == "src" or name.startswith("on")]
    references = [value for name, value in found.attributes if name.endswith("href")]
    references += re.findall(r"url\(([^)]*)\)", html)
    assert references and all(value.startswith("#") for value in references)
    assert "@import" not in html and "<!DOCTYPE html>" in html[:20]
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(set(ids)) == len(ids) > 100
    assert {value.removeprefix("#") for value in references} <= set(ids)
    assert "prefers-color-scheme: dark" in html
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b|(?<=: )(black|white)\b", drawn), "a colour that does not follow the page's"


def html_of(html: str, section: str) -> str:
    return html.partition(f'<section id="{section}">')[2].partition("</section>")[0]


def test_sections_show_the_run(html: str, embedder: Path, corpus: Corpus) -> None:
    found = Page(html)
    record = json.loads((embedder / "selfembed.json").read_text())
    assert list(found.sections) == SECTIONS
    assert [found.graphics.get(name, 0) for name in SECTIONS] == [0, 2, 0, 0, 2, 2, 0]
    for fact in (record["model_fingerprint"][:12], "text2token", PROMPT, "seed 0", "61 texts", "hanta:en"):
        assert fact in found.sections["recipe"], fact
    for stage in record["stages"]:
        assert f"{stage['name']}: {stage['texts']} texts" in found.sections["losses"]
        first, last = (f"{stage['loss_curve'][i]['loss']:.3f}" for i in (0, -1))
        assert f'aria-label="loss of 3 steps, from {first} to {last}"' in html
        assert stage["name"] in found.sections["targets"]
    assert found.sections["targets"].count("without a target") == 2
    frames = {
        name: set(re.findall(r'class="(token(?: \w+)?)"', html_of(html, name))) for name in ("targets", "tokens")
    }
    assert frames == {"targets": {"token"}, "tokens": {"token hit", "token miss"}}, "only aligned tokens hit or miss"
    assert "No scores: let selfembed evaluate score" in found.sections["scores"]


def test_numbers_are_those_of_explain(html: str, embedder: Path, corpus: Corpus) -> None:
    """Against the explanations' own functions on the embedder itself, which encode anew."""
    explained = load_explained(embedder)
    rng = np.random.default_rng(0).permutation(61)
    texts = [list(corpus)[i] for i in rng]
    found = Page(html)
    raw, trained = (
        hit_miss(aligned_tokens(side, explained.head, explained.tokenizer, texts))
        for side in (explained.raw, explained.embedder)
    )
    assert re.search(rf"\nhits{raw.hits}\s+{trained.hits}\s", found.sections["hits"])
    assert f"raw: {list(raw.histogram)}; trained: {list(trained.histogram)}" in html
    space = compare_spectra(*(side.encode(texts) for side in (explained.raw, explained.embedder)))
    assert f"{space.raw.anisotropy:.3f}" in found.sections["space"]
    assert f"{space.trained.uniformity:.3f}" in found.sections["space"]
    for measure in ("Effective rank", "Participation ratio", "Anisotropy", "Uniformity", "Alignment", "Moved by"):
        assert measure in found.sections["space"], "every number is defined"
    top = aligned_tokens(explained.embedder, explained.head, explained.tokenizer, texts[:1])[0][0]
    assert f"{top.probability:.1%}" in found.sections["tokens"]
    assert plain(texts[0])[:40] in found.sections["tokens"]


def test_text_from_the_corpus_is_text(embedder: Path, tagger: Tagger) -> None:
    found = Page(build_report(embedder, Corpus(iter([EVIL, SENTENCES[0], SENTENCES[1]])), tagger=tagger))
    assert found.sections["tokens"].count(EVIL) == 1 and EVIL in found.sections["targets"]
    assert "<b>mine</b>" in found.text and "b" not in found.tags


def test_scores_with_their_table(embedder: Path, corpus: Corpus, tagger: Tagger, tmp_path: Path) -> None:
    task = sts_task(write_jsonl(tmp_path / "pairs.jsonl", pairs()))
    scores = evaluate(embedder, own=[task], cache=False)
    (embedder / "scores.json").write_text(json.dumps(scores.to_dict()))
    try:
        found = Page(build_report(embedder, corpus, texts=8, tagger=tagger))
    finally:
        (embedder / "scores.json").unlink()
    value = f"{scores.scores[0].score:.2f}"
    assert value in found.sections["scores"] and "pairs" in found.sections["scores"] and found.graphics["scores"] == 1
    assert "not of this embedder" not in found.sections["scores"]
    other = scores.to_dict() | {"embedder": "<i>other</i>", "embedder_hash": "0" * 64}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "own.json").write_text(json.dumps(scores.to_dict()))
    alone = Page(build_report(embedder, corpus, texts=8, tagger=tagger, scores=[tmp_path / "other.json"]))
    assert "not of this embedder" in alone.sections["scores"]
    other["settings"] = {**other["settings"], "run": None}
    (tmp_path / "other.json").write_text(json.dumps(other))
    both = Page(
        build_report(embedder, corpus, texts=8, tagger=tagger, scores=[tmp_path / "other.json", tmp_path / "own.json"])
    )
    assert "<i>other</i>" in both.sections["scores"] and "interval" in both.sections["scores"]
    assert "i" not in both.tags
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(InputError, match="is no file of scores"):
        build_report(embedder, corpus, scores=[tmp_path / "none.json"])


def test_folder_without_a_record(embedder: Path, backbone: Path, corpus: Corpus, html: str, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    for file in embedder.rglob("*"):
        target = folder / file.relative_to(embedder)
        target.mkdir() if file.is_dir() else target.write_bytes(file.read_bytes())
    (folder / "selfembed.json").unlink()
    with pytest.raises(InputError, match="name it \\(`model`\\)"):
        build_report(folder, corpus)
    found, known = Page(build_report(folder, corpus, model=backbone)), Page(html)
    for name in ("recipe", "losses", "targets"):
        assert "The folder has no selfembed.json" in found.sections[name]
    for name in ("tokens", "hits", "space"):  # read as the finished folder reads: the same numbers
        assert found.sections[name] == known.sections[name]
    other = save_tiny("llama", tmp_path / "other", tied=False, hidden_size=64)
    with pytest.raises(InputError, match="its weights do not fit"):
        build_report(folder, corpus, model=other)
    with pytest.raises(InputError, match="so it is none"):
        build_report(tmp_path, corpus, model=backbone)


def test_what_cannot_be_shown_is_said(embedder: Path, tmp_path: Path) -> None:
    """A stage without token targets, one with options of another version, a tagger that is not there, short texts."""
    record_file = embedder / "selfembed.json"
    kept = record_file.read_text()
    record = json.loads(kept)
    stages = record["recipe"]["stages"]
    stages["contrast"] = {**stages["data_driven"], "objective": {"kind": "Contrast"}}
    stages["model_derived"]["objective"]["colour"] = "red"
    record["tagger"] = "spacy:en_none-1+spacy-3"
    record_file.write_text(json.dumps(record))
    try:
        found = Page(build_report(embedder, Corpus(iter(["A fox.", "A river runs."]))))
    finally:
        record_file.write_text(kept)
    shown = found.sections["targets"]
    assert "objective Contrast: expected one of" in shown and "colour" in shown and "en_none" in shown
    assert "No alignment" in found.sections["space"]


def test_sample_is_bounded(embedder: Path, corpus: Corpus, tagger: Tagger) -> None:
    assert "Measured on 20 texts" in build_report(embedder, corpus, texts=20, tagger=tagger)
    assert "Measured on 2 texts" in build_report(embedder, corpus, tokens=1, tagger=tagger)
    (number,) = map(
        int, re.findall(r"Measured on (\d+) texts", build_report(embedder, corpus, tokens=300, tagger=tagger))
    )
    tokenizer = load_explained(embedder).embedder.tokenizer
    lengths = [len(tokenizer(list(corpus)[i])["input_ids"]) for i in np.random.default_rng(0).permutation(61)]
    assert sum(lengths[:number]) <= 300 < sum(lengths[: number + 1])
    with pytest.raises(InputError, match="at least 2"):
        build_report(embedder, Corpus(iter(["one text", "one text"])))


def test_memory_tokens_have_a_section(html: str, backbone: Path, corpus: Corpus, tmp_path: Path, monkeypatch) -> None:
    recipe = choose_stages(find_recipe("llm2comp-unsup"), ["compression"])
    out = tmp_path / "compressed"
    train(backbone, corpus, recipe, out=out, settings=COMPRESSION, dtype="float32", device="cpu")
    assert "Warning" not in Page(build_report(out, corpus, texts=8)).sections["memory"]
    monkeypatch.setattr("selfembed.explanation.memory_tokens.COPIES", 0.4)  # these tokens are not that much alike
    found = Page(build_report(out, corpus))
    assert "memory" not in Page(html).sections and "Memory tokens" not in html
    assert list(found.sections) == [*SECTIONS[:4], "memory", *SECTIONS[4:]]
    explained = load_explained(out)
    texts = [list(corpus)[i] for i in np.random.default_rng(0).permutation(61)]
    read = read_memory(explained.embedder, texts)
    correlation = correlate_memory(read.states_NKD)
    assert correlation.warning in found.sections["memory"] and found.graphics["memory"] == 1
    assert all(f"{value:.2f}" in found.sections["memory"] for row in correlation.matrix for value in row)
    shown = memory_words(read, explained.head, explained.tokenizer, texts, k=10)[:2]
    for words in shown:
        for tokens in (words.pooled, *words.memory):
            assert f"{tokens[0].probability:.1%}" in found.sections["memory"]
    assert found.sections["memory"].count("memory 3") == 2 and "memory 4" not in found.sections["memory"]
    space = compare_spectra(*(side.encode(texts) for side in (explained.raw, explained.embedder)))
    assert f"{space.trained.effective_rank:.1f}" in found.sections["space"], "vectors are those of the embedder"
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(set(ids)) == len(ids)


def test_command_line(embedder: Path, backbone: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(SENTENCES))
    train: list[Any] = ["train", "--recipe", "text2token", "--model", str(backbone), "--corpus", str(texts)]
    train += ["--tagger", "hanta", "--steps", "2"]
    train += ["--batch-size", "4", "--max-length", "48", "--prompt", PROMPT, "--stages", "data_driven"]
    assert main([*train, "--out", str(tmp_path / "with")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert Page((tmp_path / "with" / "report.html").read_text()).graphics["losses"] == 1
    assert main([*train, "--out", str(tmp_path / "without"), "--no-report"]) == 0
    assert not (tmp_path / "without" / "report.html").exists()
    assert "report" not in capsys.readouterr().out

    def fail(*_: Any, **__: Any) -> str:
        raise RuntimeError("a defect\nin two lines")

    with monkeypatch.context() as broken:
        broken.setattr("selfembed.explanation.report.write.build_report", fail)
        assert main([*train, "--out", str(tmp_path / "broken")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "defect" in line]
    assert len(said) == 1 and "the embedder is complete" in said[0]
    assert (tmp_path / "broken" / "modules.json").is_file() and not (tmp_path / "broken" / "report.html").exists()

    file = tmp_path / "page.html"
    assert (
        main(["explain", str(embedder), "--corpus", str(texts), "--sample", "9", "-k", "4", "--html", str(file)]) == 0
    )
    assert "Measured on 9 texts" in file.read_text() and "top 4 aligned tokens" in file.read_text()
    capsys.readouterr()
    for arguments, message in (
        (["--html", str(file)], "give --corpus"),
        (["--corpus", str(texts), "--scores", "x.json"], "give --html FILE too"),
        (["--corpus", str(texts), "--html", str(tmp_path / "no" / "page.html")], "folder that exists"),
    ):
        assert main(["explain", str(embedder), *(arguments if "--corpus" in arguments else ["text", *arguments])]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_file_appears_only_complete(tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", "one \ud800")
    assert (tmp_path / "page.html").read_text() == "one ?"
    with pytest.raises(InputError, match="expected the name of a file"):
        write_report(tmp_path, "two")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.loss_curve([1.0], name="x"),
        lambda: plots.hit_share(0.0, 1.0, name="x"),
        lambda: plots.hit_histogram([3, 0], [0, 3], name="x"),
        lambda: plots.singular_values([0.0], [0.0], name="x"),
        lambda: plots.variation([0.0], [0.0], name="x"),
        lambda: plots.score_bars([("$a_<b>$", -5.0)], name="x"),
        lambda: plots.heat_map([[1.0, -1.0], [-1.0, 1.0]], name="x", framed=0.9),
    ],
)
def test_pictures_of_little(draw) -> None:
    svg = draw()
    assert svg.startswith("<svg viewBox") and "nan" not in svg and draw() == svg
    assert set(re.findall(r'id="([^"]*)"', svg)) == {i for i in re.findall(r'id="(x-[^"]*)"', svg)}


def test_names_in_pictures_are_text() -> None:
    svg = plots.score_bars([("$a_<b>$", 50.0)], name="x")
    assert "$a_&lt;b&gt;$" in svg and "<b>" not in svg


def test_loss_curve_is_where_the_losses_are() -> None:
    """Steps evenly spaced, heights linear in the loss, in the picture's own units."""
    losses = [4.0, 1.0, 2.0, 3.0]
    svg = plots.loss_curve(losses, name="x")
    lines = re.findall(r'd="(M [^"]*)"[^>]*stroke: var\(--dim\); stroke-width: 0.7', svg)
    points = np.array([float(number) for number in re.findall(r"-?[\d.]+", lines[0])]).reshape(-1, 2)
    assert np.allclose(np.diff(points[:, 0]), points[1, 0] - points[0, 0], atol=1e-3)
    assert np.allclose(np.corrcoef(points[:, 1], losses)[0, 1], -1)


def test_page_escapes_all_but_markup() -> None:
    inner = fill("<i>{}</i>", "<&\x1b[2J\u202e")
    assert inner == "<i>&lt;&amp;?[2J?</i>" and fill("<b>{}</b>", inner) == f"<b>{inner}</b>"
    assert "<title>&lt;x&gt;</title>" in page("<x>", inner)
    assert plain("a\u200cb") == "a\u200cb"


def test_importing_the_command_line_draws_nothing() -> None:
    code = "import sys, selfembed, selfembed.terminal.main; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
