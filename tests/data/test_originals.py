"""Downloads of published files: mirrors, continued downloads and checksums."""

import hashlib
import http.server
import pathlib
import threading

import pytest

from common.data.formats import originals
from common.errors import UserError

CONTENT = bytes(range(256)) * 40
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
HALF = len(CONTENT) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT in the way that the first part of the path names, and notes each request."""

    def do_GET(self):
        way, start = self.path.split("/")[1], 0
        self.server.asked.append((way, self.headers["Range"]))
        if way == "missing":
            self.send_error(404)
            return
        content = b"a page" if way == "page" else CONTENT
        if self.headers["Range"] and way != "whole":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        ends = HALF if way == "breaks" and not start else len(content)
        self.wfile.write(content[start:ends])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads CONTENT to tmp_path/data.bin from mirrors of these ways; returns what the server was asked."""

    def download(*ways: str) -> list[tuple[str, str | None]]:
        server.asked.clear()
        mirrors = [f"http://127.0.0.1:{server.server_port}/{way}/" for way in ways]
        (original,) = originals.published({"data.bin": CHECKSUM}, mirrors)
        assert originals.download(original, tmp_path) == tmp_path / "data.bin"
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]
        return list(server.asked)

    return download


def test_the_first_mirror_that_has_the_published_file_is_used(fetch):
    assert fetch("missing", "page", "good", "whole") == [("missing", None), ("page", None), ("good", None)]
    assert fetch("good") == []  # it is there already


def test_a_broken_download_continues_where_it_stopped(fetch):
    assert fetch("breaks") == [("breaks", None), ("breaks", f"bytes={HALF}-")]


@pytest.mark.parametrize("way", ["good", "whole"])
def test_the_next_attempt_continues_where_the_last_one_stopped(fetch, tmp_path, way):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:100])
    assert fetch(way) == [(way, "bytes=100-")]


def test_a_part_longer_than_the_file_is_begun_again(fetch, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    assert [way for way, _ in fetch("good")] == ["good", "good"]


def test_a_file_there_that_is_not_the_published_one_is_replaced(fetch, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"a page")
    assert fetch("good") == [("good", None)]


def test_mirrors_that_all_fail_are_named_with_their_faults(server, tmp_path):
    here = f"http://127.0.0.1:{server.server_port}"
    mirrors = (f"{here}/missing/", f"{here}/page/", "http://127.0.0.1:1/")
    (original,) = originals.published({"data.bin": CHECKSUM}, mirrors)
    with pytest.raises(UserError) as caught:
        originals.download(original, tmp_path / "downloads")
    for says in ("missing/data.bin: 404", "page/data.bin: not the published file", ":1/data.bin: ", "--manual_dir"):
        assert says in str(caught.value)
    assert not list((tmp_path / "downloads").iterdir())


def test_any_whole_set_of_files_is_found(tmp_path):
    sets = (originals.published({"a": "", "b": ""}), originals.published({"c": ""}))
    with pytest.raises(UserError, match="lacks 'c'; expected a, b or c"):
        originals.find(tmp_path, sets)
    pathlib.Path(tmp_path, "c").touch()
    assert originals.find(tmp_path, sets) == sets[1]
