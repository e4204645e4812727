"""A hub on loopback that takes one commit: the endpoints huggingface_hub calls to make a repository and fill it."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """What it was sent. `refuse`: answer everything with this status."""

    def __init__(self) -> None:
        self.refuse: int | None = None
        self.is_public_already = False
        self.created: dict | None = None
        self.card = ""  # as huggingface_hub has it checked
        self.objects: dict[str, bytes] = {}  # by sha256
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.address = ""


@contextmanager
def hub():
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.tokens.add(self.headers.get("Authorization"))
            if state.refuse:
                return self.answer({"error": "no"}, state.refuse)
            if self.path == "/api/repos/create":
                state.created = json.loads(body)
                return self.answer({"url": f"{state.address}/{state.created['organization']}/{state.created['name']}"})
            if self.path == "/api/validate-yaml":
                state.card = json.loads(body)["content"]
                return self.answer({"errors": [], "warnings": []})
            if self.path.endswith("/preupload/main"):
                return self.answer({"files": [
                    {"path": f["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if f["path"].endswith((".safetensors", ".gguf")) else "regular"}
                    for f in json.loads(body)["files"]
                ]})  # fmt: skip
            if self.path.endswith(".git/info/lfs/objects/batch"):
                return self.answer({"transfer": "basic", "objects": [
                    {"oid": o["oid"], "size": o["size"],
                     "actions": {"upload": {"href": f"{state.address}/objects/{o['oid']}"}}}
                    for o in json.loads(body)["objects"]
                ]})  # fmt: skip
            if self.path.endswith("/commit/main"):
                for line in body.splitlines():
                    item = json.loads(line)
                    value = item["value"]
                    if item["key"] == "file":
                        state.files[value["path"]] = base64.b64decode(value["content"])
                    elif item["key"] == "lfsFile":
                        state.files[value["path"]] = state.objects[value["oid"]]
                return self.answer({"commitUrl": f"{state.address}/me/model/commit/1", "commitOid": "1",
                                    "success": True})  # fmt: skip
            return self.answer({"error": self.path}, 404)

        def do_PUT(self):
            state.objects[self.path.rsplit("/", 1)[1]] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer({})

        def do_GET(self):
            if state.refuse:
                return self.answer({"error": "no"}, state.refuse)
            if self.path == "/api/models/me/model":
                private = state.created["visibility"] == "private" and not state.is_public_already
                return self.answer({"id": "me/model", "private": private})
            return self.answer({"error": self.path}, 404)

        def answer(self, value, status=200):
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
