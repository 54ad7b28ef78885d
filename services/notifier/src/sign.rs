//! Signatures of Standard Webhooks 1.0: HMAC-SHA-256 over `id.timestamp.body`, with the key that the receiver shares.
//! Pure: the time is passed in.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2_011::Sha256;
use tidegate_contract::Secret;

/// What the text of a symmetric key begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a key, as the specification has them.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Keys come with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key that one receiver shares. It is never shown.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// Why a text is no key. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadKey {
    /// It begins otherwise.
    #[error("a signing key must begin with whsec_")]
    Prefix,
    /// What follows the prefix cannot be decoded.
    #[error("a signing key must be base64 after whsec_: make one with `openssl rand -base64 32`")]
    Encoding,
    /// It has too few or too many bytes: this many.
    #[error(
        "a signing key must be 24 to 64 bytes and has {0}: make one with `openssl rand -base64 32`"
    )]
    Length(usize),
    /// There is no key at all.
    #[error("no signing key: give at least one")]
    Missing,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl FromStr for SigningKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(BadKey::Prefix)?;
        let bytes = LENIENT.decode(encoded).map_err(|_| BadKey::Encoding)?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(BadKey::Length(bytes.len()));
        }
        // HMAC takes a key of any length, so this cannot fail.
        Hmac::new_from_slice(&bytes)
            .map(Self)
            .map_err(|_| BadKey::Length(bytes.len()))
    }
}

impl SigningKey {
    /// `v1,` and the signature in base64.
    fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The active keys of one receiver: while a key is replaced there are two, and whoever knows either can check.
#[derive(Clone, Debug)]
pub struct Signer(Vec<SigningKey>);

/// The headers of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// `webhook-id`: the same at every attempt, so that the receiver knows a repeat.
    pub id: String,
    /// `webhook-timestamp`: Unix seconds of this attempt.
    pub timestamp: i64,
    /// `webhook-signature`: one per key, separated by spaces, in the order of the keys.
    pub signature: String,
}

impl Signer {
    /// Reads the keys from the configuration.
    ///
    /// # Errors
    /// The first text that is no key; [`BadKey::Missing`] without any.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Result<Self, BadKey> {
        let keys = keys.into_iter().map(|key| key.expose().parse());
        let keys: Vec<SigningKey> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(BadKey::Missing);
        }
        Ok(Self(keys))
    }

    /// Signs a message that is sent at `timestamp`, in Unix seconds. `id` has no full stop in it, as that is what
    /// separates the parts of what is signed.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Signed {
        let signatures = self.0.iter().map(|key| key.signature(id, timestamp, body));
        Signed {
            id: id.to_owned(),
            timestamp,
            signature: signatures.collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Published with the specification.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn signer(keys: &[&str]) -> Result<Signer, BadKey> {
        let keys: Vec<_> = keys.iter().copied().map(Secret::new).collect();
        Signer::new(&keys)
    }

    fn key_of(bytes: &[u8]) -> String {
        format!("{PREFIX}{}", STANDARD.encode(bytes))
    }

    #[test]
    fn the_vector_of_the_specification() {
        let signed = signer(&[KEY]).unwrap().sign(ID, AT, BODY);
        assert_eq!(signed.signature, SIGNATURE);
        assert_eq!((signed.id.as_str(), signed.timestamp), (ID, AT));
    }

    #[test]
    fn every_active_key_signs_in_order() {
        let other = key_of(&[7; 32]);
        let alone = signer(&[&other]).unwrap().sign(ID, AT, BODY).signature;
        let both = signer(&[KEY, &other]).unwrap().sign(ID, AT, BODY).signature;
        assert_eq!(both, format!("{SIGNATURE} {alone}"));
        assert_ne!(alone, SIGNATURE);
    }

    #[test]
    fn what_is_no_key_says_why_and_not_what_it_was() {
        for (text, expected) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", BadKey::Prefix),
            ("", BadKey::Prefix),
            ("whsec_", BadKey::Length(0)),
            ("whsec_not base64!", BadKey::Encoding),
            (&key_of(&[1; 23]), BadKey::Length(23)),
            (&key_of(&[1; 65]), BadKey::Length(65)),
        ] {
            assert_eq!(signer(&[text]).unwrap_err(), expected, "{text}");
        }
        assert_eq!(signer(&[]).unwrap_err(), BadKey::Missing);
        assert!(signer(&[&key_of(&[1; 24]), &key_of(&[1; 64])]).is_ok());
    }

    #[test]
    fn padding_does_not_matter() {
        let padded = key_of(&[9; 25]);
        let bare = padded.trim_end_matches('=');
        assert_ne!(padded, bare);
        let sign = |key: &str| signer(&[key]).unwrap().sign(ID, AT, BODY);
        assert_eq!(sign(&padded), sign(bare));
    }

    #[test]
    fn a_key_is_never_shown() {
        let signer = signer(&[KEY]).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer([<redacted>])");
    }

    proptest! {
        #[test]
        fn whatever_changes_the_signature_changes(
            key in proptest::collection::vec(any::<u8>(), KEY_BYTES),
            body in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0i64..4_000_000_000,
        ) {
            let signer = signer(&[&key_of(&key)]).unwrap();
            let signature = |id: &str, at, body: &[u8]| signer.sign(id, at, body).signature;
            let whole = signature(ID, at, &body);
            prop_assert_eq!(&whole, &signature(ID, at, &body));
            prop_assert_ne!(&whole, &signature("msg_other", at, &body));
            prop_assert_ne!(&whole, &signature(ID, at + 1, &body));
            let longer = [body.as_slice(), b" "].concat();
            prop_assert_ne!(&whole, &signature(ID, at, &longer));
        }
    }
}
