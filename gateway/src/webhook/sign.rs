//! Signatures as Standard Webhooks has them: HMAC-SHA256 over id, timestamp and body, in Base64 behind `v1,`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mayfly_protocol::{ExposeSecret as _, SecretString};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// Bytes of a secret, as the specification bounds them.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// What deliveries are signed with: one secret, or two while it is changed.
#[derive(Clone)]
pub struct WebhookSecrets(pub(super) Vec<Vec<u8>>);

/// The text is no secret for webhooks. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not `whsec_` and 24 to 64 bytes in Base64, or two of these with a comma between them; make one with `echo whsec_$(head -c 32 /dev/urandom | base64)`"
)]
pub struct InvalidWebhookSecret;

impl WebhookSecrets {
    /// Reads one secret, or two with a comma between them: deliveries are then signed with both.
    pub fn parse(list: &SecretString) -> Result<Self, InvalidWebhookSecret> {
        let list = list.expose_secret().split(',');
        let secrets: Vec<Vec<u8>> = list
            .map(parse_one)
            .collect::<Option<_>>()
            .ok_or(InvalidWebhookSecret)?;
        match secrets.len() {
            1 | 2 => Ok(Self(secrets)),
            _ => Err(InvalidWebhookSecret),
        }
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

fn parse_one(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.trim().strip_prefix(PREFIX)?).ok()?;
    LENGTHS.contains(&bytes.len()).then_some(bytes)
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(text: &str) -> Result<WebhookSecrets, InvalidWebhookSecret> {
        WebhookSecrets::parse(&SecretString::from(text))
    }

    /// The example of the libraries of Standard Webhooks.
    #[test]
    fn the_signature_is_the_specifications() {
        let secret = secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            secret.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn secrets_are_read_or_refused_and_never_shown() {
        let one = format!("whsec_{}", STANDARD.encode([7; 24]));
        let two = secrets(&format!("{one},{one}")).unwrap();
        assert_eq!(two.sign("a", 1, b"").split(' ').count(), 2);
        assert_eq!(format!("{two:?}"), "WebhookSecrets(2)");
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        for bad in [
            "",
            "canary",
            "whsec_",
            "whsec_***",
            &short,
            &format!("{one},"),
            &one[6..],
        ] {
            let error = secrets(bad).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
