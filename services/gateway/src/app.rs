//! A gateway from its building to its end.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::Data;
use tidegate_callbacks::CallbackSettings;
use tidegate_contract::{JobTypes, Pool};
use tidegate_kafka::{Cluster, ClusterWatch, Codec, Producer, RegistrySettings};
use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::ops::OpsState;
use tidegate_runtime::readiness::Readiness;
use tidegate_runtime::{LiveTypes, RecentSpans, Shutdown, Stage, TakesTypes};
use tidegate_store::{Inserter, Store};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::backlogs::Backlogs;
use crate::bringup::{self, Bringup};
use crate::callbacks::Callbacks;
use crate::docs::{Docs, openapi};
use crate::engine::Engine;
use crate::last_call;
use crate::live::{Live, key_lease};
use crate::pauses::Pauses;
use crate::placing::Placing;
use crate::purge;
use crate::replies::{OnProjected, Replies, StoreHealth};
use crate::routes::Routes;
use crate::server;
use crate::settings::{AuthSettings, GatewayError, GatewaySettings, RouteSettings};
use crate::state::{AppState, Stop, Tasks};
use crate::streams::Streams;
use crate::sweep;
use crate::tenants::TenantBacklogs;
use crate::types::GatewayTypes;
use crate::usual::Usual;
use crate::waits::Waits;
use crate::watch::Watcher;

/// After a stop was asked for, the listener stays open for at least this long, so that who comes just then is told
/// `503` rather than cut off.
const LAST_CALL: Duration = Duration::from_millis(250);
/// How long a connection that was taken may need until its request is being handled.
const LAST_READ: Duration = Duration::from_millis(250);
/// How often the drain looks whether it is done.
const TICK: Duration = Duration::from_millis(10);

/// All that a gateway is made of. The store is opened, and closed after [`Gateway::run`], by the caller.
pub struct GatewayConfig {
    pub cluster: Cluster,
    pub registry: RegistrySettings,
    pub store: Arc<dyn Store>,
    pub settings: GatewaySettings,
    pub auth: AuthSettings,
    pub routes: Vec<RouteSettings>,
    pub types: JobTypes,
    pub metrics: Metrics,
    pub instance: String,
    /// Served under `/dev/traces/`: of `dev` only.
    pub recent_spans: Option<RecentSpans>,
    pub callbacks: CallbackSettings,
    /// Told when there are follow-ups to deliver, so that a notifier in the same process need not look for them.
    pub on_follow_ups: Option<Arc<Notify>>,
}

/// A gateway that listens and does not answer yet.
pub struct Gateway {
    listener: TcpListener,
    addr: SocketAddr,
    settings: GatewaySettings,
    auth: Auth,
    routes: Arc<Routes>,
    types: LiveTypes,
    docs: Data<Docs>,
    cluster: Cluster,
    producer: Producer,
    codec: Codec,
    store: Arc<dyn Store>,
    metrics: Metrics,
    readiness: Readiness,
    instance: String,
    recent_spans: Option<RecentSpans>,
    callbacks: Callbacks,
    on_follow_ups: Option<Arc<Notify>>,
}

impl Gateway {
    /// Checks the settings and takes the port. Needs no server to be there.
    ///
    /// # Errors
    /// Settings that cannot be used, or an address that cannot be listened on.
    pub async fn build(config: GatewayConfig) -> Result<Self, GatewayError> {
        let settings = config.settings;
        settings.check()?;
        let types = config.types;
        let routes = Arc::new(Routes::new(&config.routes, &types)?);
        let openapi = openapi(&routes, &types, settings.public_url.as_deref());
        let auth = Auth::new(&config.auth)?;
        let callbacks = Callbacks::new(config.callbacks)?;
        let producer = config.cluster.producer(&config.instance)?;
        let readiness = Readiness::new();
        for name in ["intake", "broker", "registry", "topics", "store", "replies"] {
            readiness.condition(name);
        }
        let refused = |error| GatewayError::Listen {
            listen: settings.listen.clone(),
            error,
        };
        let listener = TcpListener::bind(&settings.listen).map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        Ok(Self {
            listener,
            addr,
            auth,
            routes,
            types: LiveTypes::new(types),
            docs: Data::new(Docs::new(&openapi)),
            producer,
            codec: Codec::new(&config.registry),
            cluster: config.cluster,
            store: config.store,
            metrics: config.metrics,
            readiness,
            instance: config.instance,
            recent_spans: config.recent_spans,
            callbacks,
            on_follow_ups: config.on_follow_ups,
            settings,
        })
    }

