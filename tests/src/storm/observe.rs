//! What the store and the topics say. The store also notes by itself what must not happen in it: an end that changes,
//! a position that goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::Message;
use sqlx::PgPool;
use tidegate_contract::{Status, Transition, headers};
use uuid::Uuid;

use crate::topics::Admin;
use crate::{Stack, kafka, records};

use super::facts::{End, Facts, Row};

/// Sentinels in the storm's own database, by triggers: no statement of Tidegate can pass them by.
const SENTINELS: &str = r"
CREATE TABLE storm_changes (id UUID, change TEXT);
CREATE TABLE storm_set_back (change TEXT);
CREATE FUNCTION storm_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO storm_changes VALUES (OLD.id, format('%s at %s to %s at %s', OLD.status, OLD.ended_at, NEW.status, NEW.ended_at));
    RETURN NULL;
END $$;
CREATE FUNCTION storm_went_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO storm_set_back VALUES (format('partition %s was set back from %s to %s', OLD.partition, OLD.next_offset, NEW.next_offset));
    RETURN NULL;
END $$;
CREATE TRIGGER storm_changed AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL AND (OLD.status, OLD.ended_at, OLD.attempt, OLD.outcome_status, OLD.outcome_body)
        IS DISTINCT FROM (NEW.status, NEW.ended_at, NEW.attempt, NEW.outcome_status, NEW.outcome_body))
    EXECUTE FUNCTION storm_changed();
CREATE TRIGGER storm_went_back AFTER UPDATE ON projections FOR EACH ROW
    WHEN (NEW.next_offset < OLD.next_offset) EXECUTE FUNCTION storm_went_back();
";

/// A look into store and topics, past the proxies.
pub struct Observer {
    pool: PgPool,
    admin: Admin,
    bootstrap: String,
    prefix: String,
}

impl Observer {
    /// Once the first gateway has made its tables.
    pub async fn new(stack: &Stack) -> Self {
        let pool = PgPool::connect(&stack.store).await.expect("PostgreSQL");
        sqlx::raw_sql(SENTINELS)
            .execute(&pool)
            .await
            .expect("sentinels");
        Self {
            pool,
            admin: Admin::of(&stack.servers.kafka),
            bootstrap: stack.servers.kafka.clone(),
            prefix: stack.prefix.clone(),
        }
    }

    /// Partitions of the replies topic that are not applied to their end.
    async fn behind(&self) -> Result<Vec<String>, sqlx::Error> {
        let ends =
            tokio::task::block_in_place(|| self.admin.ends(&format!("{}replies", self.prefix)));
        let query = "SELECT partition, next_offset FROM projections";
        let at: Vec<(i32, i64)> = sqlx::query_as(query).fetch_all(&self.pool).await?;
        let at: BTreeMap<i32, i64> = at.into_iter().collect();
        let behind = (0..).zip(ends).filter_map(|(partition, (_, end))| {
            let next = at.get(&partition).copied().unwrap_or(0);
            (next != end).then(|| format!("partition {partition} is applied to {next} of {end}"))
        });
        Ok(behind.collect())
    }

