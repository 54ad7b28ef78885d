-- When the next attempt of a job is due, or a delayed one; the job that it does again; its last failed attempt, whose
-- error stays until the next end; and where its record lies on the dead-letters topic.
ALTER TABLE jobs ADD COLUMN next_attempt_at INTEGER;
ALTER TABLE jobs ADD COLUMN retry_of BLOB;
ALTER TABLE jobs ADD COLUMN error_attempt INTEGER;
ALTER TABLE jobs ADD COLUMN error_at INTEGER;
ALTER TABLE jobs ADD COLUMN dead_letter_partition INTEGER;
ALTER TABLE jobs ADD COLUMN dead_letter_offset INTEGER;

-- What ended before has its error from its end.
UPDATE jobs SET error_attempt = attempt, error_at = ended_at WHERE error IS NOT NULL;

-- Ended jobs that are done again, each by one job: kept longer than dead letters, also when the job's row is gone.
CREATE TABLE retries (
    id BLOB NOT NULL PRIMARY KEY,
    retried_as BLOB NOT NULL,
    reply_partition INTEGER NOT NULL,
    produced INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX retries_created ON retries (created_at);
