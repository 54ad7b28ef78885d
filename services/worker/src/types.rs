//! Other job types for a worker that runs.

use std::sync::Arc;

use tidegate_contract::JobTypes;
use tidegate_kafka::Cluster;
use tidegate_runtime::types::Swap;
use tidegate_runtime::{LiveTypes, TakesTypes};

use crate::execute::Engine;
use crate::handler::Handlers;
use crate::handlers::Repertoire;

/// What a change of types touches.
pub(crate) struct WorkerTypes {
    pub engine: Arc<Engine>,
    pub cluster: Cluster,
    pub types: LiveTypes,
    pub handlers: Handlers,
}

#[async_trait::async_trait]
impl TakesTypes for WorkerTypes {
    async fn prepare(&self, types: &JobTypes) -> Result<Swap, String> {
        let before = self.types.now();
        let checked = self.cluster.check_new_types(&before, types).await;
        checked.map_err(|error| error.to_string())?;
        let repertoire = Repertoire::build(
            types,
            &self.engine.settings.pools,
            &self.handlers,
            Some((&before, &self.engine.repertoire.load())),
        );
        let repertoire = repertoire.map_err(|error| error.to_string())?;
        let (engine, live, types) = (self.engine.clone(), self.types.clone(), types.clone());
        Ok(Box::new(move || {
            repertoire.complain();
            engine.metrics.http_targets(repertoire.targets());
            engine.repertoire.store(Arc::new(repertoire));
            engine.desk.set_types(&types);
            live.replace(types);
        }))
    }
}
