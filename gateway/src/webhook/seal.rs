//! Addresses of receivers as the storage holds them: sealed with the secret of webhooks, since they often are secrets themselves, and in Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_protocol::{CallbackUrl, JobId, TenantId};

use super::sign::WebhookSecrets;
use crate::sealing::{Place, Purpose};

impl WebhookSecrets {
    /// The address, sealed with the first secret; `None` where the system gives no random numbers.
    pub(super) fn seal(&self, tenant: &TenantId, job: &JobId, url: &CallbackUrl) -> Option<String> {
        let plain = url.as_url().as_str().as_bytes().to_vec();
        let sealed = place(tenant, job).seal(self.0.first()?, plain)?;
        Some(STANDARD.encode(sealed))
    }

    /// The address that was sealed with one of the secrets; `None` where it was not, or for another job.
    pub(super) fn open(&self, tenant: &TenantId, job: &JobId, sealed: &str) -> Option<CallbackUrl> {
        let sealed = STANDARD.decode(sealed).ok()?;
        let plain = place(tenant, job).open(self.0.iter().map(Vec::as_slice), &sealed)?;
        std::str::from_utf8(&plain).ok()?.parse().ok()
    }
}

fn place<'a>(tenant: &'a TenantId, job: &'a JobId) -> Place<'a> {
    Place {
        purpose: Purpose::Receivers,
        tenant,
        job,
    }
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
    fn an_address_comes_back_with_any_of_the_secrets() {
        let (tenant, job) = (TenantId::default(), JobId::new_now());
        let url: CallbackUrl = "https://hooks.example/canary-path?token=canary".parse().unwrap();
        let old = secrets(&[1]);
        let sealed = old.seal(&tenant, &job, &url).unwrap();
        assert!(!sealed.contains("canary"));
        for known in [&old, &secrets(&[2, 1])] {
            assert_eq!(known.open(&tenant, &job, &sealed), Some(url.clone()));
        }
        assert_eq!(secrets(&[2]).open(&tenant, &job, &sealed), None);
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
