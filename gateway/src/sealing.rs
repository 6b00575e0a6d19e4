//! Secrets of one job, sealed so that a gateway with the same secret can open them, and nobody else.
//!
//! Each purpose and job has a key of its own (HKDF-SHA256, RFC 5869, of the secret, the purpose, the tenant and the job), and what is sealed is bound to that
//! job (ChaCha20-Poly1305, RFC 8439, with a random nonce before it). This module must not know what is sealed, or where it is kept.

use mayfly_protocol::{JobId, TenantId};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

/// What is sealed for one purpose does not open for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Bodies of jobs that wait.
    WaitingJobs,
    /// Addresses of webhooks' receivers.
    Receivers,
}

/// The job of which something is sealed, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) tenant: &'a TenantId,
    pub(crate) job: &'a JobId,
}

impl Purpose {
    fn salt(self) -> &'static [u8] {
        match self {
            Self::WaitingJobs => b"mayfly waiting jobs 1",
            Self::Receivers => b"mayfly receivers 1",
        }
    }
}

impl Place<'_> {
    /// Seals with this secret; `None` where the system has no random bytes.
    pub(crate) fn seal(&self, secret: &[u8], mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let aad = Aad::from(self.name());
        self.key(secret)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut plain)
            .ok()?;
        Some([&nonce[..], &plain].concat())
    }

    /// Opens what was sealed with one of these secrets; `None` where it was not, or for another job or purpose.
    pub(crate) fn open<'s>(
        &self,
        secrets: impl IntoIterator<Item = &'s [u8]>,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let open_with = |secret| {
            let mut bytes = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = self
                .key(secret)?
                .open_in_place(nonce, Aad::from(self.name()), &mut bytes);
            let length = plain.ok()?.len();
            bytes.truncate(length);
            Some(bytes)
        };
        secrets.into_iter().find_map(open_with)
    }

    /// An id has no line end.
    fn name(&self) -> Vec<u8> {
        format!("{}\n{}", self.tenant, self.job).into_bytes()
    }

    fn key(&self, secret: &[u8]) -> Option<LessSafeKey> {
        let of_purpose = Salt::new(HKDF_SHA256, self.purpose.salt()).extract(secret);
        let info = self.name();
        let info = [info.as_slice()];
        let of_job = of_purpose.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(of_job)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NEW: &[u8] = b"fedcba9876543210fedcba9876543210";

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_job_and_with_its_secret_alone() {
        let (tenant, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (job, another) = (JobId::new_now(), JobId::new_now());
        let place = Place {
            purpose: Purpose::Receivers,
            tenant: &tenant,
            job: &job,
        };
        let plain = b"https://hooks.example/canary".to_vec();
        let sealed = place.seal(OLD, plain.clone()).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"canary"));
        assert_ne!(place.seal(OLD, plain.clone()).unwrap(), sealed);
        assert_eq!(place.open([OLD], &sealed), Some(plain.clone()));
        // Also while the secret is changed.
        assert_eq!(place.open([NEW, OLD], &sealed), Some(plain));
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        let of_waiting_jobs = Place {
            purpose: Purpose::WaitingJobs,
            ..place
        };
        for (secret, place, sealed) in [
            (NEW, place, &sealed[..]),
            (OLD, of_waiting_jobs, &sealed),
            (
                OLD,
                Place {
                    tenant: &other,
                    ..place
                },
                &sealed,
            ),
            (
                OLD,
                Place {
                    job: &another,
                    ..place
                },
                &sealed,
            ),
            (OLD, place, &changed),
            (OLD, place, &sealed[..5]),
            (OLD, place, b""),
        ] {
            assert_eq!(place.open([secret], sealed), None);
        }
    }
}
