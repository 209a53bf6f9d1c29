"""The page to search in: what it answers, whom it answers, and that nothing in it is taken for markup."""

from __future__ import annotations

import threading
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
from search_data import hash_encoder
from tiny import SENTENCES

from selfembed.errors import InputError
from selfembed.search.index import Index
from selfembed.search.server import make_server, search_page

EVIL = "<script>alert(1)</script> & <b>bold</b> fox"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "<i>a.txt").write_text("\n\n".join([EVIL, *SENTENCES[:5]]))
    return Index.build(hash_encoder(), folder / "<i>a.txt", folder / "index")


@pytest.fixture(scope="module")
def server(index):
    server = make_server(lambda query, mode: index.search(query, mode=mode), "Search <mine>")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_box_and_list(server):
    status, body, headers = ask(server, "/")
    assert status == 200 and body.count("<input") == 1 and "<ol" not in body and "Search &lt;mine&gt;" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, body, _ = ask(server, f"/?q={quote(SENTENCES[2])}&mode=lexical")
    assert status == 200 and body.index("<ol") < body.index(SENTENCES[2], body.index("<ol"))
    assert "line 7" in body and "<option selected>lexical</option>" in body


def test_nothing_is_taken_for_markup(server):
    _, body, _ = ask(server, f"/?q={quote(EVIL + chr(34) + ' onfocus=x')}&mode=hybrid")
    assert "<script" not in body and "<b>" not in body and "<i>" not in body
    assert body.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3  # title, box, hit
    assert 'value="&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;bold&lt;/b&gt; fox&#34; onfocus=x"' in body


@pytest.mark.parametrize(("asked", "said"), [("of+the&mode=lexical", "only stop words"), ("x&mode=%3Cb%3E", "mode")])
def test_bad_input_is_said_in_the_page(server, asked, said):
    status, body, _ = ask(server, f"/?q={asked}")
    assert status == 200 and said in body and "<ol" not in body and "<b>" not in body


def test_notes_are_in_the_page(index):
    assert "ranked by meaning alone" in search_page(lambda q, m: index.search(q, mode=m), "x", "of the", "hybrid")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_names_are_refused(server, host):
    status, body, _ = ask(server, "/?q=fox", Host=host)
    assert status == 403 and "fox" not in body


def test_own_names_and_other_paths(server):
    assert ask(server, "/", Host="localhost:1")[0] == 200
    assert ask(server, "/etc/passwd")[0] == ask(server, "/../index.json")[0] == 404
    assert server.server_address[0] == "127.0.0.1"


def test_port_that_is_taken(server):
    with pytest.raises(InputError, match="cannot be listened on"):
        make_server(lambda query, mode: None, "x", port=server.server_address[1])
    with pytest.raises(InputError, match="port 70000"):
        make_server(lambda query, mode: None, "x", port=70_000)
