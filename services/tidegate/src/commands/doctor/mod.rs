//! `tidegate doctor`: everything that this configuration names, looked at once, a line each.
//!
//! All is asked at the same time, and each question has its limit: an operator is waiting. What is made of the answers is
//! in [`diagnosis`]; nothing here writes, joins, commits or makes anything.

mod http;
mod kafka;

use std::time::Duration;

use tidegate_kafka::RegistryError;
use tidegate_runtime::types::digest;
use tidegate_store::{Inspection, StoreError};

use crate::cli::DoctorArgs;
use crate::diagnosis::clocks::Sample;
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
        None => vec![Role::Gateway, Role::Worker, Role::Scheduler],
    };
    let own = Own {
        digest: digest(&settings.types),
        count: settings.types.len(),
        file: settings.types_file.clone(),
        problems,
    };
    let asked = http::addresses(settings, &args.role)?;
    // Workers and schedulers have no store.
    let has_store = wanted.contains(&Role::Gateway);
    if has_store {
        // A setting that cannot be used is told as everywhere else.
        tidegate_store::open(&settings.store).map_err(|error| settings::refused(&loaded, error))?;
    }
    let (kafka, registry, store, roles) = tokio::join!(
        kafka::look(settings, &wanted),
        look_at_registry(settings),
        look_at_store(settings, has_store),
        http::look(asked),
    );

    let mut findings = vec![];
    let mut times = Times::default();
    findings.extend(kafka.findings);
    findings.extend(registry.findings);
    if let Ok(time) = registry.time {
        times.take("registry", time);
    }
    if let Some((found, time)) = store {
        findings.extend(store::judge(&found, kafka.cluster.as_deref()));
        if found.is_ok() {
            times.take("store", time);
        }
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

type Looked = (Result<Inspection, StoreError>, Option<Sample>);

async fn look_at_store(settings: &Settings, wanted: bool) -> Option<Looked> {
    if !wanted {
        return None;
    }
    let look = async {
        let store = tidegate_store::open(&settings.store)?;
        let asked = tidegate_contract::now_millis();
        let found = store.inspect().await;
        let answered = tidegate_contract::now_millis();
        store.close().await;
        Ok::<_, StoreError>((found?, asked, answered))
    };
    let found = match tokio::time::timeout(LIMIT, look).await {
        Ok(found) => found,
        Err(_) => {
            let reason = format!("no answer within {} s", LIMIT.as_secs());
            Err(StoreError::Unavailable(reason))
        }
    };
    Some(match found {
        Ok((found, asked, answered)) => {
            let time = found.now.map(|theirs| Sample {
                asked,
                theirs,
                step: 0,
                answered,
            });
            (Ok(found), time)
        }
        Err(error) => (Err(error), None),
    })
}
