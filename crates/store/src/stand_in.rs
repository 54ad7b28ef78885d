//! Follow-ups of backends that keep none yet: this file goes when they do.

use async_trait::async_trait;
use tidegate_contract::{FollowUpKind, JobId, Millis, Tenant};

use crate::error::StoreError;
use crate::follow_ups::{Attempt, EndpointRow, FollowUp, FollowUps, Recover, Take, Then, Waiting};

#[async_trait]
impl FollowUps for crate::sqlite::Sqlite {
    async fn take_follow_ups(&self, _: &Take<'_>) -> Result<Vec<FollowUp>, StoreError> {
        Ok(Vec::new())
    }
    async fn attempted(&self, _: &FollowUp, _: &Attempt, _: &Then) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn give_back(&self, _: &FollowUp, _: &Then) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn postpone(&self, _: &str, _: Millis) -> Result<(), StoreError> {
        Ok(())
    }
    async fn follow_ups(&self, _: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        Ok(Vec::new())
    }
    async fn resend(&self, _: JobId, _: FollowUpKind, _: Millis) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn recover(&self, _: &Recover, _: Millis, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn endpoints_of(&self, _: &[String]) -> Result<Vec<EndpointRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn endpoints(
        &self,
        _: &Tenant,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn keep_endpoint(&self, _: &EndpointRow) -> Result<(), StoreError> {
        Ok(())
    }
    async fn forget_endpoint(&self, _: &Tenant, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn waiting(&self, _: FollowUpKind) -> Result<Waiting, StoreError> {
        Ok(Waiting::default())
    }
}

#[async_trait]
impl FollowUps for crate::postgres::Postgres {
    async fn take_follow_ups(&self, _: &Take<'_>) -> Result<Vec<FollowUp>, StoreError> {
        Ok(Vec::new())
    }
    async fn attempted(&self, _: &FollowUp, _: &Attempt, _: &Then) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn give_back(&self, _: &FollowUp, _: &Then) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn postpone(&self, _: &str, _: Millis) -> Result<(), StoreError> {
        Ok(())
    }
    async fn follow_ups(&self, _: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        Ok(Vec::new())
    }
    async fn resend(&self, _: JobId, _: FollowUpKind, _: Millis) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn recover(&self, _: &Recover, _: Millis, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn endpoints_of(&self, _: &[String]) -> Result<Vec<EndpointRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn endpoints(
        &self,
        _: &Tenant,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn keep_endpoint(&self, _: &EndpointRow) -> Result<(), StoreError> {
        Ok(())
    }
    async fn forget_endpoint(&self, _: &Tenant, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn waiting(&self, _: FollowUpKind) -> Result<Waiting, StoreError> {
        Ok(Waiting::default())
    }
}
