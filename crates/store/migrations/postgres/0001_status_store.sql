-- Jobs, as people look them up. Times are Unix milliseconds; ended_at is set exactly when the status is terminal.
CREATE TABLE jobs (
    id UUID NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    pool TEXT NOT NULL,
    tier TEXT NOT NULL,
    tenant TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    trace_id TEXT,
    reply_partition INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    updated_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    progress_percent DOUBLE PRECISION,
    progress_message TEXT,
    progress_partial BYTEA,
    outcome_status INTEGER,
    outcome_content_type TEXT,
    outcome_headers TEXT,
    outcome_body BYTEA,
    error TEXT,
    queue_us BIGINT,
    handler_us BIGINT,
    CHECK ((ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'dead-lettered', 'cancelled', 'expired')))
);

-- What the purge looks for.
CREATE INDEX jobs_ended ON jobs (status, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs (deadline) WHERE ended_at IS NULL;

-- Jobs whose rows were purged, until no record of them can be left in Kafka.
CREATE TABLE tombstones (
    id UUID NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX tombstones_created ON tombstones (created_at);

-- How far each partition of the replies topic has been applied; the key is kept as bytes, as it came.
CREATE TABLE projections (
    partition INTEGER NOT NULL PRIMARY KEY,
    cluster_id TEXT NOT NULL,
    next_offset BIGINT NOT NULL,
    last_key BYTEA NOT NULL
);

-- The time before which everything produced to a partition has been applied.
CREATE TABLE caught_up (
    partition INTEGER NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);
