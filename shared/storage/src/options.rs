//! The settings of a store: every wait and size that it has, with defaults that suit production.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use mayfly_protocol::SecretString;

/// How a store behaves. All sizes are in bytes.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The longest wait for the answer to one attempt of one request, or for a lock; the time to move content comes on top, see
    /// [`StorageOptions::min_bytes_per_second`]. All attempts at one operation together wait for answers for twice as long at most.
    pub operation_timeout: Duration,
    /// The longest wait for a connection to S3.
    pub connect_timeout: Duration,
    /// The longest wait for the note of an earlier probe when a worker starts.
    pub start_timeout: Duration,
    /// A transfer to or from S3 that moves nothing for so long has failed.
    pub stall_timeout: Duration,
    /// A transfer to or from S3 that is slower than this on the whole has failed; bounds the time of moving content.
    pub min_bytes_per_second: NonZeroU32,
    /// How often a request to S3 is tried in all.
    pub attempts: NonZeroU32,
    /// The longest pause before an attempt.
    pub max_backoff: Duration,
    /// Larger content goes to S3 in parts.
    pub multipart_threshold: u64,
    /// The size of a part; S3 wants 5 MiB at least. Larger where 10,000 parts would not be enough.
    pub part_bytes: u64,
    /// How many parts of one object are on their way, and in memory, at once.
    pub part_concurrency: usize,
    /// What is particular to S3.
    pub s3: S3Options,
}

/// What is particular to S3. Each field that is `None` is found by the AWS SDK in its usual way: environment variables
/// (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, ...), profile files, the metadata service of a container or machine.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// The server, as `http://host:port`.
    pub endpoint: Option<String>,
    /// The region to sign for.
    pub region: Option<String>,
    /// The key to sign with.
    pub credentials: Option<S3Credentials>,
    /// A PEM file of certificate authorities to trust beside the system's: what `AWS_CA_BUNDLE` names, which this SDK does not read by itself.
    pub ca_bundle: Option<PathBuf>,
    /// How the server wants versions to be written in `If-Match`; `None`: it is learnt when it matters.
    pub etag_form: Option<EtagForm>,
}

/// A key pair of S3.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: SecretString,
}

/// How a server wants an ETag to be written in `If-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtagForm {
    /// As the server gave it, in quotes, as RFC 9110 has it.
    AsGiven,
    /// Without its quotes, as Ceph's gateway wants it.
    Unquoted,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            operation_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(20),
            min_bytes_per_second: const { NonZeroU32::new(64 * 1024).unwrap() },
            attempts: const { NonZeroU32::new(4).unwrap() },
            max_backoff: Duration::from_secs(2),
            multipart_threshold: 16 * 1024 * 1024,
            part_bytes: 8 * 1024 * 1024,
            part_concurrency: 4,
            s3: S3Options::default(),
        }
    }
}

impl StorageOptions {
    /// The longest time for an attempt that moves so much content.
    pub(crate) fn attempt_timeout(&self, bytes: u64) -> Duration {
        let moving = Duration::from_secs(bytes / u64::from(self.min_bytes_per_second.get()));
        self.operation_timeout.saturating_add(moving)
    }

    /// The longest time for all attempts at one operation that moves so much content; no attempt begins after it. A write whose answer was
    /// lost is looked for in half of that again.
    pub(crate) fn operation_window(&self, bytes: u64) -> Duration {
        self.attempt_timeout(bytes).saturating_mul(2)
    }

    /// The pauses before each attempt: none before the first, then twice as long each time, and between a half and the whole of it by chance,
    /// so that those who lost a race together do not come back together.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + Sync + use<> {
        const FIRST: Duration = Duration::from_millis(50);
        let longest = self.max_backoff;
        (0..self.attempts.get()).map(move |attempt| match attempt {
            0 => Duration::ZERO,
            n => {
                let full = FIRST.saturating_mul(1 << (n - 1).min(16)).min(longest);
                full / 2 + full.mul_f64(chance()) / 2
            }
        })
    }
}

/// A number in `0.0..1.0`, from the random bits of a UUID.
fn chance() -> f64 {
    let (_, bits) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from(bits as u32) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let options = StorageOptions {
            attempts: NonZeroU32::new(10).unwrap(),
            max_backoff: Duration::from_millis(300),
            ..StorageOptions::default()
        };
        let pauses: Vec<Duration> = options.pauses().collect();
        assert_eq!((pauses.len(), pauses[0]), (10, Duration::ZERO));
        for (n, pause) in pauses.iter().enumerate().skip(1) {
            let full = Duration::from_millis((50 << (n - 1)).min(300));
            assert!((full / 2..=full).contains(pause), "{n}: {pause:?}");
        }
    }

    #[test]
    fn time_grows_with_content() {
        let options = StorageOptions::default();
        assert_eq!(options.attempt_timeout(0), Duration::from_secs(30));
        assert_eq!(options.attempt_timeout(64 * 1024 * 100), Duration::from_secs(130));
        assert_eq!(
            options.operation_window(64 * 1024 * 100),
            Duration::from_secs(260)
        );
    }
}