    /// The address that is listened on, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where this gateway itself is reached.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The conditions of this gateway, which follow it while it runs.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// What gives this gateway other job types while it runs. A request that came in before keeps the types of then.
    pub fn types(&self) -> Arc<dyn TakesTypes> {
        Arc::new(GatewayTypes {
            cluster: self.cluster.clone(),
            types: self.types.clone(),
            routes: self.routes.clone(),
            docs: self.docs.clone(),
            public_url: self.settings.public_url.clone(),
        })
    }

    /// Serves until `shutdown` is triggered, then stops in order: no new jobs, waits end or become `202`, the HTTP
    /// server, the producer's queue, the last batch of the projection and the group.
    ///
    /// # Errors
    /// When the socket cannot be served, or the HTTP server ends by itself.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), GatewayError> {
        let replies = Arc::new(OnceLock::new());
        let waits = Waits::new(self.settings.max_waits);
        let health = StoreHealth::new(self.readiness.condition("store"));
        // With one tenant there is nobody to be kept apart from.
        let placing = Placing::new(match self.auth.tenants() {
            0 | 1 => 0,
            _ => self.settings.tenant_partitions,
        });
        let tenants = TenantBacklogs::default();
        let pauses = Pauses::default();
        let live = Live {
            cluster: self.cluster.clone(),
            producer: self.producer.clone(),
            codec: self.codec.clone(),
            inserter: Inserter::spawn(self.store.clone()),
            store: self.store.clone(),
            health: health.clone(),
            broker: self.readiness.condition("broker"),
            topics: self.readiness.condition("topics"),
            readiness: self.readiness.clone(),
            replies: replies.clone(),
            members: Mutex::default(),
            backlogs: Backlogs::default(),
            pauses: pauses.clone(),
            placing: placing.clone(),
            tenants: tenants.clone(),
            on_follow_ups: self.on_follow_ups.clone(),
        };
        let (engine, tasks): (Arc<dyn Engine>, _) = (Arc::new(live), Tasks::on_this_runtime());
        let watcher = Watcher::new(
            Arc::clone(&engine),
            tasks.clone(),
            self.settings.max_waits,
            self.settings.inline_result_limit,
        );
        let usual = Arc::new(Usual::default());
        let projected: OnProjected = {
            let (watcher, usual) = (watcher.clone(), Arc::clone(&usual));
            Arc::new(move |events| {
                watcher.nudge(events.iter().map(|event| event.job_id));
                usual.learn(events);
            })
        };
        let conditions = (
            self.readiness.condition("broker"),
            self.readiness.condition("topics"),
        );
        let watch = ClusterWatch::new(
            self.cluster.clone(),
            self.producer.clone(),
            self.metrics.clone(),
            conditions,
            bringup::PACE,
        );
        let bringup = Bringup {
            watch: Arc::new(watch),
            cluster: self.cluster.clone(),
            codec: self.codec,
            producer: self.producer.clone(),
            store: self.store,
            health,
            waits: waits.clone(),
            projected,
            types: self.types.clone(),
            queue_bytes: self.settings.reply_queue_bytes,
            instance: self.instance.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            replies: replies.clone(),
            placing: placing.clone(),
            on_follow_ups: self.on_follow_ups,
        };
        let docs = self.docs;
        let ops = OpsState {
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
            recent_spans: self.recent_spans,
        };
        let state = Data::new(AppState {
            watcher,
            streams: Streams::new(self.settings.max_streams, self.settings.tenant_streams),
            usual,
            key_lease: key_lease(self.cluster.settings()),
            engine,
            waits,
            types: self.types,
            routes: self.routes,
            auth: self.auth,
            callbacks: self.callbacks,
            metrics: self.metrics,
            topics: self.cluster.topics().clone(),
            ladder: self.cluster.settings().delay_rungs.clone(),
            instance: self.instance,
            max_record_bytes: self.cluster.settings().max_record_bytes,
            body_memory: Semaphore::new(self.settings.body_memory.div_ceil(1024)),
            settings: self.settings,
            stop: Stop::default(),
            tasks,
            requests: AtomicUsize::new(0),
        });
        let listen = state.settings.listen.clone();
        let failed = |error| GatewayError::Listen {
            listen: listen.clone(),
            error,
        };
        // The same socket once more, for those who come when the server takes no connections any more.
        let late = self.listener.try_clone().map_err(failed)?;
        let stop_within = (shutdown.grace() / 8).max(Duration::from_secs(1));
        let http =
            server::serve(self.listener, state.clone(), docs, ops, stop_within).map_err(failed)?;
        let handle = http.handle();
        let mut http = tokio::spawn(http);
        // It outlives the request to stop: submits and waits that are under way need what it says.
        let background = CancellationToken::new();
        let purging = tokio::spawn(purge::run(bringup.store.clone(), background.clone()));
        let sweeping = tokio::spawn(sweep::run(state.clone(), background.clone()));
        let (watch, until) = (Arc::clone(&bringup.watch), background.clone());
        let watching = tokio::spawn(async move {
            until.run_until_cancelled(watch.follow_broker()).await;
        });
        let types = state.types.clone();
        let pools = move || pools_of(&types.now());
        let placing = placing.watch(bringup.cluster.clone(), pools, background.clone());
        let placing = tokio::spawn(placing);
        let pauses = tokio::spawn(pauses.watch(bringup.cluster.clone(), background.clone()));
        if state.settings.tenant_backlog > 0 {
            tokio::spawn(tenants.watch(bringup.store.clone(), background.clone()));
        }
        let bringing = tokio::spawn(bringup.run(shutdown.token()));
        let intake = self.readiness.condition("intake");
        intake.ok();
        tracing::info!(addr = %self.addr, "gateway listens");

