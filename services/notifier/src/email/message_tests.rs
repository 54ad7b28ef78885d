//! Mails as they are sent, and what foreign text can do to them.

use proptest::prelude::*;
use tidegate_contract::{CallbackEvent, FaultSource, JobError, JobSummary, Tier};

use super::*;

const ID: &str = "018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f";
const URL: &str = "https://jobs.example/v1/jobs/018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f";

fn job() -> JobSummary {
    JobSummary {
        job_type: "invoice".parse().unwrap(),
        pool: "default".parse().unwrap(),
        tier: Tier::Normal,
        tenant: "acme".parse().unwrap(),
        created_at: 1_738_315_800_000,
        deadline: 1_738_315_900_000,
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        retry_of: None,
        follow_ups: Vec::new(),
    }
}

fn error(code: &str, message: &str) -> JobError {
    JobError {
        code: code.to_owned(),
        message: message.to_owned(),
        source: FaultSource::Job,
        retryable: false,
        retry_after_ms: None,
        details: None,
        attempts: None,
    }
}

fn mail<'a>(
    job: &'a JobSummary,
    error: Option<&'a JobError>,
    words: Option<&'a EmailSpec>,
) -> Mail<'a> {
    Mail {
        notice: Notice {
            id: ID.parse().unwrap(),
            event: CallbackEvent::Failed,
            ended_at: 1_738_315_800_123,
            attempt: 2,
            job,
            outcome: None,
            error,
            public_url: "https://jobs.example",
        },
        to: "ops@example.com",
        words,
    }
}

fn sender() -> Sender {
    Sender {
        from: "Tidegate <jobs@example.org>".parse().unwrap(),
        reply_to: Some("team@example.org".parse().unwrap()),
    }
}

fn made(mail: &Mail<'_>) -> String {
    let to = [
        "ops@example.com".parse().unwrap(),
        "b@example.com".parse().unwrap(),
    ];
    String::from_utf8(message(mail, &to, &sender()).unwrap()).unwrap()
}

fn spec(subject: &str, body: &str) -> EmailSpec {
    let value = serde_json::json!({ "to": ["ops@example.com"], "subject": subject, "body": body });
    serde_json::from_value(value).unwrap()
}

/// Names and values of the header, and the text behind it.
fn parts(text: &str) -> (Vec<(String, String)>, String) {
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let unfolded = header.replace("\r\n ", " ").replace("\r\n\t", " ");
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    let header = unfolded.split("\r\n").map(pair).collect();
    (header, body.to_owned())
}

