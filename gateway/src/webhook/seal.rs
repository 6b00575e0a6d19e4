//! Addresses of receivers as the storage holds them: sealed with a key that is made of the secret of webhooks, since they often are secrets themselves.
//!
//! AES-256-GCM with a random nonce before it, in Base64. Tenant and job are sealed in: an address that is moved to another job does not open.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mayfly_protocol::{CallbackUrl, JobId, TenantId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::Sha256;

use super::sign::WebhookSecrets;

/// Sets this use of the secret apart from signatures.
const PURPOSE: &[u8] = b"mayfly: addresses of receivers";

impl WebhookSecrets {
    /// The address, sealed with the first secret; `None` where the system gives no random numbers.
    pub(super) fn seal(&self, tenant: &TenantId, job: &JobId, url: &CallbackUrl) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = url.as_url().as_str().as_bytes().to_vec();
        let place = Aad::from(format!("{tenant}/{job}"));
        let key = key(self.0.first()?)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place, &mut sealed)
            .ok()?;
        Some(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The address that was sealed with one of the secrets; `None` where it was not, or for another job.
    pub(super) fn open(&self, tenant: &TenantId, job: &JobId, sealed: &str) -> Option<CallbackUrl> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let open_with = |secret: &Vec<u8>| {
            let mut text = sealed.to_vec();
            let place = Aad::from(format!("{tenant}/{job}"));
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let text = key(secret)?.open_in_place(nonce, place, &mut text).ok()?;
            std::str::from_utf8(text).ok()?.parse().ok()
        };
        self.0.iter().find_map(open_with)
    }
}

fn key(secret: &[u8]) -> Option<LessSafeKey> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(PURPOSE);
    let key = UnboundKey::new(&AES_256_GCM, &mac.finalize().into_bytes()).ok()?;
    Some(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::SecretString;

    use super::*;

    fn secrets(keys: &[u8]) -> WebhookSecrets {
        let text = |key: &u8| format!("whsec_{}", STANDARD.encode([*key; 24]));
        let list: Vec<String> = keys.iter().map(text).collect();
        WebhookSecrets::parse(&SecretString::from(list.join(","))).unwrap()
    }

    #[test]
    fn an_address_opens_with_its_secret_and_for_its_job_only() {
        let (tenant, job) = (TenantId::default(), JobId::new_now());
        let url: CallbackUrl = "https://hooks.example/canary-path?token=canary".parse().unwrap();
        let old = secrets(&[1]);
        let sealed = old.seal(&tenant, &job, &url).unwrap();
        assert!(!sealed.contains("canary"));
        assert_ne!(old.seal(&tenant, &job, &url).unwrap(), sealed);
        // Also while the secret is changed.
        for known in [&old, &secrets(&[2, 1])] {
            assert_eq!(known.open(&tenant, &job, &sealed), Some(url.clone()));
        }
        assert_eq!(secrets(&[2]).open(&tenant, &job, &sealed), None);
        assert_eq!(old.open(&tenant, &JobId::new_now(), &sealed), None);
        assert_eq!(old.open(&"acme".parse().unwrap(), &job, &sealed), None);
        for damaged in [
            "",
            "AAAA",
            &sealed[4..],
            &sealed.replacen(&sealed[20..21], "-", 1),
        ] {
            assert_eq!(old.open(&tenant, &job, damaged), None, "{damaged}");
        }
    }
}
