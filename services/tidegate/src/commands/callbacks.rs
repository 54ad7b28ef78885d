//! `tidegate callbacks`: what became of callbacks and e-mails, and sending them again. All of it asks a gateway.

use serde_json::{Map, Value, json};
use tidegate_contract::FollowUpKind;

use super::client::{self, Pages, text};
use crate::cli::{
    CallbacksCommand, EnableArgs, EndpointsArgs, ListCallbacksArgs, RecoverArgs, ResendArgs,
};
use crate::exit::Failure;
use crate::output;

/// Runs one of the commands.
pub async fn run(command: CallbacksCommand) -> Result<(), Failure> {
    match command {
        CallbacksCommand::List(args) => list(args).await,
        CallbacksCommand::Resend(args) => resend(args).await,
        CallbacksCommand::Recover(args) => recover(args).await,
        CallbacksCommand::Endpoints(args) => endpoints(args).await,
        CallbacksCommand::Enable(args) => enable(args).await,
    }
}

async fn list(args: ListCallbacksArgs) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{}/callbacks", args.id);
    let body = client::ask(&args.gateway, &path, Map::new()).await?;
    let none = Vec::new();
    let callbacks = body["callbacks"].as_array().unwrap_or(&none);
    if args.json {
        for callback in callbacks {
            output::line(callback.to_string());
        }
        return Ok(());
    }
    for callback in callbacks {
        output::line(sentence(callback));
    }
    let columns = ["to", "attempt", "at", "ms", "status", "said"];
    let rows: Vec<_> = callbacks.iter().flat_map(attempts).collect();
    let nothing = match callbacks.len() {
        0 => "the job has no callbacks and no e-mails",
        _ => "no attempts yet",
    };
    output::rows(nothing, &columns, &rows);
    Ok(())
}

/// The URL; the addresses of an e-mail are not told.
fn named(callback: &Value) -> String {
    match callback["target"].as_str() {
        Some(url) => url.to_owned(),
        None => words(&text(callback, "kind")),
    }
}

/// A kind as people call it; one that this version does not know, as the gateway does.
fn words(kind: &str) -> String {
    match FollowUpKind::of(kind) {
        Some(kind) => format!("the {}", kind.noun()),
        None => kind.to_owned(),
    }
}

/// How a callback stands.
fn sentence(callback: &Value) -> String {
    let url = named(callback);
    match callback["state"].as_str() {
        Some("pending") => format!(
            "{url} is pending: the next attempt is due at {}",
            text(callback, "nextAttemptAt")
        ),
        Some("failed") => format!(
            "{url} was given up at {}: {}",
            text(callback, "settledAt"),
            text(callback, "reason")
        ),
        _ => format!(
            "{url} is {} since {}",
            text(callback, "state"),
            text(callback, "settledAt")
        ),
    }
}

fn attempts(callback: &Value) -> Vec<Vec<String>> {
    let attempts = callback["attempts"].as_array().into_iter().flatten();
    let row = |attempt: &Value| {
        let said = match attempt["error"].as_str() {
            Some(error) => error,
            None => attempt["answer"].as_str().unwrap_or_default(),
        };
        let status = attempt["status"].as_u64();
        vec![
            named(callback),
            attempt["number"].to_string(),
            text(attempt, "at"),
            attempt["durationMs"].to_string(),
            status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            line(said),
        ]
    };
    attempts.map(row).collect()
}

/// Foreign text as a cell: one line, not too long.
fn line(said: &str) -> String {
    const LONGEST: usize = 60;
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = said.chars().take(LONGEST).map(shown).collect();
    if said.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    match line.trim() {
        "" => "-".to_owned(),
        line => line.to_owned(),
    }
}

async fn resend(args: ResendArgs) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{}/callbacks/resend", args.id);
    let mut order = json!({});
    if let Some(kind) = args.kind {
        order["kind"] = json!(kind);
    }
    let body = client::order(&args.gateway, &path, &order).await?;
    let kinds = body["kinds"].as_array().into_iter().flatten();
    let kinds: Vec<_> = kinds.filter_map(Value::as_str).map(words).collect();
    let said = format!("sent again of job {}: {}", args.id, kinds.join(", "));
    tell(args.json, &body, said);
    Ok(())
}