const NAMES: [&str; 10] = [
    "From",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "To",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

#[test]
fn a_mail_has_the_facts_and_says_that_nobody_wrote_it() {
    let (job, error) = (job(), error("no-paper", "the tray is empty"));
    let text = made(&mail(&job, Some(&error), None));
    let (header, body) = parts(&text);
    let value = |name: &str| {
        let found = header.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!(value("From"), "Tidegate <jobs@example.org>");
    assert_eq!(value("To"), "ops@example.com, b@example.com");
    assert_eq!(value("Reply-To"), "team@example.org");
    assert_eq!(
        value("Subject"),
        format!("invoice: job {ID} is failed").as_str()
    );
    assert_eq!(
        value("Message-ID"),
        format!("<msg_{ID}_failed@example.org>").as_str()
    );
    assert_eq!(value("Auto-Submitted"), "auto-generated");
    assert_eq!(value("Content-Type"), "text/plain; charset=utf-8");
    assert!(value("Date").starts_with("Fri, 31 Jan 2025 09:30:00"));
    for line in [
        format!("Job {ID} has ended: failed.\r\n"),
        "Type:      invoice\r\n".to_owned(),
        "Ended at:  2025-01-31T09:30:00.123Z\r\n".to_owned(),
        "Attempt:   2\r\n".to_owned(),
        "Tenant:    acme\r\n".to_owned(),
        "Error:     no-paper: the tray is empty\r\n".to_owned(),
        "Trace:     4bf92f3577b34da6a3ce929d0e0e4736\r\n".to_owned(),
        format!("{URL}\r\n"),
    ] {
        assert!(body.contains(&line), "{line} in {body}");
    }
    // The same at every attempt.
    assert_eq!(text, made(&mail(&job, Some(&error), None)));
}

#[test]
fn a_type_has_words_of_its_own_and_what_there_is_not_is_a_dash() {
    let mut job = job();
    job.trace_id = None;
    let words = spec(
        "[{tenant}] {type} {{}}",
        "One\r\n{error.code}/{error.message}\n{traceId}",
    );
    let (header, body) = parts(&made(&mail(&job, None, Some(&words))));
    assert!(header.contains(&("Subject".to_owned(), "[acme] invoice {}".to_owned())));
    assert!(body.starts_with("One\r\n-/-\r\n-"), "{body}");
}

#[test]
fn other_letters_arrive_whole() {
    let (job, error) = (job(), error("müde", "größer — 漢字"));
    let words = spec("{error.code}", "{error.message}");
    let mail = mail(&job, Some(&error), Some(&words));
    let text = made(&mail);
    assert!(text.is_ascii());
    let (subject, body) = super::words(&mail);
    assert_eq!((subject.as_str(), body.as_str()), ("müde", "größer — 漢字"));
}

#[test]
fn lengths_are_bounded() {
    let (job, error) = (job(), error(&"c".repeat(5000), &"m".repeat(1 << 20)));
    let words = spec("{error.code}", &"{error.message}\n".repeat(500));
    let mail = mail(&job, Some(&error), Some(&words));
    let (subject, body) = super::words(&mail);
    assert_eq!(subject.chars().count(), LONGEST_SUBJECT + 1);
    assert_eq!(body.chars().count(), LONGEST_BODY + 1);
    assert!(body.starts_with(&format!("{}…\n", "m".repeat(LONGEST_VALUE))));
    for line in made(&mail).split("\r\n") {
        assert!(line.len() <= 998, "{}", line.len());
    }
}

#[test]
fn a_time_out_of_all_bounds_is_no_panic() {
    let job = job();
    for ended_at in [Millis::MIN, -1, Millis::MAX] {
        let mut mail = mail(&job, None, None);
        mail.notice.ended_at = ended_at;
        assert!(made(&mail).contains("\r\nDate: "));
    }
}

proptest! {
    #[test]
    fn nothing_foreign_makes_a_header_or_ends_one(
        code in "[\\PC\r\n\t\u{85}\u{2028}\u{202e}:<>@ ]{0,60}",
        told in prop_oneof![
            any::<String>(),
            Just("x\r\nBcc: evil@example.net\r\n\r\nhello\r\n.\r\nMAIL FROM:<a@b.example>".to_owned()),
            Just("\n.\n".to_owned()),
            Just("\r.\r".to_owned()),
        ],
        trace in proptest::option::of(any::<String>()),
        subject in prop_oneof![
            Just("{error.message}"), Just("{error.code} {traceId}"), Just("ü {error.message} {error.code}"),
        ],
    ) {
        let (mut job, error) = (job(), error(&code, &told));
        job.trace_id = trace;
        let words = spec(subject, "{error.message}\n{traceId} {error.code}\n.\n");
        let text = made(&mail(&job, Some(&error), Some(&words)));
        prop_assert!(text.is_ascii());
        let (header, _) = parts(&text);
        let names: Vec<&str> = header.iter().map(|(name, _)| name.as_str()).collect();
        prop_assert_eq!(names, NAMES);
        // No line ending but that of the protocol, in the text neither.
        prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }

    #[test]
    fn every_address_that_a_configuration_may_hold_can_be_written_to(
        local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\\.[a-zA-Z0-9_+-]{1,10}){0,2}",
        domain in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,10}){1,3}",
    ) {
        let given = format!("{local}@{domain}");
        let to: Recipients = given.parse().unwrap();
        let read = addresses(&to);
        prop_assert!(read.is_ok(), "{}", given);
    }
}
