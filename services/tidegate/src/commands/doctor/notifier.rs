//! What a notifier of this configuration would find.

use std::time::Duration;

use tidegate_contract::{FollowUpKind, JobType};
use tidegate_notifier::Mailer;
use tidegate_store::{Inspection, Store, StoreError, Tables};

use crate::commands::notifier;
use crate::diagnosis::notifier::{SetUp, Stored, mailing, signing};
use crate::settings::Settings;

/// For the mail server, from the connection to the login.
const LIMIT: Duration = Duration::from_secs(4);

/// Whether callbacks and e-mails can be sent. The mail server is greeted, with the login; no mail is sent.
pub async fn set_up(settings: &Settings) -> (SetUp, SetUp) {
    let keys = notifier::keys(&settings.callbacks);
    let keys = keys.map(|keys| !keys.is_empty());
    let types = settings.types.iter();
    let asking = types.filter_map(|(name, spec)| spec.email.as_ref().map(|_| name));
    let asking: Vec<&JobType> = asking.collect();
    let email = &settings.notifier.email;
    let server = match &email.host {
        None => None,
        Some(host) => {
            let greeted = match Mailer::new(email) {
                Ok(Some(mailer)) => mailer.greet(LIMIT).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            Some((format!("{host}:{}", email.port()), greeted))
        }
    };
    (
        signing(keys.map_err(|error| error.to_string())),
        mailing(server, &asking),
    )
}

/// How many callbacks and e-mails wait in a store that was found so.
pub async fn waiting(
    store: &dyn Store,
    found: &Result<Inspection, StoreError>,
) -> (Stored, Stored) {
    let of = async |kind| match found {
        _ if store.kind() == "sqlite" => Stored::Private,
        Err(_) => Stored::away(),
        Ok(found) if !matches!(found.tables, Tables::Current(_)) => {
            Stored::Unknown("the store has not the tables of this version".to_owned())
        }
        Ok(_) => match store.waiting(kind).await {
            Ok(waiting) => Stored::Found(waiting),
            Err(error) => Stored::Unknown(error.to_string()),
        },
    };
    (
        of(FollowUpKind::Callback).await,
        of(FollowUpKind::Email).await,
    )
}
