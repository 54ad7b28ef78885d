//! Webhooks: a client that gave a callback URL is told how its job ended.
//!
//! Data will flow like this: a gateway that takes a job checks the text of its callback URL ([`tidegate_callbacks::CallbackRules`]) and the
//! events that are asked for ([`tidegate_contract::EventFilter`]), and keeps both with the job. When the job has ended, a [`Notice`] makes
//! the body and the message id, which are the same at every attempt. An attempt asks its [`Endpoint`] first: one that
//! fails is paused, one that is gone is not called any more, and none is called too often at once. The [`Signer`] adds
//! the headers of Standard Webhooks 1.0, and the [`Client`] posts: only to addresses that the policy permits, looked
//! up and connected to in one step, with bounds on time and on what is read. What came of it goes back to the endpoint,
//! and the [`Schedule`] says when to try again, or that the message is given up.
//!
//! Who wants an e-mail instead gets one with the same facts from the [`Mailer`].
//!
//! Nothing here knows of Kafka or of the store; all but the client, the mailer and the resolver are pure: time and random numbers
//! are passed in.
#![warn(missing_docs)]

mod client;
mod email;
mod endpoint;
mod payload;
mod schedule;
mod settings;
mod sign;

pub use client::{Answer, Client, ClientError, SendError};
pub use email::{
    EmailSettings, Mail, MailAnswer, MailDelivery, MailError, Mailer, MailerError, Security,
};
pub use endpoint::{Admission, Change, Delivery, Endpoint, Record, Turn, Why};
pub use payload::{Links, Notice};
pub use schedule::{Next, Schedule};
pub use settings::{BadSetting, EndpointSettings, Limits};
pub use sign::{BadKey, Signed, Signer, SigningKey};
