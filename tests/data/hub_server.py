"""A little server that speaks the Hub's protocol for data sets: what a repository is, and parts of its files."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class DataSets:
    """`sets` maps OWNER/NAME to (configs of the card, {path: bytes}); `asked` has every request. `says` is called with
    the path and the number of each; it may return (status, headers) to be answered instead, "hang up", or, for a part
    of a file, ("cut off",) or ("a part",) for half of it and for nothing where all is promised."""

    def __init__(self):
        self.sets, self.asked, self.commit = {}, [], COMMIT
        self.says = lambda path, number: None
        self.endpoint = ""

    def parts(self):
        """(path, range) of every part of a file that was asked for."""
        return [(path, wanted) for path, wanted in self.asked if wanted]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub = self.server.hub
        path, wanted = unquote(self.path).partition("?")[0], self.headers.get("Range", "")
        hub.asked.append((path, wanted))
        if said := hub.says(path, len(hub.asked)):
            if said == "hang up":
                self.close_connection = True
                return
            if isinstance(said[0], int):
                return self.answer(said[0], b"", said[1])
        for name, (configs, files) in hub.sets.items():
            if path.startswith(f"/api/datasets/{name}/revision/"):
                if path.rpartition("/")[2] not in ("main", hub.commit):
                    return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                about = {"id": name, "sha": hub.commit, "siblings": [{"rfilename": file} for file in files]}
                return self.answer(200, json.dumps(about | {"cardData": {"configs": configs}}).encode())
            for file, data in files.items():
                if path == f"/datasets/{name}/resolve/{hub.commit}/{file}":
                    first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
                    if first >= len(data):
                        return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    last = min(last, len(data) - 1)
                    place = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
                    data = data[first : last + 1]
                    if said == ("a part",):
                        return self.answer(206, b"", place)
                    if said == ("cut off",):
                        self.close_connection = True
                        return self.answer(206, data[: len(data) // 2], place | {"Content-Length": str(len(data))})
                    return self.answer(206, data, place)
        return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving():
    """The server, at `endpoint`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = DataSets()
    server.hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
