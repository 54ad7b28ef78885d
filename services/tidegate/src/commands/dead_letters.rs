//! `tidegate dead-letters` and `tidegate jobs retry`: what failed for good, and doing it again. All of it asks a gateway.

use serde_json::{Map, Value, json};

use super::client::{self, Pages, text};
use crate::cli::{
    DeadLetterArgs, DeadLettersCommand, FilterArgs, ListLettersArgs, RedriveArgs, RetryArgs,
};
use crate::exit::Failure;
use crate::output;

/// Jobs that one call redrives: so many that few calls are needed, so few that each ends soon.
const PAGE: usize = 100;

/// Runs one of the commands.
pub async fn run(command: DeadLettersCommand) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List(args) => list(args).await,
        DeadLettersCommand::Show(args) => show(args).await,
        DeadLettersCommand::Redrive(args) => redrive(args).await,
    }
}

/// Does a job again.
pub async fn retry(args: RetryArgs) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{}/retry", args.id);
    let body = client::order(&args.gateway, &path, &json!({})).await?;
    if args.json {
        output::line(body.to_string());
    } else {
        output::line(format!(
            "job {} does it again: {}",
            text(&body, "jobId"),
            text(&body, "statusUrl")
        ));
    }
    Ok(())
}

const LETTERS: Pages<'_> = Pages {
    path: "/v1/dead-letters",
    none: "no dead letters",
    columns: &[
        "at", "place", "type", "tenant", "reason", "attempt", "job", "message",
    ],
    row,
    items: "deadLetters",
    next: "cursor",
    page: 500,
};

async fn list(args: ListLettersArgs) -> Result<(), Failure> {
    LETTERS
        .show(&args.gateway, &filter(&args.filter), args.limit, args.json)
        .await
}

fn row(letter: &Value) -> Vec<String> {
    const LONGEST: usize = 60;
    let message = text(letter, "message");
    let message = match message.chars().nth(LONGEST) {
        None => message,
        Some(_) => message.chars().take(LONGEST).chain(['…']).collect(),
    };
    vec![
        text(letter, "at"),
        format!("{}/{}", letter["partition"], letter["offset"]),
        text(letter, "type"),
        text(letter, "tenant"),
        text(letter, "reason"),
        letter["attempt"].to_string(),
        text(letter, "jobId"),
        message,
    ]
}

async fn show(args: DeadLetterArgs) -> Result<(), Failure> {
    let path = format!("/v1/dead-letters/{}", args.place);
    let body = client::ask(&args.gateway, &path, Map::new()).await?;
    output::line(format!("{body:#}"));
    Ok(())
}

async fn redrive(args: RedriveArgs) -> Result<(), Failure> {
    let mut sum = Sum::default();
    let mut cursor = None;
    loop {
        let mut ask = filter(&args.filter);
        ask.insert("all".to_owned(), json!(args.all));
        ask.insert("dryRun".to_owned(), json!(args.dry_run));
        ask.insert("limit".to_owned(), json!(PAGE));
        for (name, value) in [
            ("rate", args.rate.map(|rate| json!(rate))),
            ("maxRedrives", args.max_redrives.map(|most| json!(most))),
            ("cursor", cursor.take()),
        ] {
            ask.extend(value.map(|value| (name.to_owned(), value)));
        }
        let body = client::order(
            &args.gateway,
            "/v1/dead-letters/redrive",
            &Value::Object(ask),
        )
        .await?;
        sum.add(&body, args.json);
        if let Some(why) = body["stopped"].as_str() {
            return Err(Failure::failed(format!(
                "{}; stopped: {why}",
                sum.sentence(args.dry_run)
            )));
        }
        match body.get("cursor") {
            Some(next) => cursor = Some(next.clone()),
            None => break,
        }
    }
    if !args.json {
        output::line(sum.sentence(args.dry_run));
    }
    Ok(())
}

/// What all pages came to.
#[derive(Default)]
struct Sum {
    matched: u64,
    redriven: usize,
    skipped: usize,
}

impl Sum {
    fn add(&mut self, page: &Value, as_json: bool) {
        let none = Vec::new();
        let items = |name: &str| page[name].as_array().unwrap_or(&none);
        self.matched += page["matched"].as_u64().unwrap_or_default();
        self.redriven += items("redriven").len();
        self.skipped += items("skipped").len();
        for item in items("redriven").iter().chain(items("skipped")) {
            if as_json {
                output::line(item.to_string());
            }
        }
        for item in items("skipped").iter().filter(|_| !as_json) {
            output::complain(format!(
                "{}/{} is left: {}",
                item["partition"],
                item["offset"],
                text(item, "why")
            ));
        }
    }

    fn sentence(&self, dry_run: bool) -> String {
        if self.matched == 0 {
            return "no dead letter matches".to_owned();
        }
        let would = if dry_run { "would be " } else { "" };
        format!(
            "{} dead letters match: {} {would}done again, {} left",
            self.matched, self.redriven, self.skipped
        )
    }
}

fn filter(args: &FilterArgs) -> Map<String, Value> {
    let parts = [
        ("type", &args.job_type),
        ("tenant", &args.tenant),
        ("reason", &args.reason),
        ("since", &args.since),
        ("until", &args.until),
    ];
    let parts = parts.into_iter();
    parts
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_says_what_it_did() {
        let mut sum = Sum::default();
        assert_eq!(sum.sentence(false), "no dead letter matches");
        sum.add(
            &json!({"matched": 3, "redriven": [{}, {}], "skipped": []}),
            false,
        );
        assert_eq!(
            sum.sentence(false),
            "3 dead letters match: 2 done again, 0 left"
        );
        assert_eq!(
            sum.sentence(true),
            "3 dead letters match: 2 would be done again, 0 left"
        );
    }

    #[test]
    fn a_row_is_one_line() {
        let letter = json!({"at": "t", "partition": 1, "offset": 2, "reason": "r", "attempt": 3, "message": "x".repeat(200)});
        let row = row(&letter);
        assert_eq!(row[1], "1/2");
        assert_eq!(row[2], "-");
        assert!(row[7].chars().count() == 61);
    }
}
