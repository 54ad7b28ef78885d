//! `tidegate store rebuild`: the status store anew, from what lies in Kafka.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_contract::Pool;
use tidegate_gateway::rebuild::{Figures, Part, Progress, Rebuild};
use tidegate_kafka::{Cluster, Codec, check_schemas};

use super::gateway;
use super::topics::{limited, present};
use crate::cli::RebuildArgs;
use crate::exit::Failure;
use crate::{output, settings};

/// How often progress is said.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Rebuilds the store that the settings name.
pub async fn run(args: RebuildArgs) -> Result<(), Failure> {
    let loaded = settings::load(&args.settings)?;
    let settings = &loaded.value;
    let store =
        tidegate_store::open(&settings.store).map_err(|error| settings::refused(&loaded, error))?;
    let cluster = Cluster::new(settings.kafka.clone());
    limited(settings, present(&cluster)).await?;
    // Once it is under way it waits for a registry that goes away; one that is not there is told at once.
    check_schemas(&settings.registry)
        .await
        .map_err(Failure::failed)?;
    let named = settings.types.values().map(|spec| &spec.pool);
    let mut pools: Vec<Pool> = named.chain(&settings.worker.pools).cloned().collect();
    pools.push(Pool::default());
    pools.sort();
    pools.dedup();
    let rebuild = Rebuild {
        cluster,
        codec: Codec::new(&settings.registry),
        store: store.clone(),
        pools,
    };
    let begun = Instant::now();
    let mut said = begun;
    let result = rebuild.run(|progress| {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            output::complain(sentence(progress));
        }
    });
    let result = result.await;
    gateway::close(&*store).await;
    let figures = result.map_err(Failure::failed)?;
    let took = begun.elapsed();
    if args.json {
        output::line(object(&figures, took).to_string());
    } else {
        output::line(report(&figures, took));
    }
    for (job, reason) in &figures.refused {
        output::complain(format!("job {job} was refused by the database: {reason}"));
    }
    for left in &figures.left {
        output::complain(format!(
            "replies partition {} is projected up to offset {}: {}",
            left.partition, left.from, left.why
        ));
    }
    match figures.left.len() {
        0 => Ok(()),
        _ => Err(Failure::failed(
            "not all of the replies are projected: gateways that are started on this store go on from there",
        )),
    }
}

fn sentence(progress: Progress) -> String {
    let Progress { topic, records, of } = progress;
    let topic = match topic {
        Part::Jobs => "jobs",
        Part::Replies => "replies",
    };
    let percent = (records * 100).checked_div(of).unwrap_or(100).min(100);
    format!("{topic}: {records} of {of} records read ({percent} %)")
}

fn report(figures: &Figures, took: Duration) -> String {
    let rows = match &figures.rows {
        None => "not counted: that takes longer than store.timeout".to_owned(),
        Some(rows) => {
            let sum: u64 = rows.iter().map(|(_, count)| count).sum();
            let each = rows
                .iter()
                .map(|(status, count)| format!(", {count} {status}"));
            format!("{sum}{}", each.collect::<String>())
        }
    };
    let dropped = figures.late + figures.unknown;
    format!(
        "job records    {} read, {} passed over
reply records  {} read
events         {} applied, {dropped} dropped ({} after their job's end, {} of unknown kinds)
unreadable     {}
purged         {}
rows           {rows}
seconds        {:.1}",
        figures.job_records,
        figures.jobs_passed_over,
        figures.reply_records,
        figures.applied,
        figures.late,
        figures.unknown,
        figures.unreadable,
        figures.purged,
        took.as_secs_f64(),
    )
}

fn object(figures: &Figures, took: Duration) -> Value {
    let rows = figures.rows.as_ref().map(|rows| {
        let rows = rows.iter();
        let rows = rows.map(|(status, count)| (status.to_string(), json!(count)));
        Value::Object(rows.collect())
    });
    let left = figures.left.iter();
    let left =
        left.map(|left| json!({"partition": left.partition, "from": left.from, "why": left.why}));
    json!({
        "jobRecords": figures.job_records,
        "jobsPassedOver": figures.jobs_passed_over,
        "replyRecords": figures.reply_records,
        "applied": figures.applied,
        "late": figures.late,
        "unknown": figures.unknown,
        "unreadable": figures.unreadable,
        "refused": figures.refused.iter().map(|(job, _)| job.to_string()).collect::<Vec<_>>(),
        "purged": figures.purged,
        "rows": rows,
        "left": left.collect::<Vec<_>>(),
        "seconds": took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_contract::Status;

    #[test]
    fn the_figures_add_up_in_words() {
        let figures = Figures {
            job_records: 12,
            reply_records: 20,
            applied: 17,
            late: 2,
            unknown: 1,
            rows: Some(vec![(Status::Completed, 9), (Status::Pending, 3)]),
            ..Figures::default()
        };
        let said = report(&figures, Duration::from_millis(1234));
        assert!(
            said.contains("17 applied, 3 dropped (2 after their job's end, 1 of unknown kinds)"),
            "{said}"
        );
        assert!(
            said.contains("rows           12, 9 completed, 3 pending"),
            "{said}"
        );
        assert!(said.ends_with("seconds        1.2"), "{said}");
        let object = object(&figures, Duration::ZERO);
        assert_eq!(object["rows"], json!({"completed": 9, "pending": 3}));
    }

    #[test]
    fn progress_is_a_share_and_never_more_than_all() {
        let at = |records, of| {
            sentence(Progress {
                topic: Part::Jobs,
                records,
                of,
            })
        };
        assert_eq!(at(5, 10), "jobs: 5 of 10 records read (50 %)");
        assert!(at(0, 0).ends_with("(100 %)"));
        assert!(at(12, 10).ends_with("(100 %)"));
    }
}
