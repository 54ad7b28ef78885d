//! `tidegate doctor`: everything that this configuration names, looked at once, a line each.
//!
//! All is asked at the same time, and each question has its limit: an operator is waiting. What is made of the answers is
//! in [`diagnosis`]; nothing here writes, joins, commits or makes anything.

mod http;
mod kafka;
mod notifier;

use std::time::Duration;

use tidegate_contract::now_millis;
use tidegate_kafka::RegistryError;
use tidegate_runtime::types::digest;
use tidegate_store::{Inspection, StoreError};

use crate::cli::DoctorArgs;
use crate::diagnosis::clocks::Sample;
use crate::diagnosis::notifier::{Seen, Stored, judge as judge_notifier};
use crate::diagnosis::rights::Role;
use crate::diagnosis::roles::Own;
use crate::diagnosis::{self, Finding, Verdict, clocks, registry, roles, store};
use crate::exit::{DONE, FAILED, Failure};
use crate::settings::Settings;
use crate::{output, settings};

/// Of any one subject, whatever its own limits come to.
const LIMIT: Duration = Duration::from_secs(8);

/// Looks, prints and gives the exit code.
pub async fn run(args: DoctorArgs) -> Result<u8, Failure> {
    let (loaded, problems) = settings::load_or_without_types(&args.settings)?;
    let settings = &loaded.value;
    let wanted = match args.only {
        Some(role) => vec![role],
        None => Role::ALL.to_vec(),
    };
    let own = Own {
        digest: digest(&settings.types),
        count: settings.types.len(),
        file: settings.types_file.clone(),
        problems,
    };
    let asked = http::addresses(settings, &args.role)?;
    // Workers and schedulers have no store, and notifiers have nothing of Kafka.
    let notifies = wanted.contains(&Role::Notifier);
    let has_store = notifies || wanted.contains(&Role::Gateway);
    let of_kafka = wanted.iter().filter(|role| **role != Role::Notifier);
    let of_kafka: Vec<_> = of_kafka.copied().collect();
    let has_kafka = !of_kafka.is_empty();
    if has_store {
        // A setting that cannot be used is told as everywhere else.
        tidegate_store::open(&settings.store).map_err(|error| settings::refused(&loaded, error))?;
    }
    let (kafka, registry, store, set_up, roles) = tokio::join!(
        only_if(has_kafka, kafka::look(settings, &of_kafka)),
        only_if(has_kafka, look_at_registry(settings)),
        only_if(has_store, look_at_store(settings)),
        only_if(notifies, notifier::set_up(settings)),
        http::look(asked),
    );

    let mut findings = vec![];
    let mut times = Times::default();
    let mut cluster = None;
    if let Some(kafka) = kafka {
        findings.extend(kafka.findings);
        cluster = kafka.cluster;
    }
    if let Some(registry) = registry {
        findings.extend(registry.findings);
        if let Ok(time) = registry.time {
            times.take("registry", time);
        }
    }
    let mut stored = None;
    if let Some(store) = store {
        findings.extend(store::judge(&store.found, cluster.as_deref()));
        if store.found.is_ok() {
            times.take("store", store.time);
        }
        stored = Some(store.waiting);
    }
    if let (Some((signing, mailing)), Some((callbacks, emails))) = (set_up, stored) {
        let seen = |set_up, waiting| Seen { set_up, waiting };
        let (callbacks, emails) = (seen(signing, callbacks), seen(mailing, emails));
        findings.extend(judge_notifier(&callbacks, &emails, now_millis()));
    }
    let (asked, role_times): (Vec<_>, Vec<_>) = roles.into_iter().unzip();
    for (role, time) in asked.iter().zip(role_times) {
        if role.answer.is_ok() {
            times.take(&role.url, time);
        }
    }
    findings.extend(clocks::judge(&times.told, &times.silent));
    findings.extend(roles::judge(&own, &asked, env!("CARGO_PKG_VERSION")));

    output::line(match args.json {
        true => format!("{:#}", diagnosis::object(&findings)),
        false => diagnosis::page(&findings),
    });
    Ok(match diagnosis::count(&findings, Verdict::Problem) {
        0 => DONE,
        _ => FAILED,
    })
}

/// Who told the time, and who answered and did not.
#[derive(Default)]
struct Times {
    told: Vec<(String, Sample)>,
    silent: Vec<String>,
}

impl Times {
    fn take(&mut self, name: &str, time: Option<Sample>) {
        match time {
            Some(time) => self.told.push((name.to_owned(), time)),
            None => self.silent.push(name.to_owned()),
        }
    }
}

struct Registry {
    findings: Vec<Finding>,
    /// Or why nobody answered.
    time: Result<Option<Sample>, String>,
}

async fn look_at_registry(settings: &Settings) -> Registry {
    let settings = &settings.registry;
    let look = async {
        tokio::join!(
            tidegate_kafka::check_schemas(settings),
            tidegate_kafka::compatibility_levels(settings),
            http::time(&settings.url),
        )
    };
    let (schemas, levels, time) = match tokio::time::timeout(LIMIT, look).await {
        Ok(looked) => looked,
        Err(_) => {
            let reason = format!("no answer within {} s", LIMIT.as_secs());
            (
                Err(RegistryError::Unavailable(reason.clone())),
                Ok(Vec::new()),
                Err(reason),
            )
        }
    };
    let schemas = match (schemas, &time) {
        // The plainer of the two.
        (Err(RegistryError::Unavailable(_)), Err(reason)) => {
            Err(RegistryError::Unavailable(reason.clone()))
        }
        (schemas, _) => schemas,
    };
    Registry {
        findings: registry::judge(&settings.url, &schemas, &levels),
        time,
    }
}

struct Looked {
    found: Result<Inspection, StoreError>,
    time: Option<Sample>,
    /// Callbacks and e-mails.
    waiting: (Stored, Stored),
}

async fn look_at_store(settings: &Settings) -> Looked {
    let look = async {
        let store = tidegate_store::open(&settings.store)?;
        let asked = now_millis();
        let found = store.inspect().await;
        let answered = now_millis();
        let waiting = notifier::waiting(&*store, &found).await;
        store.close().await;
        let now = found.as_ref().ok().and_then(|found| found.now);
        let time = now.map(|theirs| Sample {
            asked,
            theirs,
            step: 0,
            answered,
        });
        Ok(Looked {
            found,
            time,
            waiting,
        })
    };
    let error = match tokio::time::timeout(LIMIT, look).await {
        Ok(Ok(looked)) => return looked,
        Ok(Err(error)) => error,
        Err(_) => StoreError::Unavailable(format!("no answer within {} s", LIMIT.as_secs())),
    };
    Looked {
        found: Err(error),
        time: None,
        waiting: (Stored::away(), Stored::away()),
    }
}

async fn only_if<T>(wanted: bool, look: impl Future<Output = T>) -> Option<T> {
    match wanted {
        true => Some(look.await),
        false => None,
    }
}
