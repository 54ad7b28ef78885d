//! `tidegate gateway`.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tidegate_gateway::{Gateway, GatewayConfig, GatewayError};
use tidegate_kafka::Cluster;
use tidegate_runtime::Metrics;
use tidegate_runtime::config::Loaded;
use tidegate_store::Store;

use super::process;
use crate::cli::RoleArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, settings};

/// Longest that closing the store's connections may take.
const CLOSE: Duration = Duration::from_secs(2);

/// Runs a gateway until it is told to stop.
pub async fn run(args: RoleArgs) -> Result<(), Failure> {
    let (loaded, types) = settings::load_followed(&args.with_listen("gateway.listen"))?;
    let settings = &loaded.value;
    let process = process::start(&loaded, "gateway", settings.gateway.grace)?;
    let store =
        tidegate_store::open(&settings.store).map_err(|error| settings::refused(&loaded, error))?;
    let metrics = process::metrics(&settings.types);
    let gateway = Gateway::build(config(
        settings,
        Cluster::new(settings.kafka.clone()),
        store.clone(),
        metrics.clone(),
        &process.instance,
    ));
    let gateway = gateway.await.map_err(|error| refused(&loaded, error))?;
    let (roles, ready) = (vec![gateway.types()], vec![gateway.readiness()]);
    process.follow_types(&settings.types, types, roles, ready, &metrics);
    output::line(format!("gateway listening on {}", gateway.url()));
    let ended = gateway.run(process.shutdown.clone()).await;
    close(&*store).await;
    process.end().await;
    ended.map_err(Failure::failed)
}

/// What a gateway is made of, on the cluster and store that it is given.
pub fn config(
    settings: &Settings,
    cluster: Cluster,
    store: Arc<dyn Store>,
    metrics: Metrics,
    instance: &str,
) -> GatewayConfig {
    GatewayConfig {
        cluster,
        registry: settings.registry.clone(),
        store,
        settings: settings.gateway.clone(),
        auth: settings.auth.clone(),
        routes: settings.routes.clone(),
        types: settings.types.clone(),
        metrics,
        instance: instance.to_owned(),
        recent_spans: None,
        callbacks: settings.callbacks.clone(),
        on_follow_ups: None,
    }
}

/// Why there is no gateway: an address that is taken is code 1, a setting that cannot be used code 2.
pub fn refused(loaded: &Loaded<Settings>, error: GatewayError) -> Failure {
    match error {
        GatewayError::Listen { listen, error } if error.kind() == ErrorKind::AddrInUse => {
            Failure::failed(format!(
                "{listen} is in use: stop what listens there, or give another address with `--listen`, such as \
                 --listen 127.0.0.1:0"
            ))
        }
        GatewayError::Listen { .. } => {
            Failure::failed(format!("{error}: give another address with `--listen`"))
        }
        other => settings::refused(loaded, other),
    }
}

/// Closes what connections the store has.
pub async fn close(store: &dyn Store) {
    if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
        tracing::warn!("the store's connections were not closed in time");
    }
}
