-- How many events a job had between its creation and its end, and the latest of them as JSON; NULL while there is none.
ALTER TABLE jobs ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN history TEXT;