    /// Waits until every row has ended, every event is applied and every callback told, at most for `limit`. How long that took.
    pub async fn settle(&self, accepted: &BTreeSet<Uuid>, limit: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let query = "SELECT id, ended_at IS NULL FROM jobs";
            let rows: Vec<(Uuid, bool)> = sqlx::query_as(query)
                .fetch_all(&self.pool)
                .await
                .unwrap_or_default();
            let open = rows.iter().filter(|(_, open)| *open).count();
            let known: BTreeSet<Uuid> = rows.iter().map(|(id, _)| *id).collect();
            let missing = accepted.difference(&known).count();
            let behind = self
                .behind()
                .await
                .map_or(usize::MAX, |behind| behind.len());
            let query = "SELECT count(*) FROM follow_ups WHERE state = 'pending'";
            let untold = sqlx::query_scalar::<_, i64>(query)
                .fetch_one(&self.pool)
                .await
                .unwrap_or(i64::MAX);
            if (open, missing, behind, untold) == (0, 0, 0, 0) || begun.elapsed() > limit {
                return begun.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Reads store and topics into the facts.
    pub async fn read(&self, stack: &Stack, facts: &mut Facts) {
        if let Err(error) = self.read_store(facts).await {
            facts.unread.push(format!("the store: {error}"));
        }
        self.read_events(stack, facts).await;
        for topic in self.admin.topics(&self.prefix) {
            let name = topic.trim_start_matches(self.prefix.as_str());
            let is_jobs = name.starts_with("jobs.");
            if !is_jobs && !name.starts_with("delay.") {
                continue;
            }
            let (written, copies) = (&mut facts.written, &mut facts.copies);
            let read = tokio::task::block_in_place(|| {
                kafka::read_each(&self.bootstrap, &topic, |message| {
                    let number = |name| kafka::header(&message, name)?.parse().ok();
                    let id = kafka::header(&message, headers::JOB_ID);
                    let Some(id) = id.and_then(|id| id.parse().ok()) else {
                        return;
                    };
                    written.insert(id);
                    if is_jobs && let Some(attempt) = number(headers::ATTEMPT) {
                        *copies.entry((id, attempt)).or_default() += 1;
                    }
                })
            });
            facts.unread.extend(read.err());
        }
    }

    async fn read_store(&self, facts: &mut Facts) -> Result<(), sqlx::Error> {
        let query = "SELECT id, status, ended_at, attempt FROM jobs";
        let rows: Vec<(Uuid, String, Option<i64>, i32)> =
            sqlx::query_as(query).fetch_all(&self.pool).await?;
        for (id, status, ended_at, attempt) in rows {
            match status.parse() {
                Ok(status) => drop(facts.rows.insert(
                    id,
                    Row {
                        status,
                        ended_at,
                        attempt,
                    },
                )),
                Err(_) => facts
                    .unread
                    .push(format!("the row of {id}: status {status}")),
            }
        }
        let query = "SELECT id, change FROM storm_changes";
        facts.changed = sqlx::query_as(query).fetch_all(&self.pool).await?;
        let query = "SELECT change FROM storm_set_back";
        facts.set_back = sqlx::query_scalar(query).fetch_all(&self.pool).await?;
        facts.behind = self.behind().await?;
        Ok(())
    }

    /// The first end of each job.
    async fn read_events(&self, stack: &Stack, facts: &mut Facts) {
        let codec = records::codec(stack).await;
        let topic = format!("{}replies", self.prefix);
        let mut payloads = Vec::new();
        let read = tokio::task::block_in_place(|| {
            kafka::read_each(&self.bootstrap, &topic, |message| {
                // Most events end nothing, and say so in a header.
                let kind = kafka::header(&message, headers::EVENT);
                let ends = |kind: &String| {
                    let kinds = tidegate_contract::EventKind::ALL.iter();
                    kinds
                        .clone()
                        .any(|known| known.as_str() == kind && known.is_terminal())
                };
                if kind.as_ref().is_some_and(ends) {
                    payloads.extend(message.payload().map(<[u8]>::to_vec));
                }
            })
        });
        facts.unread.extend(read.err());
        for payload in payloads {
            let event = match codec.decode_event(&payload).await {
                Ok(event) => event,
                Err(error) => {
                    facts.unread.push(format!("an event: {error}"));
                    continue;
                }
            };
            let Transition::To(status) = Status::Processing.on(event.kind) else {
                continue;
            };
            let id = event.job_id.as_uuid();
            let (at, attempt) = (event.at, event.attempt);
            match facts.ends.contains_key(&id) {
                true => facts.late += 1,
                false => drop(facts.ends.insert(
                    id,
                    End {
                        status,
                        at,
                        attempt,
                    },
                )),
            }
        }
    }
}
