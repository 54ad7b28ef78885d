"""The example's Kafka worker with a handler that does what the job's body says, which is mostly wrong."""
import time

import worker


def hang(job):
    time.sleep(3600)


def nap(job):
    time.sleep(1)
    return worker.text_stats(job)


def fail(job):
    raise RuntimeError("no luck")


def write_garbage(job, key, headers):
    """Bytes that nobody can read, acknowledged before the answer."""
    worker.send(worker.REPLIES, job["replyPartition"], key, headers, b"do-not-log-this")
    return worker.text_stats(job)


def garbage_first(job):
    return write_garbage(job, job["jobId"], {"job-id": job["jobId"]})


def garbage(job):
    garbage_first(job)
    return "unknown", {}  # an event that says nothing, so that the garbage is the only answer


def anonymous_garbage(job):
    return write_garbage(job, b"", {})


def twice(job):
    worker.tell(job, {}, *worker.text_stats(job))
    return "completed", worker.outcome(200, "another answer")


def contradict(job):
    worker.tell(job, {}, *worker.text_stats(job))
    return "failed", worker.failure("changed-its-mind", "it did not complete after all")


def huge(job):
    return "completed", worker.outcome(200, "x" * 3_000_000)


MISDEEDS = {f.__name__: f for f in (hang, nap, fail, garbage, garbage_first, anonymous_garbage, twice, contradict, huge)}
worker.HANDLERS["text-stats"] = lambda job: MISDEEDS.get(job["body"].decode(), worker.text_stats)(job)
worker.main()
