-- How much each tenant has waiting, counted once a second where gateway.tenant_backlog limits it.
CREATE INDEX jobs_unfinished_by_tenant ON jobs (tenant) WHERE ended_at IS NULL;
