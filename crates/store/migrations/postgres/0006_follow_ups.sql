-- Who is told when a job has ended, as JSON; NULL where nobody is.
ALTER TABLE jobs ADD COLUMN follow_ups TEXT;

-- What the ends of jobs cause: one of a kind for a job, made with the row's end. While one is held, due_at is when its
-- lease ends; the lease is known by that time.
CREATE TABLE follow_ups (
    job_id UUID NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    target TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    trace TEXT,
    created_at BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    held BOOLEAN NOT NULL,
    due_at BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    number INTEGER NOT NULL,
    settled_at BIGINT,
    reason TEXT,
    PRIMARY KEY (job_id, kind),
    CHECK ((settled_at IS NULL) = (state = 'pending'))
);

-- What notifiers take, what is postponed, and what is sent again.
CREATE INDEX follow_ups_due ON follow_ups (kind, due_at) WHERE state = 'pending';
CREATE INDEX follow_ups_endpoint ON follow_ups (endpoint) WHERE state = 'pending';
CREATE INDEX follow_ups_failed ON follow_ups (tenant, settled_at) WHERE state = 'failed';

-- The last attempts of each. Two that have lost sight of each other may make one of the same number.
CREATE TABLE follow_up_attempts (
    job_id UUID NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    at BIGINT NOT NULL,
    duration BIGINT NOT NULL,
    status INTEGER,
    error TEXT,
    excerpt TEXT NOT NULL,
    PRIMARY KEY (job_id, kind, number, at)
);

-- Endpoints that have failed; the record is for notifiers.
CREATE TABLE endpoints (
    key TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    url TEXT NOT NULL,
    record TEXT NOT NULL,
    ended_at BIGINT,
    updated_at BIGINT NOT NULL
);
CREATE INDEX endpoints_of_tenant ON endpoints (tenant, key);
CREATE INDEX endpoints_updated ON endpoints (updated_at);
