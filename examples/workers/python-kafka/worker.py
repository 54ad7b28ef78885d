"""A Kafka worker for Tidegate, written from docs/wire-contract.md alone: one job at a time, each tier in turn."""
import fastavro, functools, io, json, os, random, signal, time, urllib.request
from concurrent.futures import ThreadPoolExecutor, wait
from confluent_kafka import Consumer, Producer

BROKERS, REGISTRY, DELAY = os.environ["KAFKA_BROKERS"], os.environ["REGISTRY_URL"], os.environ.get("SHORTEST_DELAY", "1s")
PREFIX, POOL = os.environ.get("TIDEGATE_PREFIX", "tidegate."), os.environ.get("POOL", "default")
ME, REPLIES, ATTEMPT_TIMEOUT, LARGEST, stop = f"python-{os.getpid()}", PREFIX + "replies", 60, 2_000_000, []
producer = Producer({"bootstrap.servers": BROKERS, "client.id": ME, "enable.idempotence": True, "acks": "all",
                     "partitioner": "murmur2_random", "message.timeout.ms": 0, "message.max.bytes": 4_259_840})

def text_stats(job):
    try: text = job["body"].decode()
    except UnicodeDecodeError: return "failed", failure("not-text", "not UTF-8") | outcome(422, {"code": "not-text"})
    return "completed", outcome(200, {"lines": text.count("\n"), "words": len(text.split()), "characters": len(text)})
HANDLERS = {"text-stats": text_stats}  # by job type; an exception is a failure that may be tried again

def outcome(status, document):
    answer = {"status": status, "contentType": "application/json", "headers": []}
    return {"outcome": answer | {"body": json.dumps(document).encode()}}
def failure(code, message, retryable=False, source="job"):
    return {"error": {"code": code, "message": message[:1000], "source": source, "retryable": retryable}}

@functools.cache
def registry(path):
    while True:  # until the registry answers; None only if it says itself that there is no such schema
        try:
            found = json.load(urllib.request.urlopen(REGISTRY + path, timeout=2))
            return found.get("id"), fastavro.parse_schema(json.loads(found["schema"]))
        except (OSError, ValueError) as error:
            if getattr(error, "code", 0) == 404 and b"4040" in error.read(): return None
        time.sleep(1)

def latest(name): return registry(f"/subjects/tidegate.v1.{name}/versions/latest")
def encode(name, value):
    fastavro.schemaless_writer(datum := io.BytesIO(), latest(name)[1], value)
    return b"\0" + latest(name)[0].to_bytes(4, "big") + datum.getvalue()
has_partition = functools.cache(lambda topic, part: part in producer.list_topics(topic, 10).topics[topic].partitions)

def decode(message):
    value = message.value() or b""
    if len(value) < 5 or value[0] != 0: raise ValueError("it is not in the frame of the registry")
    number, datum = int.from_bytes(value[1:5], "big"), io.BytesIO(value[5:])
    try: job = fastavro.schemaless_reader(datum, registry(f"/schemas/ids/{number}")[1], latest("Job")[1])
    except Exception as error: raise ValueError(f"schema {number} is unknown or not its own: {type(error).__name__}")
    if datum.read(1) or message.key() != job["jobId"].encode() or not has_partition(REPLIES, job["replyPartition"]):
        raise ValueError("bytes follow its end, its key is not its id, or its reply partition does not exist")
    return job

def send(topic, partition, key, headers, value):
    errors = []
    producer.produce(topic, value, key, partition, lambda error, _: errors.append(error), headers=headers)
    while not errors: producer.poll(0.01)  # until it is acknowledged: message.timeout.ms is 0
    if errors[0]: os._exit(1)  # fatal: what is not committed runs again elsewhere

def tell(job, headers, kind, facts):
    trace = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    summary = {k: job[k] for k in "type pool tier tenant createdAt deadline retryOf followUps".split() if k in job}
    summary["traceId"] = trace.get("traceparent", "")[3:35] or None
    value = encode("JobEvent", {"jobId": job["jobId"], "kind": kind, "at": int(time.time() * 1000), "source": ME,
                                "attempt": job["attempt"], "job": summary} | facts)
    if len(value) > LARGEST: return tell(job, headers, "failed", failure("outcome-too-large", f"{len(value)} bytes"))
    marks = {"job-id": job["jobId"], "event": kind, "job-type": job["type"], "tier": job["tier"],
             "tenant": job["tenant"], "attempt": str(job["attempt"]), "reply-partition": str(job["replyPartition"])}
    send(REPLIES, job["replyPartition"], job["jobId"], marks | trace, value)

