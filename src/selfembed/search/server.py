"""A page to search an index in, on this machine only: one box and a list, no scripts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from markupsafe import Markup

from selfembed.errors import InputError
from selfembed.ground.page import fill, joined, page, shorten
from selfembed.search.index import MODES
from selfembed.search.results import Hit, SearchResults

Search = Callable[[str, str], SearchResults]
"""Searches for a query in a mode."""

_LOOPBACK = "127.0.0.1"
_LONGEST = 2_000  # characters of a query
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_server(search: Search, title: str, *, port: int = 0) -> ThreadingHTTPServer:
    """Makes a server on loopback that answers `/?q=...&mode=...`; the caller runs and closes it.

    Requests by another name than this machine's own are refused, so that no page elsewhere can ask through a name that
    it lets point here. One question is answered at a time.

    Args:
        search: Returns the results of a query in a mode.
        title: The title of the page.
        port: The port to listen on; 0 takes a free one.

    Raises:
        InputError: The port is taken or not allowed.
    """
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not _own_name(self.headers.get("Host", "")):
                self._answer(HTTPStatus.FORBIDDEN, page(title, fill("<p>Ask by the name localhost.</p>")))
                return
            place = urlsplit(self.path)
            if place.path != "/":
                self._answer(HTTPStatus.NOT_FOUND, page(title, fill('<p>Nothing here. <a href="/">Search</a></p>')))
                return
            asked = parse_qs(place.query)
            query, mode = asked.get("q", [""])[0][:_LONGEST], asked.get("mode", ["hybrid"])[0]
            with one_at_a_time:
                self._answer(HTTPStatus.OK, search_page(search, title, query, mode))

        def _answer(self, status: HTTPStatus, html: str) -> None:
            body = html.encode("utf-8", "replace")
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: nothing below the terminal prints."""

    try:
        server = ThreadingHTTPServer((_LOOPBACK, port), Handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"port {port}: cannot be listened on ({error}); expected a free one; choose one") from error
    server.daemon_threads = True
    return server


def _own_name(host: str) -> bool:
    return host.rsplit(":", 1)[0] in (_LOOPBACK, "localhost")


def search_page(search: Search, title: str, query: str, mode: str) -> str:
    """Renders the page with the results of a query, or with what is wrong with it."""
    parts = [fill("<h1>{}</h1>", title), _form(query, mode)]
    if query.strip():
        try:
            found = search(query, mode)
        except InputError as error:
            parts.append(fill('<p class="dim">{}</p>', error))
        else:
            parts += [fill('<p class="dim">{}</p>', note) for note in found.notes]
            parts.append(fill('<ol class="hits">\n{}\n</ol>', joined(map(_item, found))))
    return page(f"{query} - {title}" if query.strip() else title, joined(parts))


def _form(query: str, mode: str) -> Markup:
    options = joined(
        fill("<option{}>{}</option>", Markup(" selected") if name == mode else "", name) for name in MODES
    )
    return fill(
        '<form action="/" method="get" role="search">\n<input type="search" name="q" value="{}" aria-label="Question" '
        'autofocus size="50">\n<select name="mode" aria-label="Mode">{}</select>\n<button>Search</button>\n</form>',
        query,
        options,
    )


def _item(hit: Hit) -> Markup:
    return fill(
        '<li>\n<p>{}</p>\n<p class="dim">{}<br>{}</p>\n</li>', shorten(hit.text, 1_000), hit.where(), hit.scored()
    )
