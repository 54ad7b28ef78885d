//! The codec on a real registry, named by TIDEGATE_TEST_REGISTRY.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[tokio::test(flavor = "multi_thread")]
async fn the_codec_suite() {
    let url = common::server("TIDEGATE_TEST_REGISTRY");
    common::codec_suite::run(&url, false).await;
}
