//! `tidegate notifier`.

use std::sync::Arc;

use tidegate_callbacks::CallbackSettings;
use tidegate_notifier::{BadKey, Keys, Notifier, NotifierConfig, NotifierError};
use tidegate_runtime::Metrics;
use tidegate_runtime::config::Loaded;
use tidegate_store::Store;
use tokio::sync::Notify;

use super::{gateway, process};
use crate::cli::RoleArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, settings};

/// Runs a notifier until it is told to stop.
pub async fn run(args: RoleArgs) -> Result<(), Failure> {
    let loaded = settings::load(&args.with_listen("notifier.listen"))?;
    let settings = &loaded.value;
    let process = process::start(&loaded, "notifier", settings.notifier.grace)?;
    let store =
        tidegate_store::open(&settings.store).map_err(|error| settings::refused(&loaded, error))?;
    if store.kind() == "sqlite" {
        let only = "store.url is SQLite, which the gateway's process has for itself: use PostgreSQL, or `tidegate dev`";
        return Err(settings::refused(&loaded, only));
    }
    let metrics = process::metrics(&settings.types);
    let config = config(
        &loaded,
        settings,
        store.clone(),
        Arc::default(),
        metrics,
        &process.instance,
    )?;
    let notifier = Notifier::build(config).await;
    let notifier = notifier.map_err(|error| refused(&loaded, error))?;
    output::line(match notifier.ops_addr() {
        Some(addr) => format!("notifier listening on http://{addr}"),
        None => "notifier started".to_owned(),
    });
    notifier.run(process.shutdown.clone()).await;
    gateway::close(&*store).await;
    process.end().await;
    Ok(())
}

/// What a notifier is made of, on the store that it is given.
pub fn config(
    loaded: &Loaded<Settings>,
    settings: &Settings,
    store: Arc<dyn Store>,
    wake: Arc<Notify>,
    metrics: Metrics,
    instance: &str,
) -> Result<NotifierConfig, Failure> {
    let callbacks = &settings.callbacks;
    let bad = |key: &str, problem: String| settings::refused(loaded, format!("{key} {problem}"));
    let tenants = callbacks.tenants.values().filter_map(|own| own.url.clone());
    let types = settings
        .types
        .values()
        .filter_map(|spec| spec.callback.as_ref());
    let words = settings
        .types
        .iter()
        .filter_map(|(name, spec)| Some((name.clone(), spec.email.clone()?)));
    let configured = tenants.chain(types.map(|spec| spec.url.clone()));
    Ok(NotifierConfig {
        jobs: Arc::new(store.clone()),
        follow_ups: store,
        settings: settings.notifier.clone(),
        rules: callbacks
            .rules()
            .map_err(|error| bad("callbacks.allow_networks", error.to_string()))?,
        configured: configured.collect(),
        keys: keys(callbacks).map_err(|error| bad("callbacks.keys", error.to_string()))?,
        words: words.collect(),
        public_url: settings.gateway.public_url.clone(),
        wake,
        metrics,
        instance: instance.to_owned(),
    })
}

/// What signs.
pub fn keys(callbacks: &CallbackSettings) -> Result<Keys, BadKey> {
    let tenants = callbacks.tenants.iter();
    let own = tenants.map(|(tenant, own)| (tenant, own.keys.as_slice()));
    Keys::new(&callbacks.keys, own)
}

/// Why there is no notifier: an address that is taken is code 1, a setting that cannot be used code 2.
pub fn refused(loaded: &Loaded<Settings>, error: NotifierError) -> Failure {
    match error {
        NotifierError::Listen { .. } => {
            Failure::failed(format!("{error}: give another address with `--listen`"))
        }
        other => settings::refused(loaded, other),
    }
}