async fn recover(args: RecoverArgs) -> Result<(), Failure> {
    let mut order = json!({ "since": args.since });
    if let Some(url) = args.endpoint {
        order["url"] = json!(url);
    }
    if let Some(kind) = args.kind {
        order["kind"] = json!(kind);
    }
    let body = client::order(&args.gateway, "/v1/callbacks/recover", &order).await?;
    let said = match body["recovered"].as_u64().unwrap_or_default() {
        0 => "nothing was given up since then".to_owned(),
        1 => "one is sent again".to_owned(),
        n => format!("{n} are sent again"),
    };
    tell(args.json, &body, said);
    Ok(())
}

const ENDPOINTS: Pages<'_> = Pages {
    path: "/v1/callback-endpoints",
    none: "no endpoint fails or is disabled",
    columns: &["url", "state", "failures", "failing since", "reason"],
    row: endpoint,
    items: "endpoints",
    next: "next",
    page: 200,
};

async fn endpoints(args: EndpointsArgs) -> Result<(), Failure> {
    ENDPOINTS
        .show(&args.gateway, &Map::new(), args.limit, args.json)
        .await
}

fn endpoint(endpoint: &Value) -> Vec<String> {
    let failures = endpoint["failures"].as_u64().unwrap_or_default();
    vec![
        text(endpoint, "url"),
        text(endpoint, "state"),
        failures.to_string(),
        text(endpoint, "failingSince"),
        text(endpoint, "reason"),
    ]
}

async fn enable(args: EnableArgs) -> Result<(), Failure> {
    let order = json!({ "url": args.endpoint });
    let body = client::order(&args.gateway, "/v1/callback-endpoints/enable", &order).await?;
    let said = format!(
        "{} is called again; `tidegate callbacks recover` sends what was given up",
        args.endpoint
    );
    tell(args.json, &body, said);
    Ok(())
}

fn tell(as_json: bool, body: &Value, said: String) {
    output::line(match as_json {
        true => body.to_string(),
        false => said,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_a_sentence_and_its_attempts_are_rows() {
        let mut callback = json!({
            "kind": "callback", "target": "https://a.example/", "state": "pending", "nextAttemptAt": "soon",
            "attempts": [
                {"number": 1, "at": "t1", "durationMs": 7, "status": 500, "error": null, "answer": "so\r\nso"},
                {"number": 2, "at": "t2", "durationMs": 9, "status": null, "error": "no connection", "answer": ""},
            ],
        });
        let pending = "https://a.example/ is pending: the next attempt is due at soon";
        assert_eq!(sentence(&callback), pending);
        let rows = attempts(&callback);
        assert_eq!(rows[0][1..], ["1", "t1", "7", "500", "so  so"]);
        assert_eq!(rows[1][1..], ["2", "t2", "9", "-", "no connection"]);
        callback["state"] = json!("failed");
        callback["reason"] = json!("it answered 410");
        let failed = "https://a.example/ was given up at -: it answered 410";
        assert_eq!(sentence(&callback), failed);
        callback["state"] = json!("delivered");
        callback["settledAt"] = json!("noon");
        let delivered = "https://a.example/ is delivered since noon";
        assert_eq!(sentence(&callback), delivered);
    }

    #[test]
    fn what_a_receiver_said_stays_one_line() {
        assert_eq!(line("\u{1b}[2J"), "[2J");
        assert_eq!(line(&"x".repeat(100)).chars().count(), 61);
        assert_eq!(line("\n"), "-");
    }

    #[test]
    fn an_endpoint_is_a_row() {
        let row = endpoint(&json!({"url": "u", "state": "failing", "failures": 3}));
        assert_eq!(row, ["u", "failing", "3", "-", "-"]);
    }
}
