-- Keys under which clients submitted jobs, so that a repeat joins the job of the first. A row is written before its job
-- is produced and holds what it takes to produce the very same job once more; a row that is `produced` has a job.
CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'produced')),
    reserved_at BIGINT NOT NULL,
    job_id UUID NOT NULL,
    reply_partition INTEGER NOT NULL,
    pool TEXT NOT NULL,
    tier TEXT NOT NULL,
    partition INTEGER,
    created_at BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE UNIQUE INDEX idempotency_keys_job ON idempotency_keys (job_id);

-- What the purge looks for: reservations of jobs that were never seen.
CREATE INDEX idempotency_keys_reserved ON idempotency_keys (deadline) WHERE state = 'reserved';