        let ended = tokio::select! {
            () = shutdown.triggered() => None,
            ended = &mut http => Some(ended),
        };
        let result = match ended {
            None => {
                intake.fail("shutting down");
                if state.settings.leave_after.is_zero() {
                    state.stop.intake.cancel();
                }
                let _ = bringing.await;
                let parts = Parts {
                    state,
                    handle,
                    replies,
                    producer: self.producer,
                };
                let refusing = TaskTracker::new();
                let refuse = last_call::serve(late, background.clone());
                parts.drain(&shutdown, &refusing, refuse).await;
                let _ = http.await;
                parts.finish(&shutdown).await;
                background.cancel();
                refusing.close();
                refusing.wait().await;
                Ok(())
            }
            Some(ended) => {
                shutdown.trigger();
                let error = match ended {
                    Ok(Err(error)) => error,
                    _ => std::io::Error::other("the http server ended by itself"),
                };
                Err(failed(error))
            }
        };
        background.cancel();
        let _ = tokio::join!(watching, purging, placing, sweeping, pauses);
        result
    }
}

fn pools_of(types: &JobTypes) -> Vec<Pool> {
    let pools: BTreeSet<_> = types.values().map(|spec| &spec.pool).collect();
    pools.into_iter().cloned().collect()
}

/// What a stop has to do with.
struct Parts {
    state: Data<AppState>,
    handle: ServerHandle,
    replies: Arc<OnceLock<Replies>>,
    producer: Producer,
}

impl Parts {
    /// Takes no new jobs after `leave_after`, lets waits end or turns them into `202`, and stops the HTTP server; each
    /// step with a share of the time that is left. `refuse` is started when the server takes no connections any more.
    async fn drain(
        &self,
        shutdown: &Shutdown,
        refusing: &TaskTracker,
        refuse: impl Future<Output = ()> + Send + 'static,
    ) {
        let state = &self.state;
        tracing::info!(waits = state.waits.len(), "gateway stops");
        let steps = async {
            // Whoever sends by readiness goes elsewhere before anything is refused here.
            tokio::time::sleep(state.settings.leave_after).await;
            state.stop.intake.cancel();
            tokio::time::sleep(LAST_CALL).await;
            // Half of the time for waits to end by themselves; what is left then becomes `202`.
            self.idle(shutdown.remaining() / 2).await;
            state.stop.waits.cancel();
            self.idle(shutdown.remaining() / 2).await;
            self.handle.pause().await;
            refusing.spawn(refuse);
            // Connections that were taken just before have their request read.
            tokio::time::sleep(LAST_READ).await;
            self.idle(shutdown.remaining() / 2).await;
            self.handle.stop(true).await;
            let rest = shutdown.remaining() / 2;
            let _ = tokio::time::timeout(rest, state.tasks.ended()).await;
        };
        shutdown.stage(Stage::Drain, steps).await;
    }

    /// Writes what is left and leaves the group.
    async fn finish(self, shutdown: &Shutdown) {
        let limit = shutdown.remaining() / 2;
        shutdown
            .stage(Stage::FlushProducer, async {
                if let Err(error) = self.producer.flush(limit).await {
                    tracing::warn!(%error, "the producer still held records at the end");
                }
            })
            .await;
        shutdown
            .stage(Stage::LeaveGroup, async {
                if let Some(replies) = self.replies.get() {
                    replies.stop(shutdown.remaining()).await;
                }
            })
            .await;
        tracing::info!("gateway stopped");
    }

    /// Until no request is being handled, at most for `limit`.
    async fn idle(&self, limit: Duration) {
        let idle = async {
            while self.state.requests_open() > 0 {
                tokio::time::sleep(TICK).await;
            }
        };
        let _ = tokio::time::timeout(limit, idle).await;
    }
}
