//! Other job types for a gateway that runs.

use std::sync::Arc;

use actix_web::web::Data;
use tidegate_contract::{JobType, JobTypeSpec, JobTypes, job_type};
use tidegate_kafka::Cluster;
use tidegate_runtime::types::Swap;
use tidegate_runtime::{LiveTypes, TakesTypes};

use crate::docs::{Docs, openapi};
use crate::problem::{ApiError, clip};
use crate::routes::Routes;

/// The type of that name, with its settings.
///
/// # Errors
/// [`ApiError::UnknownJobType`], with the name that is the nearest.
pub fn known_type<'a>(
    types: &'a JobTypes,
    name: &str,
) -> Result<(&'a JobType, &'a JobTypeSpec), ApiError> {
    let known = name
        .parse::<JobType>()
        .ok()
        .and_then(|name| types.get_key_value(&name));
    known.ok_or_else(|| ApiError::UnknownJobType {
        given: clip(name),
        nearest: job_type::nearest_type(types, name).map(str::to_owned),
    })
}

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
