//! E-mail as another way to tell how a job ended. The words are those of the job's type, see
//! [`tidegate_contract::EmailSpec`]; [`message`] makes a mail of them and of the facts, the same one at every attempt,
//! and the [`Mailer`] hands it to the one server that [`EmailSettings`] name.

mod answer;
mod mailer;
mod message;
mod settings;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use answer::{MailAnswer, MailDelivery, MailError};
pub use mailer::{Mailer, MailerError};
pub use message::Mail;
pub use settings::{EmailSettings, Security};
