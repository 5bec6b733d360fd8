"""scripts/fetch-model against a local server that answers as the Hugging Face hub does."""
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import os
import tempfile
import threading
import unittest
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fetch-model"
COMMIT = "c0ffee" * 6 + "c0ff"


def load_script():
    loader = importlib.machinery.SourceFileLoader("fetch_model", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch_model", loader))
    loader.exec_module(module)
    return module


class FakeHub:
    """Two servers: the hub, and the storage that it redirects to for weights."""

    def __init__(self, files):
        self.files = dict(files)
        self.requests = []          # (server, path, headers)
        self.gated = self.missing = self.no_ranges = False
        self.token = None           # the token that opens a gated model
        self.cut = []               # lengths after which the next answers of the storage end
        self.listed = None          # what the listing says instead of the files
        self.hub, self.storage = self.serve(self.answer_hub), self.serve(self.answer_storage)
        self.url = f"http://127.0.0.1:{self.hub.server_port}"

    def serve(self, answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self):
        for server in (self.hub, self.storage):
            server.shutdown()
            server.server_close()

    @staticmethod
    def send(handler, status, body=b"", headers=()):
        handler.send_response(status)
        for key, value in dict(headers).items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def listing(self):
        siblings = []
        for path, data in self.files.items():
            entry = {"rfilename": path, "size": len(data), "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
            if path.endswith(".safetensors"):
                entry |= {"blobId": "0" * 40, "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}
            siblings.append(entry)
        return {"sha": COMMIT, "siblings": siblings}

    def answer_hub(self, handler):
        self.requests.append(("hub", handler.path, dict(handler.headers)))
        allowed = not self.gated or handler.headers.get("Authorization") == f"Bearer {self.token}"
        path = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path)
        if self.missing:
            return self.send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if path == "/api/models/org/tiny/revision/main":
            return self.send(handler, 200, json.dumps(self.listed or self.listing()).encode())
        if not allowed:
            return self.send(handler, 403 if handler.headers.get("Authorization") else 401, b"", {"X-Error-Code": "GatedRepo"})
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if name not in self.files:
            return self.send(handler, 404)
        if name.endswith(".safetensors"):
            return self.send(handler, 302, b"", {"Location": f"http://127.0.0.1:{self.storage.server_port}/{name}"})
        return self.send(handler, 200, self.files[name])

    def answer_storage(self, handler):
        self.requests.append(("storage", handler.path, dict(handler.headers)))
        data, span, headers, status = self.files[handler.path[1:]], handler.headers.get("Range"), {}, 200
        if span and not self.no_ranges:
            first = int(span.removeprefix("bytes=").rstrip("-"))
            headers, status, data = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}, 206, data[first:]
        if self.cut:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:self.cut.pop(0)])
            handler.close_connection = True
            return None
        return self.send(handler, status, data, headers)


