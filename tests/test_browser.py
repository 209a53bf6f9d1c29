"""The HTML pages in a real browser: they render, on light and on dark, and nothing in them runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from runs import short_train
from search_data import hash_encoder
from tiny import SENTENCES, save_tiny

from selfembed import Corpus
from selfembed.evaluation.compare import compare_scores
from selfembed.evaluation.items import SPEARMAN, ranked_items
from selfembed.evaluation.scores import Scores, TaskScore
from selfembed.explanation.report.build import build_report
from selfembed.search.index import Index
from selfembed.search.server import make_server, search_page

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
EVIL = "<script>document.title = 'ran'; console.log('ran')</script><img src=x onerror=\"console.log('ran')\"> fox"
LIGHT, DARK = 1, 0  # Chromium's mojom::PreferredColorScheme, kLight and kDark


@pytest.fixture(scope="module", autouse=True)
def working_browser(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips all where there is no browser, or none that can start."""
    if BROWSER is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    blank = tmp_path_factory.mktemp("blank") / "blank.html"
    blank.write_text("<!DOCTYPE html><title>blank</title>")
    run = chromium(blank, blank.parent, "--dump-dom")
    if run.returncode or "<title>blank</title>" not in run.stdout:
        pytest.skip(f"{BROWSER} does not start here: {(run.stderr.splitlines() or ['no message'])[-1]}")


def chromium(page: Path | str, profile: Path, *flags: str) -> subprocess.CompletedProcess:
    """Opens a file or an address on loopback with a fresh profile and no other network.

    Messages of the page go to standard error.
    """
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command += ["--enable-logging=stderr", "--v=0", "--hide-scrollbars"]
    command += [f"--user-data-dir={profile / 'profile'}", *flags, page if isinstance(page, str) else page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def dom(page: Path | str, folder: Path) -> str:
    """The page after it was loaded, once it is proven to have had nothing to say."""
    run = chromium(page, folder, "--dump-dom")
    assert run.returncode == 0, run.stderr
    assert "CONSOLE" not in run.stderr, run.stderr
    return run.stdout


def picture(page: Path, folder: Path, scheme: int, width: int = 900, height: int = 1600) -> Image.Image:
    file = folder / f"{scheme}-{width}.png"
    flags = (f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={width},{height}")
    chromium(page, folder, *flags, f"--screenshot={file}")
    return Image.open(file).convert("RGB")


def brightness(image: Image.Image) -> float:
    """Of the commonest colour, the page's ground: 0 to 255."""
    return sum(max(image.getcolors(image.width * image.height))[1]) / 3


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    raw = save_tiny("llama", folder / "raw")
    corpus = Corpus(iter([EVIL, *SENTENCES[:4]]))  # as many as are shown
    short_train(raw, folder / "embedder", corpus=corpus)
    page = folder / "report.html"
    page.write_text(build_report(folder / "embedder", corpus))
    return page


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def of(name: str, values: list[float]) -> Scores:
        items = ranked_items("test", SPEARMAN, [values], [float(i) for i in range(20)])
        task = TaskScore(
            name=EVIL, category="STS", metric="cosine_spearman", score=100 * items.score, note=EVIL, items=(items,)
        )
        return Scores(embedder=name, embedder_hash=name, benchmark=None, scores=[task], settings={"pooling": name})

    found = compare_scores([of(EVIL, [i % 7 for i in range(20)]), of("b", [i % 11 for i in range(20)])], resamples=100)
    page = tmp_path_factory.mktemp("comparison") / "comparison.html"
    page.write_text(found.html())
    return page


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("index")
    return Index.build(hash_encoder(), iter([EVIL, *SENTENCES]), folder / "index")


@pytest.fixture(scope="module")
def results(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("results") / "results.html"
    page.write_text(search_page(lambda query, mode: index.search(query, mode=mode), EVIL, EVIL, "hybrid"))
    return page


@pytest.fixture
def served(index: Index) -> Iterator[str]:
    server = make_server(lambda query, mode: index.search(query, mode=mode), "Search texts")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_page_that_speaks_is_noticed(tmp_path: Path) -> None:
    """What the tests below rest on: scripts run in this browser, and what they say is seen."""
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><title>still</title><body>{EVIL}</body>")
    run = chromium(page, tmp_path, "--dump-dom")
    assert "CONSOLE" in run.stderr and "<title>ran</title>" in run.stdout


def test_report(report: Path, tmp_path: Path) -> None:
    found = dom(report, tmp_path)
    sections = ["recipe", "losses", "targets", "tokens", "hits", "space", "scores"]
    assert re.findall(r'<section id="(\w+)"', found) == sections
    assert len(re.findall(r"<svg [^>]*viewBox", found)) == 6 and found.count("</svg>") == 6
    assert "<title>Report on embedder</title>" in found
    assert "&lt;script&gt;document.title = 'ran'" in found and "<script" not in found and "<img" not in found


def test_comparison(comparison: Path, tmp_path: Path) -> None:
    found = dom(comparison, tmp_path)
    assert "<title>Comparison of embedders</title>" in found and found.count("<table>") == 2
    assert found.count("&lt;script&gt;") >= 3 and "<script" not in found and "<img" not in found


def test_search(served: str, tmp_path: Path) -> None:
    found = dom(served, tmp_path)
    assert "<title>Search texts</title>" in found and found.count("<input") == 1 and "<ol" not in found
    found = dom(f"{served}?q={quote(EVIL)}&mode=hybrid", tmp_path)
    assert found.count("<li>") == 10 and "<script" not in found and "<img" not in found
    assert found.index("<li>") < found.index("&lt;script&gt;document.title = 'ran'", found.index("<li>"))
    assert '<option selected="">hybrid</option>' in found


@pytest.mark.parametrize("name", ["report", "comparison", "results"])
def test_light_and_dark(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page = request.getfixturevalue(name)
    light, dark = (picture(page, tmp_path, scheme) for scheme in (LIGHT, DARK))
    assert brightness(light) > 200 > 60 > brightness(dark)
    for image in (light, dark):
        assert len(image.getcolors(image.width * image.height)) > 20


@pytest.mark.parametrize("name", ["report", "comparison", "results"])
def test_narrow_page_does_not_scroll_sideways(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A script of the test's own, added to a copy of the page, measures it."""
    page = tmp_path / "page.html"
    measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    page.write_text(request.getfixturevalue(name).read_text().replace("</body>", measure))
    run = chromium(page, tmp_path, "--window-size=420,900", "--dump-dom")
    needed, width = map(int, re.search(r"<title>(\d+) of (\d+)</title>", run.stdout).groups())
    assert needed <= width <= 520  # a window has a least width of its own
