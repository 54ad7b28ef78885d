-- Jobs, as people look them up. Times are Unix milliseconds; ended_at is set exactly when the status is terminal.
CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    pool TEXT NOT NULL,
    tier TEXT NOT NULL,
    tenant TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    trace_id TEXT,
    reply_partition INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    progress_percent REAL,
    progress_message TEXT,
    progress_partial BLOB,
    outcome_status INTEGER,
    outcome_content_type TEXT,
    outcome_headers TEXT,
    outcome_body BLOB,
    error TEXT,
    queue_us INTEGER,
    handler_us INTEGER,
    CHECK ((ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'dead-lettered', 'cancelled', 'expired')))
) STRICT;

-- What the purge looks for.
CREATE INDEX jobs_ended ON jobs (status, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs (deadline) WHERE ended_at IS NULL;

-- Jobs whose rows were purged, until no record of them can be left in Kafka.
CREATE TABLE tombstones (
    id BLOB NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_created ON tombstones (created_at);

-- How far each partition of the replies topic has been applied; the key is kept as bytes, as it came.
CREATE TABLE projections (
    partition INTEGER NOT NULL PRIMARY KEY,
    cluster_id TEXT NOT NULL,
    next_offset INTEGER NOT NULL,
    last_key BLOB NOT NULL
) STRICT;

-- The time before which everything produced to a partition has been applied.
CREATE TABLE caught_up (
    partition INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
