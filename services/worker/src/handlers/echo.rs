//! `echo`: the body comes back as it was.

use tidegate_contract::Outcome;

use crate::handler::{Handler, JobContext, JobFailure};

pub(super) struct Echo;

#[async_trait::async_trait]
impl Handler for Echo {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        Ok(Outcome {
            status: 200,
            content_type: cx.job().content_type.clone(),
            headers: Vec::new(),
            body: cx.body().clone(),
        })
    }
}
