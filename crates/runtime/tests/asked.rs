//! A library that only asks whether something is enabled does not cost the next span its place in the trace.

use tidegate_runtime::telemetry::{TelemetrySettings, init, trace_id};

#[test]
fn a_question_on_the_same_thread_leaves_the_next_span_alone() {
    let _telemetry = init(&TelemetrySettings::default(), "test", "test-1").unwrap();
    let span = || tracing::info_span!("asked");
    assert!(trace_id(&span()).is_some());
    // As the Kafka client does to find out how much it is to say: yes for the log, no for the trace.
    assert!(tracing::enabled!(target: "client", tracing::Level::INFO));
    assert!(trace_id(&span()).is_some());
}
