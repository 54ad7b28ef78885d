//! Every record comes back as it is.

use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::producer::BaseRecord;

use crate::Common;

pub async fn run(common: &Common) -> anyhow::Result<()> {
    common.create_topics().await?;
    let (jobs, replies) = (common.jobs(), common.replies());
    let consumer = common.consumer("worker")?;
    let producer = common.producer()?;
    consumer.subscribe(&[&jobs])?;
    loop {
        let record = match consumer.recv().await {
            Ok(record) => record,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let (key, payload) = (
            record.key().unwrap_or_default(),
            record.payload().unwrap_or_default(),
        );
        let answer = BaseRecord::to(&replies)
            .partition(0)
            .key(key)
            .payload(payload);
        if let Err((error, _)) = producer.send(answer) {
            eprintln!("not sent: {error}");
        }
    }
}
