"""Takes Tidegate's webhooks with Python's standard library alone: checks signature and time, and drops repeats."""
import base64, hashlib, hmac, json, os, signal, sys, threading, time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # seconds that the sender's clock may be away from ours: what is older may be a replay
LARGEST = 1 << 20  # bytes of a body
REMEMBERED = 10_000  # ids that are known as repeats


class Refused(Exception):
    """Not a webhook of ours: the status that says so, and why."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def read_keys(text):
    """The keys that count, separated by blanks: two while one takes the other's place."""
    keys = [base64.b64decode(key.removeprefix("whsec_") + "==") for key in text.split()]
    if not keys:
        sys.exit("set WEBHOOK_KEYS to one or more keys: whsec_…")
    return keys


def check(keys, headers, body, now):
    """The id of a message that one of the keys has signed, not long ago."""
    try:
        message, sent, signatures = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        age = abs(now - int(sent))
        if not message or not signatures:
            raise ValueError
    except (KeyError, ValueError):
        raise Refused(400, "webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
    if age > TOLERANCE:
        raise Refused(401, "the timestamp is too far from now")
    signed = f"{message}.{sent}.".encode() + body  # the bytes as they came, not JSON written anew
    given = [text.removeprefix("v1,").encode() for text in signatures.split() if text.startswith("v1,")]
    for key in keys:
        own = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        # In a time that does not tell how much of a guess was right.
        if any([hmac.compare_digest(own, other) for other in given]):
            return message
    raise Refused(401, "no signature fits")


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = self.headers["Content-Length"] or ""
        try:
            if not length.isdecimal() or int(length) > LARGEST:
                self.close_connection = True  # the body stays unread
                raise Refused(413, "a body of a known length of at most 1 MiB is taken")
            body = self.rfile.read(int(length))
            message = check(KEYS, {name.lower(): value for name, value in self.headers.items()}, body, time.time())
            self.take(message, json.loads(body))
            status = 204
        except Refused as refused:
            status = refused.status
            print(f"refused: {refused}", flush=True)
        # 2xx says that it was taken; anything else brings it again, later.
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def take(self, message, event):
        """Does the work of a message, once. Where that matters, keep the ids with what the work changes, in one transaction."""
        with lock:
            if message in seen:
                print(f"repeat: {message}", flush=True)
                return
            job = event["data"]
            print(f"{event['type']}: job {job['id']} of type {job['type']}: {json.dumps(job.get('result', job.get('error')))}", flush=True)
            seen[message] = True
            while len(seen) > REMEMBERED:
                seen.popitem(last=False)

    def log_request(self, *_):
        pass


if __name__ == "__main__":
    KEYS, seen, lock = read_keys(os.environ.get("WEBHOOK_KEYS", "")), OrderedDict(), threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8110"))), Receiver)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
