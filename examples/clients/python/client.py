"""Every way to get a job's answer, in Python.

usage: client.py hold|poll|long-poll|events|websocket|webhook TYPE BODY [CALLBACK-URL]

All but `websocket` need the standard library alone. TIDEGATE_URL and TIDEGATE_API_KEY say where and as whom.
"""
import json, os, sys, time
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

BASE = os.environ.get("TIDEGATE_URL", "http://127.0.0.1:8080")
KEY = {"x-api-key": key} if (key := os.environ.get("TIDEGATE_API_KEY")) else {}
ENDS = {"completed", "failed", "dead-lettered", "cancelled", "expired"}


def ask(url, body=None, timeout=60, **headers):
    """An answer, whatever its status is. Underscores in names of headers stand for dashes."""
    headers = {name.replace("_", "-"): value for name, value in headers.items() if value}
    try:
        return urlopen(Request(urljoin(BASE, url), data=body, headers={**KEY, **headers}), timeout=timeout)
    except HTTPError as answer:
        return answer


def document(answer, *expected):
    """The JSON of an answer, which must have one of these statuses. Others are problem documents that say why."""
    text = answer.read()
    if answer.status not in expected:
        sys.exit(f"{answer.status}: {text.decode(errors='replace')}")
    return json.loads(text)


def submit(job_type, body, prefer="respond-async", **headers):
    return ask(f"/v1/jobs/{job_type}", body.encode(), content_type="application/json", prefer=prefer, **headers)


def end(job):
    """Prints how a job ended. A result that is large or no JSON does not stand in the status."""
    if job["status"] != "completed":
        sys.exit(f"{job['status']}: {json.dumps(job.get('error'))}")
    result = json.dumps(job["result"]) if "result" in job else ask(job["resultUrl"]).read().decode()
    print(f"completed: {result}", flush=True)


def tell(kind, job):
    """Prints what happened to a job that goes on."""
    progress = job.get("progress")
    print(f"{kind} {progress['percent']:.0f} % {progress.get('message', '')}" if progress else kind, flush=True)


def pause(answer):
    time.sleep(int(answer.headers.get("retry-after", 1)))


def hold(job_type, body):
    answer = submit(job_type, body, prefer="wait=25")
    if answer.status == 202 and "location" in answer.headers:
        tell("accepted", document(answer, 202))  # it takes longer than that, and goes on
        follow_by_polling(answer.headers["location"])
    else:
        print(f"completed: {json.dumps(document(answer, 200))}", flush=True)


def poll(job_type, body):
    follow_by_polling(document(submit(job_type, body), 202)["statusUrl"])


def follow_by_polling(url):
    tag = None
    while True:
        answer = ask(url, if_none_match=tag)
        if answer.status not in (304, 503):
            job, tag = document(answer, 200), answer.headers["etag"]
            if job["status"] in ENDS:
                return end(job)
            tell(job["status"], job)
        pause(answer)  # as long as the gateway says


def long_poll(job_type, body):
    url, tag = document(submit(job_type, body), 202)["statusUrl"], '"none"'  # the first answer comes at once
    while True:
        answer = ask(f"{url}?wait=30", if_none_match=tag)  # held until something changes
        if answer.status == 503:
            pause(answer)
        elif answer.status != 304:
            job, tag = document(answer, 200), answer.headers["etag"]
            if job["status"] in ENDS:
                return end(job)
            tell(job["status"], job)


def server_sent(answer):
    """The events of a stream: id, kind, data."""
    event = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        if name in ("id", "event"):
            event[name] = value.removeprefix(" ")
        elif name == "data":
            event[name] = event.get(name, "") + value.removeprefix(" ") + "\n"
        elif not name and not value:
            # An empty line ends an event; one that begins with a colon is a heartbeat.
            if "data" in event:
                yield event["id"], event["event"], json.loads(event["data"])
            event = {}


def events(job_type, body):
    url = f"/v1/jobs/{document(submit(job_type, body), 202)['jobId']}/events"
    last, failures = None, 0
    while failures < 10:
        failures += 1
        try:
            # Heartbeats come every 15 s: a stream that is silent for longer is dead.
            answer = ask(url, timeout=45, last_event_id=last)
            if answer.status not in (200, 503):
                document(answer, 200)
            for last, kind, job in server_sent(answer) if answer.status == 200 else ():
                failures = 0
                if job["status"] in ENDS:
                    return end(job)
                tell(kind, job)
        except OSError as error:
            print(f"the stream broke: {error}", file=sys.stderr)
        time.sleep(1)  # then on from where it was
    sys.exit("no stream can be had")


def websocket(job_type, body):
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    url = urljoin(BASE, f"/v1/jobs/{document(submit(job_type, body), 202)['jobId']}/events").replace("http", "ws", 1)
    last, failures = None, 0
    while failures < 10:
        failures += 1
        try:
            with connect(url if last is None else f"{url}?after={last}", additional_headers=KEY, max_size=8 << 20) as socket:
                for text in socket:
                    job, failures = json.loads(text), 0
                    last = job["id"]
                    if job["status"] in ENDS:
                        return end(job)
                    tell(job["event"], job)
        except InvalidStatus as error:
            if error.response.status_code != 503:
                sys.exit(f"{error.response.status_code}: {error.response.body.decode(errors='replace')}")
        except (OSError, ConnectionClosed) as error:
            print(f"the socket broke: {error}", file=sys.stderr)
        time.sleep(1)
    sys.exit("no socket can be had")


def webhook(job_type, body, callback):
    """Nothing is waited for: the end goes to a URL, such as that of examples/webhooks/python/receiver.py."""
    job = document(submit(job_type, body, tidegate_callback_url=callback), 202)
    print(f"accepted: job {job['jobId']}, its end goes to {callback}", flush=True)


WAYS = {"hold": hold, "poll": poll, "long-poll": long_poll, "events": events, "websocket": websocket, "webhook": webhook}

if __name__ == "__main__":
    way = WAYS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if way is None or len(sys.argv) != 4 + (way is webhook):
        sys.exit(__doc__)
    way(*sys.argv[2:])
