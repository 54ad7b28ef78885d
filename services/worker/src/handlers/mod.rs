//! The built-in handlers, and which handler runs which type.

mod breaker;
#[cfg(test)]
mod breaker_tests;
mod command;
#[cfg(test)]
mod command_tests;
mod echo;
mod http;
#[cfg(test)]
mod http_tests;
mod limit;
mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::{HandlerSpec, JobId, JobType, JobTypes, Pool, RetryPolicy};

use self::targets::Targets;
pub(crate) use self::targets::{Entered, Gate};
use crate::handler::{Handler, Handlers};

/// How one type is run here.
#[derive(Clone)]
pub(crate) struct Runnable {
    pub handler: Arc<dyn Handler>,
    /// Longest run of one attempt.
    pub timeout: Duration,
    /// What follows a failed one.
    pub retry: Arc<RetryPolicy>,
    /// What its attempts pass first, where its target has a breaker.
    pub gate: Option<Gate>,
}

/// What this worker can run, and where the rest belongs.
pub(crate) struct Repertoire {
    runnable: BTreeMap<JobType, Runnable>,
    /// Types of other pools: a record of one on our topics comes back in its pool.
    elsewhere: BTreeMap<JobType, Pool>,
    /// Custom types whose handler is not registered in this process.
    missing: Vec<(JobType, String)>,
    targets: Targets,
}

/// How one job is run, by its id.
pub(crate) type ByJob = Box<dyn Fn(JobId) -> Option<Runnable> + Send + Sync>;

/// A handler cannot be made from its settings.
#[derive(Debug, thiserror::Error)]
#[error("types.{job_type}.handler: {problem}")]
pub struct BadHandler {
    job_type: JobType,
    problem: String,
}

impl Repertoire {
    /// The handlers of every type in `pools`. Custom ones that are not among `custom` are unknown here. A type whose
    /// handler is as it was `before` keeps it, with its connections; a target keeps its breaker.
    pub(crate) fn build(
        types: &JobTypes,
        pools: &[Pool],
        custom: &Handlers,
        before: Option<(&JobTypes, &Self)>,
    ) -> Result<Self, BadHandler> {
        let client = http::client();
        let mut built = Self {
            runnable: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            missing: Vec::new(),
            targets: Targets::default(),
        };
        for (job_type, spec) in types {
            if !pools.contains(&spec.pool) {
                built.elsewhere.insert(job_type.clone(), spec.pool.clone());
                continue;
            }
            let bad = |problem: String| BadHandler {
                job_type: job_type.clone(),
                problem,
            };
            let known = before.map(|(_, built)| &built.targets);
            let gate = built.targets.gate(&spec.handler, known);
            let kept = before.and_then(|(types, built)| {
                let same = types.get(job_type)?.handler == spec.handler;
                built.get(job_type).filter(|_| same)
            });
            if let Some(kept) = kept {
                let kept = Runnable {
                    handler: Arc::clone(&kept.handler),
                    timeout: spec.attempt_timeout,
                    retry: Arc::new(spec.retry.clone()),
                    gate,
                };
                built.runnable.insert(job_type.clone(), kept);
                continue;
            }
            let handler: Arc<dyn Handler> = match &spec.handler {
                HandlerSpec::Echo => Arc::new(echo::Echo),
                HandlerSpec::Http {
                    url,
                    max_answer_bytes,
                    ..
                } => {
                    let client = client.clone().map_err(bad)?;
                    Arc::new(http::Http::new(client, url, *max_answer_bytes).map_err(bad)?)
                }
                HandlerSpec::Command {
                    program,
                    env,
                    content_type,
                } => Arc::new(command::Command::new(program, env, content_type).map_err(bad)?),
                HandlerSpec::Custom { name } => match custom.get(name) {
                    Some(handler) => handler,
                    None => {
                        built.missing.push((job_type.clone(), name.clone()));
                        continue;
                    }
                },
            };
            let runnable = Runnable {
                handler,
                timeout: spec.attempt_timeout,
                retry: Arc::new(spec.retry.clone()),
                gate,
            };
            built.runnable.insert(job_type.clone(), runnable);
        }
        Ok(built)
    }

    /// How a type is run here, if it is.
    pub(crate) fn get(&self, job_type: &JobType) -> Option<&Runnable> {
        self.runnable.get(job_type)
    }

    /// The pool of a type that belongs to another one.
    pub(crate) fn pool_elsewhere(&self, job_type: &JobType) -> Option<&Pool> {
        self.elsewhere.get(job_type)
    }

    /// Says which types name a custom handler that this process does not have.
    pub(crate) fn complain(&self) {
        for (job_type, handler) in &self.missing {
            tracing::warn!(
                %job_type,
                handler,
                "no handler of this name is built into this worker: jobs of this type are parked"
            );
        }
    }

    /// The names of the servers that have a breaker here.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.names()
    }

    /// The types run here.
    pub(crate) fn types(&self) -> impl Iterator<Item = &JobType> {
        self.runnable.keys()
    }
}

/// How handlers outside this process are told yes or no.
fn truth(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

/// Names and values as in a query string (`a=1&b=x+y`), for the handlers that pass them as one text.
fn form_encoded(pairs: &[tidegate_contract::Pair]) -> String {
    let Ok(mut url) = reqwest::Url::parse("x:") else {
        return String::new();
    };
    for pair in pairs {
        url.query_pairs_mut().append_pair(&pair.name, &pair.value);
    }
    url.query().unwrap_or_default().to_owned()
}
