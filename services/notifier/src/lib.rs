//! Webhooks: a client that gave a callback URL is told how its job ended.
//!
//! Data flows like this: a gateway that takes a job checks the text of its callback URL ([`tidegate_callbacks::CallbackRules`]) and the
//! events that are asked for ([`tidegate_contract::EventFilter`]), and keeps both with the job. The projection of the job's end makes
//! a follow-up in the store. Notifiers take those that are due and hold them by a lease (`dispatch`): a [`Notice`] makes
//! the body and the message id, which are the same at every attempt. An attempt asks its [`Endpoint`] first: one that
//! fails is paused, one that is gone is not called any more, and none is called too often at once. The [`Signer`] adds
//! the headers of Standard Webhooks 1.0, and the [`Client`] posts: only to addresses that the policy permits, looked
//! up and connected to in one step, with bounds on time and on what is read. What came of it goes back to the endpoint and
//! to the store, and the [`Schedule`] says when to try again, or that the message is given up. [`Notifier`] is the role around it.
//!
//! Who wants an e-mail instead gets one with the same facts (`mailing`) from the [`Mailer`].
//!
//! Nothing here knows of Kafka. The endpoints, the schedule, the signature, the message and the judgement of an attempt are
//! pure: time and random numbers are passed in.
#![warn(missing_docs)]

mod client;
mod dispatch;
mod email;
mod endpoint;
mod keys;
mod mailing;
mod notifier;
mod payload;
mod rounds;
mod schedule;
mod settings;
mod sign;
mod spans;
mod store;
mod telling;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_server;

pub use client::{Answer, Client, ClientError, SendError};
pub use email::{
    EmailSettings, Mail, MailAnswer, MailDelivery, MailError, Mailer, MailerError, Security,
};
pub use endpoint::{Admission, Change, Delivery, Endpoint, Record, Turn, Why};
pub use keys::Keys;
pub use notifier::{Notifier, NotifierConfig, NotifierError};
pub use payload::Notice;
pub use schedule::{Next, Schedule};
pub use settings::{BadNotifierSetting, BadSetting, EndpointSettings, Limits, NotifierSettings};
pub use sign::{BadKey, Signed, Signer, SigningKey};
pub use store::Jobs;
