//! What a mail server replies, and what that means for a mail.

use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::response::{Response, Severity};
use tidegate_contract::BadRecipients;

/// What is kept of a reply, in characters.
const KEEP: usize = 1000;
/// The kind of reply that means yes.
pub(super) const DONE: Severity = Severity::PositiveCompletion;

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailDelivery {
    /// The server has taken it, and answers for it now.
    Taken,
    /// The server does not take this mail now (4yz).
    ForNow,
    /// The server takes no mail of ours now: it refuses the greeting, the login or the sender (4yz, 5yz).
    FromNobody,
    /// The server takes it at no time (5yz): another attempt would end the same.
    ForGood,
}

/// What the server replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAnswer {
    /// What that means.
    pub delivery: MailDelivery,
    /// The reply code, such as 250.
    pub code: u16,
    /// What it says, and which addresses it refused, 1000 characters at most; foreign text.
    pub excerpt: String,
}

/// Why there is no reply.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MailError {
    /// The follow-up's target is no list of addresses. It never is.
    #[error(transparent)]
    Recipients(#[from] BadRecipients),
    /// No mail can be made of it, at no time.
    #[error("no mail can be made: {0}")]
    Message(String),
    /// All connections are taken. Nothing was sent.
    #[error("all connections to the mail server are in use for {}", humantime::format_duration(*.0))]
    Busy(Duration),
    /// No connection, or none that is protected as it has to be. Nothing was sent.
    #[error("no connection to the mail server: {0}")]
    Connect(String),
    /// The time was up. The mail may have been taken.
    #[error("the mail server did not take the mail within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection ended, or what came was no SMTP. The mail may have been taken.
    #[error("the mail server gave no whole reply: {0}")]
    Broken(String),
}

impl MailError {
    /// A name for traces, which names nobody.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Recipients(_) | Self::Message(_) => "no-mail",
            Self::Busy(_) => "busy",
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
        }
    }

    /// Whether another attempt would end the same.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Recipients(_) | Self::Message(_))
    }
}

/// How a conversation ended before the mail was taken.
pub(super) enum Ended {
    Answer(MailAnswer),
    Error(MailError),
}

pub(super) fn no_connection(reason: impl Into<String>) -> Ended {
    Ended::Error(MailError::Connect(reason.into()))
}

/// What failed before there was talk of a mail.
pub(super) fn before(error: &Error) -> Ended {
    match not_of_the_mail(within(error, MailDelivery::FromNobody)) {
        Ended::Error(_) => no_connection(excerpt(&error.to_string())),
        answer => answer,
    }
}

/// A reply to something that every mail begins with.
pub(super) fn not_of_the_mail(ended: Ended) -> Ended {
    match ended {
        Ended::Answer(answer) => Ended::Answer(MailAnswer {
            delivery: MailDelivery::FromNobody,
            ..answer
        }),
        error => error,
    }
}

/// The reply, if it is of the kind that belongs here: a yes in the wrong place is an answer to something else.
pub(super) fn reply(
    told: Result<Response, Error>,
    expected: Severity,
    permanent: MailDelivery,
) -> Result<Response, Ended> {
    let reply = told.map_err(|error| within(&error, permanent))?;
    let code = reply.code();
    if code.severity != expected {
        let broken = MailError::Broken(format!("{code} does not belong here"));
        return Err(Ended::Error(broken));
    }
    Ok(reply)
}

/// What failed; `permanent` is what a reply 5yz means here.
pub(super) fn within(error: &Error, permanent: MailDelivery) -> Ended {
    let Some(code) = error.status() else {
        return Ended::Error(MailError::Broken(excerpt(&error.to_string())));
    };
    let told = std::error::Error::source(error);
    Ended::Answer(MailAnswer {
        delivery: match code.severity {
            Severity::PermanentNegativeCompletion => permanent,
            _ => MailDelivery::ForNow,
        },
        code: code.into(),
        excerpt: excerpt(&told.map_or_else(String::new, ToString::to_string)),
    })
}

pub(super) fn text(reply: &Response) -> String {
    reply.message().collect::<Vec<_>>().join(" ")
}

pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(KEEP).collect()
}
