//! What a mail says. It is the same at every attempt, whoever makes it, so that a server or a reader knows a repeat. Pure.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Address;
use lettre::error::Error as BuildError;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, SinglePart};
use tidegate_contract::email::{default_body, default_subject};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{EmailSpec, Millis, Place, Recipients};

use crate::payload::Notice;

/// Longest subject, in characters.
const LONGEST_SUBJECT: usize = 200;
/// Longest text, in characters.
const LONGEST_BODY: usize = 64 * 1024;
/// Longest value of one place, in characters.
const LONGEST_VALUE: usize = 2000;
/// The last millisecond that can be written as a date: of the year 9999.
const LAST: Millis = 253_402_300_799_999;

/// One mail to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// The job that has ended.
    pub notice: Notice<'a>,
    /// The addresses, as a follow-up's target has them: separated by commas.
    pub to: &'a str,
    /// The words of the job's type as it is now; without it, those that are there anyway.
    pub words: Option<&'a EmailSpec>,
}

/// In whose name mails are sent.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) from: Mailbox,
    pub(super) reply_to: Option<Mailbox>,
}

/// The mail as it is sent, ASCII throughout.
pub(super) fn message(
    mail: &Mail<'_>,
    to: &[Address],
    sender: &Sender,
) -> Result<Vec<u8>, BuildError> {
    let (subject, body) = words(mail);
    let ended = UNIX_EPOCH + Duration::from_millis(ended_at(mail).unsigned_abs());
    let auto = HeaderValue::new(
        HeaderName::new_from_ascii_str("Auto-Submitted"),
        "auto-generated".to_owned(),
    );
    let mut builder = Message::builder()
        .from(sender.from.clone())
        .subject(subject)
        .date(ended)
        .message_id(Some(message_id(mail, sender)))
        .raw_header(auto);
    for address in to {
        builder = builder.to(Mailbox::new(None, address.clone()));
    }
    if let Some(reply_to) = &sender.reply_to {
        builder = builder.reply_to(reply_to.clone());
    }
    let message = builder.singlepart(SinglePart::plain(body))?;
    Ok(message.formatted())
}

/// The addresses as the protocol takes them. `Err`: one of them, which is of another form.
pub(super) fn addresses(to: &Recipients) -> Result<Vec<Address>, String> {
    let address = |text: &str| text.parse().map_err(|_| text.to_owned());
    to.iter().map(address).collect()
}

/// From the job and its end alone.
fn message_id(mail: &Mail<'_>, sender: &Sender) -> String {
    format!(
        "<{}@{}>",
        mail.notice.message_id(),
        sender.from.email.domain()
    )
}

fn ended_at(mail: &Mail<'_>) -> Millis {
    mail.notice.ended_at.clamp(0, LAST)
}

/// Subject and text.
fn words(mail: &Mail<'_>) -> (String, String) {
    let (subject, body) = match mail.words {
        Some(spec) => (spec.subject.clone(), spec.body.clone()),
        None => (default_subject(), default_body()),
    };
    let fact = |place| one_line(&fact(mail, place), LONGEST_VALUE);
    let subject = one_line(&subject.fill(fact), LONGEST_SUBJECT);
    let body = body.fill(fact).replace("\r\n", "\n").replace('\r', "\n");
    (subject, cut(&body, LONGEST_BODY))
}

/// What stands at a place; what there is not is a dash.
fn fact(mail: &Mail<'_>, place: Place) -> String {
    let Notice {
        id,
        event,
        attempt,
        job,
        error,
        ..
    } = mail.notice;
    let text = match place {
        Place::JobId => id.to_string(),
        Place::Type => job.job_type.to_string(),
        Place::Tenant => job.tenant.to_string(),
        Place::Status => event.status().to_string(),
        Place::StatusUrl => mail.notice.status_url(),
        Place::ErrorCode => error.map(|it| it.code.clone()).unwrap_or_default(),
        Place::ErrorMessage => error.map(|it| it.message.clone()).unwrap_or_default(),
        Place::Attempt => attempt.to_string(),
        Place::EndedAt => rfc3339(ended_at(mail)),
        Place::TraceId => job.trace_id.clone().unwrap_or_default(),
    };
    match text.is_empty() {
        true => "-".to_owned(),
        false => text,
    }
}

/// Foreign text as a part of one line: nothing in it ends a line, or turns around how it is read.
fn one_line(text: &str, longest: usize) -> String {
    let breaks = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let kept = cut(text, longest);
    kept.chars()
        .map(|c| if breaks(c) { ' ' } else { c })
        .collect()
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