class FetchModel(unittest.TestCase):
    def setUp(self):
        self.fetch = load_script()
        self.hub = FakeHub({"config.json": b'{"model_type": "gemma2"}\n', "model.safetensors": os.urandom(3_000_000),
                            "tokenizer.model": b"pieces", "README.md": b"not wanted", "pytorch_model.bin": b"not wanted"})
        self.addCleanup(self.hub.close)
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name) / "a folder"

    def run_it(self, *arguments, name="org/tiny", **environment):
        """(exit code, stdout, stderr)"""
        out, err = io.StringIO(), io.StringIO()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        with mock.patch.dict(os.environ, {**kept, "HF_ENDPOINT": self.hub.url, **environment}, clear=True), \
                mock.patch("sys.argv", ["fetch-model", name, str(self.folder), *arguments]), \
                mock.patch.object(self.fetch.time, "sleep"), \
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = self.fetch.main()
            except SystemExit as exit_:
                code = exit_.code
        return code, out.getvalue(), err.getvalue()

    def names(self):
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())

    def test_takes_what_a_model_needs(self):
        code, out, err = self.run_it()
        self.assertEqual((code, out), (0, f"{self.folder}\n"), err)
        self.assertEqual(self.names(), [".fetch-model.json", "config.json", "model.safetensors", "tokenizer.model"])
        for name in ("config.json", "model.safetensors"):
            self.assertEqual((self.folder / name).read_bytes(), self.hub.files[name])

    def test_second_run_downloads_nothing(self):
        self.run_it()
        self.hub.requests.clear()
        self.assertEqual(self.run_it()[0], 0)
        self.assertEqual(len(self.hub.requests), 1)

    def test_changed_file_is_fetched_again(self):
        self.run_it()
        (self.folder / "tokenizer.model").write_bytes(b"piecez")
        self.assertEqual(self.run_it()[0], 0)
        self.assertEqual((self.folder / "tokenizer.model").read_bytes(), b"pieces")

    def test_goes_on_where_the_line_dropped(self):
        self.hub.cut = [1_000_000, 500_000]
        code, _, err = self.run_it()
        self.assertEqual(code, 0, err)
        ranges = [h.get("Range") for server, _, h in self.hub.requests if server == "storage"]
        self.assertEqual(ranges, [None, "bytes=1000000-", "bytes=1500000-"])
        self.assertEqual((self.folder / "model.safetensors").read_bytes(), self.hub.files["model.safetensors"])

    def test_gives_up_and_goes_on_in_the_next_run(self):
        self.hub.cut = [1000] * self.fetch.ATTEMPTS
        code, _, err = self.run_it()
        self.assertEqual(code, 69)
        self.assertIn("hint: run the same command again", err)
        self.assertNotIn("config.json", self.names())  # it comes last: half a folder is no model
        self.assertNotIn("model.safetensors", self.names())
        self.assertEqual(self.run_it()[0], 0)
        self.assertEqual([h.get("Range") for server, _, h in self.hub.requests if server == "storage"][-1], "bytes=5000-")
        self.assertFalse([n for n in self.names() if n.endswith(".part")])

    def test_server_without_ranges(self):
        self.hub.cut, self.hub.no_ranges = [1_000_000], True
        self.assertEqual(self.run_it()[0], 0)
        self.assertEqual((self.folder / "model.safetensors").read_bytes(), self.hub.files["model.safetensors"])

    def test_wrong_bytes_are_refused(self):
        self.hub.listed = self.hub.listing()
        data = self.hub.files["model.safetensors"]
        self.hub.files["model.safetensors"] = data[:-1] + bytes([data[-1] ^ 1])
        code, _, err = self.run_it()
        self.assertEqual(code, 65)
        self.assertIn("model.safetensors: what came has another hash", err)
        self.assertNotIn("model.safetensors", self.names())
        self.assertFalse([n for n in self.names() if n.endswith(".part")])

    def test_more_bytes_than_listed(self):
        self.hub.listed = self.hub.listing()
        self.hub.files["tokenizer.model"] += b"x" * 100
        self.assertEqual(self.run_it()[0], 65)

    def test_gated_without_token(self):
        self.hub.gated = True
        code, out, err = self.run_it()
        self.assertEqual((code, out), (69, ""))
        self.assertIn("licence must be accepted first", err)
        self.assertIn("HF_TOKEN=", err)
        self.assertIn(self.hub.url + "/org/tiny", err)

    def test_gated_with_a_token_that_may_not(self):
        self.hub.gated, self.hub.token = True, "right"
        code, _, err = self.run_it(HF_TOKEN="wrong")
        self.assertEqual(code, 69)
        self.assertIn("accept the licence with the account of HF_TOKEN", err)
        self.assertNotIn("wrong", err)

    def test_token_goes_to_the_hub_only(self):
        self.hub.gated, self.hub.token = True, "right"
        self.assertEqual(self.run_it(HF_TOKEN="right")[0], 0)
        seen = {server: {h.get("Authorization") for s, _, h in self.hub.requests if s == server} for server in ("hub", "storage")}
        self.assertEqual(seen, {"hub": {"Bearer right"}, "storage": {None}})

    def test_no_such_model(self):
        self.hub.missing = True
        code, _, err = self.run_it()
        self.assertEqual(code, 66)
        self.assertIn("org/tiny: no such model", err)

    def test_hub_out_of_reach(self):
        code, _, err = self.run_it(HF_ENDPOINT="http://127.0.0.1:9")
        self.assertEqual(code, 69)
        self.assertIn("is the network up?", err)

    def test_files_outside_the_folder_are_refused(self):
        for path in ("../x.json", "/etc/x.json", "a/../../x.json", "..\\x.json"):
            listed = self.hub.listing()
            listed["siblings"].append({"rfilename": path, "size": 1, "blobId": "0" * 40})
            self.hub.listed = listed
            code, _, err = self.run_it()
            self.assertEqual(code, 65, path)
            self.assertIn("outside the folder", err)
            self.assertFalse(self.folder.exists())

    def test_answers_that_are_no_listing(self):
        for listed in ([], {"sha": COMMIT}, {"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}, "x",
                       {"sha": COMMIT, "siblings": [5]}, {"sha": COMMIT, "siblings": [{"rfilename": 5}]}):
            self.hub.listed = listed or [0]
            self.assertEqual(self.run_it()[0], 65, listed)

    def test_diffusers_folder_without_duplicates(self):
        self.hub.files = {"model_index.json": b"{}", "whole.safetensors": b"1", "unet/config.json": b"{}",
                          "unet/diffusion_pytorch_model.safetensors": b"2", "unet/diffusion_pytorch_model.fp16.safetensors": b"3"}
        self.assertEqual(self.run_it()[0], 0)
        self.assertEqual(self.names(), [".fetch-model.json", "model_index.json", "unet/config.json",
                                        "unet/diffusion_pytorch_model.safetensors"])

    def test_weights_that_are_no_safetensors(self):
        del self.hub.files["model.safetensors"]
        code, _, err = self.run_it()
        self.assertEqual(code, 66)
        self.assertIn("no weights in safetensors", err)
        self.assertEqual(self.run_it("--include", "*.bin")[0], 0)
        self.assertIn("pytorch_model.bin", self.names())

    def test_wrong_arguments(self):
        self.assertEqual(self.run_it(name="../x")[0], 64)
        self.assertEqual(self.run_it("--nonsense")[0], 64)

    def test_folder_that_cannot_be_made(self):
        self.folder.write_text("a file")
        code, _, err = self.run_it()
        self.assertIn(code, (73, 74))
        self.assertEqual(err.count("\n"), 1, err)


if __name__ == "__main__":
    unittest.main()
