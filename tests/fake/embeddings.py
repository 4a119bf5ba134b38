#!/usr/bin/env python3
"""A fake of the OpenAI-compatible embeddings API for tests: loopback only, deterministic vectors, failures on demand.

  embeddings.py [--dimensions N] [--key KEY] [--tls PEM]     prints its port as one line, then serves until its stdin is closed

POST /v1/embeddings   vectors of the texts' words (vector() below), of "dimensions" numbers if the request names some
POST /control         {"fail": [["429", {"retry_after": 0.1}], ...], "always": ["500", {}]} what the next requests get:
                      "429" "500" "400" "401" "404" "quota" "slow" "hang" "garbage" "short" "dimension" "nan" "index"
                      "shuffle" "large" "zero" "echo" "drop"; an empty list and null go back to normal
GET  /control         {"requests": n, "texts": n, "connections": n, "inputs": [[text, ...], ...], "models": [...] (the last ones),
                      "most_at_once": n}
A text that holds "POISON" is refused with 400, and all texts of its request with it.
"""
import argparse
import email.utils
import hashlib
import http.server
import json
import math
import re
import socket
import ssl
import struct
import sys
import threading
import time

STATE = {"requests": 0, "texts": 0, "connections": 0, "inputs": [], "models": [], "most_at_once": 0}
FAIL = {"fail": [], "always": None}
LOCK = threading.Lock()
OPEN = [0]


def word_vector(word, dimensions):
    out = []
    block = 0
    while len(out) < dimensions:
        digest = hashlib.sha256(f"{block}:{word}".encode()).digest()
        out += [x / 2**31 - 1 for x in struct.unpack("<8I", digest)]
        block += 1
    return out[:dimensions]


def vector(text, dimensions):
    """The sum of its words' vectors, with length 1: texts that share words are near."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        total = [a + b for a, b in zip(total, word_vector(word, dimensions))]
    length = math.sqrt(sum(x * x for x in total)) or 1.0
    return [x / length for x in total]


def next_failure():
    with LOCK:
        return FAIL["fail"].pop(0) if FAIL["fail"] else FAIL["always"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    dimensions, key, clock_off = 8, None, 0

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with LOCK:
            STATE["connections"] += 1

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, message, code=None, headers=()):
        self.answer(status, {"error": {"message": message, "type": "x", "code": code}}, headers)

    def do_GET(self):
        with LOCK:
            self.answer(200, STATE)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            with LOCK:
                FAIL.update(body)
            return self.answer(200, {})
        if self.path != "/v1/embeddings":
            return self.error(404, f"no such path {self.path}")
        with LOCK:
            OPEN[0] += 1
            STATE["most_at_once"] = max(STATE["most_at_once"], OPEN[0])
        try:
            return self.embed(body)
        finally:
            with LOCK:
                OPEN[0] -= 1

    def embed(self, body):
        texts = body["input"]
        with LOCK:
            STATE["requests"] += 1
            STATE["texts"] += len(texts)
            STATE["inputs"] = (STATE["inputs"] + [[t[:200] for t in texts[:10]]])[-20:]
            STATE["models"] = (STATE["models"] + [body["model"]])[-20:]
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            return self.error(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
        if any(not isinstance(t, str) or not t for t in texts):
            return self.error(400, "input cannot be empty")
        kind, how = next_failure() or (None, {})
        simple = {"500": 500, "400": 400, "401": 401, "404": 404}
        if kind in simple:
            return self.error(simple[kind], how.get("message", f"injected {kind}"))
        if kind == "429":
            return self.slow_down(how)
        if kind == "quota":
            return self.error(429, "no credit left", code="insufficient_quota")
        if kind == "echo":
            return self.error(400, "you sent " + (self.headers.get("Authorization") or "nothing"))
        if kind == "garbage":
            return self.answer(200, b"<html>it works</html>")
        if kind == "drop":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if kind in ("slow", "hang"):
            time.sleep(how.get("seconds", 0.2 if kind == "slow" else 30))
        if any("POISON" in t for t in texts):
            return self.error(400, "this text is poison")
        return self.vectors(body, texts, kind)

    def slow_down(self, how):
        """retry_in: so many seconds from now as a time, by a clock that is date_off seconds off."""
        self.clock_off = how.get("date_off", 0)
        after = str(how.get("retry_after", 0.05))
        if "retry_in" in how:
            after = email.utils.formatdate(time.time() + self.clock_off + how["retry_in"], usegmt=True)
        self.error(429, "slow down", headers=[("Retry-After", after)])
        self.clock_off = 0

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + self.clock_off)

    def vectors(self, body, texts, kind):
        n = body.get("dimensions", self.dimensions)
        data = [{"object": "embedding", "index": i, "embedding": vector(t, n)} for i, t in enumerate(texts)]
        if kind == "short":
            data = data[:-1]
        if kind == "dimension":
            data[-1]["embedding"].append(0.5)
        if kind == "index":
            data[-1]["index"] = len(data) + 7
        if kind == "shuffle":
            data.reverse()
        if kind == "zero":
            data[-1]["embedding"] = [0] * n
        text = json.dumps({"object": "list", "data": data, "model": body["model"]})
        if kind == "nan":
            text = text.replace(str(data[-1]["embedding"][0]), "1e300")
        if kind == "large":
            text += " " * (1 << 22)
        return self.answer(200, text.encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # a client that went away


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=8)
    parser.add_argument("--key")
    parser.add_argument("--tls")
    args = parser.parse_args()
    Handler.dimensions, Handler.key = args.dimensions, args.key
    server = Server(("127.0.0.1", 0), Handler)
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
