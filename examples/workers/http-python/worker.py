"""An http worker for Tidegate with Python's standard library alone: counts lines, words and characters of a text."""
import json, os, signal, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def text_stats(body):
    """Status and document of the answer: 2xx completes the job, 4xx ends it as failed."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return 422, {"code": "not-text", "message": "the body is not UTF-8"}
    return 200, {"lines": text.count("\n"), "words": len(text.split()), "characters": len(text)}


class Worker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that connections are kept
    disable_nagle_algorithm = True

    def do_POST(self):
        running.add(self)
        try:
            self.work()
        finally:
            running.discard(self)

    def work(self):
        # A job without a body comes without a length.
        status, document = text_stats(self.rfile.read(int(self.headers["Content-Length"] or 0)))
        answer = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        if stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, status="-", size="-"):
        job, attempt = self.headers["Tidegate-Job-Id"], self.headers["Tidegate-Attempt"]
        print(f"job {job} attempt {attempt}: {status}", flush=True)


running, stopping = set(), threading.Event()


def stop(*_):
    """Takes nothing new. A connection cut now would end its job as failed, so what runs is let end."""
    stopping.set()
    threading.Thread(target=server.shutdown).start()


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8101"))), Worker)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
while running:
    time.sleep(0.01)