def attempt(job, headers, left):
    work = ThreadPoolExecutor(1).submit(HANDLERS[job["type"]], job)  # no thread can be stopped: a late one is let be
    if not wait([work], 0.1).done:
        tell(job, headers, "started", {})
        wait([work], min(left, ATTEMPT_TIMEOUT))
    if not work.done() and left > ATTEMPT_TIMEOUT: end = "failed", failure("timeout", "it ran for too long", True)
    elif not work.done(): end = "expired", failure("deadline-passed", "the deadline passed while it ran")
    elif bug := work.exception(): end = "failed", failure("handler-error", repr(bug), True)
    else: end = work.result()
    tell(job, headers, *end)

def set_aside(message, headers, problem):  # keeps the record, then ends its job if the headers say which and where
    at, where, pairs = message.timestamp()[1], headers.get("reply-partition", ""), headers.items()
    letter = {"reason": "unreadable-record", "message": problem, "at": int(time.time() * 1000), "source": ME,
              "topic": message.topic(), "partition": message.partition(), "offset": message.offset(), "attempt": 0,
              "key": message.key(), "value": message.value(), "headers": [{"name": n, "value": v} for n, v in pairs]}
    send(PREFIX + "dead-letters", -1, message.key() or b"", headers, encode("DeadLetter", letter))
    if "job-id" in headers and where.isdecimal() and has_partition(REPLIES, int(where)):
        job = {"jobId": headers["job-id"], "type": headers.get("job-type", "unknown"), "pool": POOL, "attempt": 0,
               "tier": message.topic().split(".")[-1], "tenant": headers.get("tenant", "default"),
               "createdAt": at, "deadline": at, "replyPartition": int(where)}
        tell(job, headers, "failed", failure("unreadable-record", problem, source="gateway"))

def handle(message):
    headers = {name: (value or b"").decode(errors="replace") for name, value in message.headers() or []}
    try: job = decode(message)
    except ValueError as problem: return set_aside(message, headers, str(problem))
    left, topic, times = job["deadline"].timestamp() - time.time(), message.topic(), headers.get("parked", "0")
    if left <= 0: tell(job, headers, "expired", failure("deadline-passed", "the deadline passed before it was begun"))
    elif job["type"] in HANDLERS: attempt(job, headers, left)
    else:  # unknown here: parked on the delay ladder, for a pause that doubles each time; the shortest step always fits
        times = int(times[:4]) if times.isdecimal() else 0; pause = min(5 * 2 ** min(times, 4), 60)
        due = time.strftime("%FT%T.000Z", time.gmtime(time.time() + min(left, pause * random.uniform(0.8, 1.2))))
        parts = [message.partition()] if job.get("serialKey") else list(producer.list_topics(topic, 10).topics[topic].partitions)
        marks = {"parked": str(times + 1), "due": due, "target": topic, "target-partition": str(random.choice(parts))}
        send(f"{PREFIX}delay.{DELAY}", -1, job["jobId"], headers | marks, message.value())

def main():
    signal.signal(signal.SIGTERM, lambda *_: stop.append("asked to"))
    consumers = {tier: Consumer({
        "bootstrap.servers": BROKERS, "group.id": f"{PREFIX}worker.{POOL}.{tier}", "fetch.wait.max.ms": 100,
        "partition.assignment.strategy": "cooperative-sticky", "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 10_000}) for tier in ("high", "normal", "low")}
    for tier, each in consumers.items(): each.subscribe([f"{PREFIX}jobs.{'' if POOL == 'default' else POOL + '.'}{tier}"])
    print(ME, "takes jobs", flush=True)
    while not stop:  # no job is longer than max.poll.interval.ms, five minutes: nobody need poll meanwhile
        polled = [(each, each.poll(0)) for each in consumers.values()]
        taken = [(each, message) for each, message in polled if message is not None and not message.error()]
        for each, message in taken: handle(message); each.commit(message)
        if not taken: time.sleep(0.005)
    for each in consumers.values(): each.close()
    os._exit(0)  # whatever a late handler still does
if __name__ == "__main__": main()
