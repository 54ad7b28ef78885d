//! Who is in a group, for answers that name the cause when nobody takes a job.

use std::time::Duration;

use rdkafka::consumer::Consumer;

use crate::cluster::Cluster;
use crate::error::KafkaError;

impl Cluster {
    /// How many members a group has now; 0 for a group that nobody ever joined. `Unavailable` where the broker does
    /// not say, which is always so for the embedded one.
    pub async fn group_members(&self, group: &str, limit: Duration) -> Result<usize, KafkaError> {
        if self.is_embedded() {
            return Err(KafkaError::Unavailable(
                "the embedded broker does not tell members".to_owned(),
            ));
        }
        let group = group.to_owned();
        self.ask(limit, move |client| {
            let list = client
                .fetch_group_list(Some(&group), limit)
                .map_err(KafkaError::call)?;
            let found = list.groups().iter().find(|info| info.name() == group);
            Ok(found.map_or(0, |info| info.members().len()))
        })
        .await
    }
}
