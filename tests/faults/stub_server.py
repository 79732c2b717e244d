"""A stub HTTP server in front of a real MLflow server, which can be told to misbehave."""

from __future__ import annotations

import http.client
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SKIPPED = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class StubServer:
    """``mode`` is ``up``, ``503``, ``hang`` (accepts and never answers) or ``drop`` (every third
    request is carried out and its answer lost). Without ``start`` nobody listens."""

    def __init__(self, port, behind):
        self.mode = "up"
        self.requests = 0
        self.uri = f"http://127.0.0.1:{port}"
        self._port, self._behind = port, behind
        self._server = None
        self.stopped = threading.Event()

    def start(self):
        stub = self
        self.stopped.clear()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                stub.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                mode = stub.mode
                if stub._server is None:  # a connection that outlived its server
                    self.close_connection = True
                    return
                if mode == "hang":
                    stub.stopped.wait()
                    self.close_connection = True
                    return
                if mode == "503":
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                status, headers, content = stub.forward(
                    self.command, self.path, body, dict(self.headers)
                )
                if mode == "drop" and stub.requests % 3 == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in SKIPPED:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        ThreadingHTTPServer.daemon_threads = True
        ThreadingHTTPServer.block_on_close = False
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.handle_error = lambda *_: None  # a client that went away
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self.stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def forward(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        with suppress(KeyError):
            del headers["Host"]
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content
