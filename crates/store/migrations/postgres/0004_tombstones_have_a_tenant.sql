-- Whose job it was, so that nobody else is told of it. Not known of the tombstones that are there already: those are
-- told to nobody.
ALTER TABLE tombstones ADD COLUMN tenant TEXT;
