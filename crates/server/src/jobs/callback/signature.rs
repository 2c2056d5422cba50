//! Signatures of callbacks, as Standard Webhooks has them: HMAC-SHA256 of `id.timestamp.body`.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// With what secrets begin, so that scanners for leaked ones find them.
const PREFIX: &str = "whsec_";

/// What Standard Webhooks allows, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that a receiver knows, too. It can be shown, but is in no `Debug` output.
#[derive(Clone)]
pub struct SigningSecret(Vec<u8>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no secret: it is whsec_ and 24 to 64 bytes as base64")]
pub struct ParseSecretError;

impl FromStr for SigningSecret {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, ParseSecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(ParseSecretError)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| ParseSecretError)?;
        if LENGTHS.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(ParseSecretError) }
    }
}

impl SigningSecret {
    /// As it was stored.
    pub(in crate::jobs) fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes.to_vec())
    }

    /// It as text.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// The header `webhook-signature`. Nothing where the secret cannot be a key, which none is.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_example_in_the_specification() {
        let secret: SigningSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_read_as_it_is_shown_and_is_not_in_debug_output() {
        let secret = SigningSecret::stored([7; 32]);
        let text = secret.reveal();
        assert_eq!(text.parse::<SigningSecret>().unwrap().0, secret.0);
        assert!(!format!("{secret:?}").contains(&text[6..]));
        for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            assert!(wrong.parse::<SigningSecret>().is_err(), "{wrong}");
        }
    }
}
