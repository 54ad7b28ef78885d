//! The codec on the registry in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use proptest::prelude::*;
use tidegate_kafka::embedded::EmbeddedRegistry;
use tidegate_kafka::{Codec, RegistrySettings};

use common::codec_suite;

#[tokio::test(flavor = "multi_thread")]
async fn the_codec_suite() {
    let registry = EmbeddedRegistry::start().unwrap();
    codec_suite::run(registry.url(), true).await;
}

fn warm() -> (tokio::runtime::Runtime, Codec, EmbeddedRegistry) {
    let registry = EmbeddedRegistry::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let codec = Codec::new(&RegistrySettings {
        url: registry.url().into(),
        register: true,
        ..Default::default()
    });
    runtime.block_on(codec.warm_up()).unwrap();
    (runtime, codec, registry)
}

/// Whatever the bytes, an answer and no panic.
#[test]
fn any_bytes_are_survived() {
    let (runtime, codec, _registry) = warm();
    let good = codec.encode_event(&codec_suite::event()).unwrap();
    let frame = good[..5].to_vec();
    let good = good.to_vec();
    let config = ProptestConfig::with_cases(2_000);
    proptest!(config, |(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        framed in any::<bool>(),
    )| {
        let bytes = if framed { [&frame[..], &bytes[..]].concat() } else { bytes };
        // Ids that are not known would only ask the registry.
        if bytes.len() < 5 || bytes[..5] == frame[..] || bytes[0] != 0 {
            let _ = runtime.block_on(codec.decode_event(&bytes));
            let _ = runtime.block_on(codec.decode_job(&bytes));
            let _ = runtime.block_on(codec.decode_dead_letter(&bytes));
        }
        let mut bent = good.clone();
        for (place, byte) in places {
            let place = 5 + place.index(200);
            bent[place] = byte;
        }
        let _ = runtime.block_on(codec.decode_event(&bent));
    });
}
