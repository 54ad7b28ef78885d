//! Other job types for a gateway that runs.

use std::sync::Arc;

use actix_web::web::Data;
use tidegate_contract::JobTypes;
use tidegate_kafka::Cluster;
use tidegate_runtime::types::Swap;
use tidegate_runtime::{LiveTypes, TakesTypes};

use crate::docs::{Docs, openapi};
use crate::routes::Routes;

/// What a change of types touches.
pub struct GatewayTypes {
    pub cluster: Cluster,
    pub types: LiveTypes,
    pub routes: Arc<Routes>,
    pub docs: Data<Docs>,
    pub public_url: Option<String>,
}

#[async_trait::async_trait]
impl TakesTypes for GatewayTypes {
    async fn prepare(&self, types: &JobTypes) -> Result<Swap, String> {
        let lost = |(_, job_type): &(&str, _)| !types.contains_key(*job_type);
        if let Some((path, job_type)) = self.routes.types().find(lost) {
            return Err(format!(
                "types.{job_type} is gone and route {path} submits it: keep the type, or take the route away and \
                 restart"
            ));
        }
        let checked = self.cluster.check_new_types(&self.types.now(), types).await;
        checked.map_err(|error| error.to_string())?;
        let doc = openapi(&self.routes, types, self.public_url.as_deref());
        let (live, docs, types) = (self.types.clone(), self.docs.clone(), types.clone());
        Ok(Box::new(move || {
            live.replace(types);
            docs.replace(&doc);
        }))
    }
}
