//! TLS of a server: rustls with ring, and a certificate that is read again when its files change.
//!
//! A pair that cannot be used leaves the one in force: an operator's slip is no outage.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::watch::WatchedFile;

const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where the certificate and its key are, in PEM form.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, with those that lead to the authority behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{}` cannot be read; name a file in PEM form that this process may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificate.
    #[error("`{}` holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("`{}` holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// The two do not belong together, or are of a kind that is not known.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[source] rustls::Error),
}

/// A certificate in force, and the files that it comes from.
#[derive(Debug)]
pub struct Tls {
    settings: Arc<ServerConfig>,
    current: Arc<Current>,
    files: tokio::sync::Mutex<Files>,
    look_interval: Duration,
}

#[derive(Debug)]
struct Files {
    certificate: WatchedFile,
    key: WatchedFile,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads the files; they are looked at again after each interval while the server accepts.
    pub async fn load(files: TlsFiles, look_interval: Duration) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut files = Files {
            certificate: WatchedFile::new(files.certificate, MAX_FILE_BYTES),
            key: WatchedFile::new(files.key, MAX_FILE_BYTES),
        };
        let current = Arc::new(Current(RwLock::new(Arc::new(files.read(&provider).await?))));
        let resolver = Arc::clone(&current) as Arc<dyn ResolvesServerCert>;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            settings: Arc::new(config),
            current,
            files: tokio::sync::Mutex::new(files),
            look_interval,
        })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.settings))
    }

    /// Takes each new pair of files, for as long as the future is polled.
    pub(crate) async fn follow(&self) -> Infallible {
        loop {
            sleep(self.look_interval).await;
            self.look().await;
        }
    }

    /// Takes the files if they changed; a pair that cannot be used changes nothing.
    async fn look(&self) {
        let mut files = self.files.lock().await;
        if !files.have_changed().await {
            return;
        }
        match files.read(self.settings.crypto_provider()).await {
            Ok(read) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                tracing::info!("a new TLS certificate is in force");
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(
                    error,
                    "the new TLS certificate cannot be used; the one before stays in force"
                );
            }
        }
    }
}

impl Files {
    async fn have_changed(&self) -> bool {
        self.certificate.has_changed().await || self.key.has_changed().await
    }

    async fn read(&mut self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let unreadable = |file: &WatchedFile, source| TlsError::Unreadable {
            path: file.path().to_owned(),
            source,
        };
        // Both are read in any case, so that a pair with one bad file is complained of once.
        let (certificate, key) = (self.certificate.read().await, self.key.read().await);
        let certificate = certificate.map_err(|error| unreadable(&self.certificate, error))?;
        let key = key.map_err(|error| unreadable(&self.key, error))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let chain = chain
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| TlsError::NoCertificate(self.certificate.path().to_owned()))?;
        let key =
            PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey(self.key.path().to_owned()))?;
        CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Unusable)
    }
}

#[cfg(test)]
mod tests {
    use mayfly_testkit::https::TestCa;

    use super::*;

    fn in_force(tls: &Tls) -> Vec<u8> {
        tls.current.0.read().unwrap().cert[0].as_ref().to_vec()
    }

    #[tokio::test]
    async fn a_broken_pair_leaves_the_one_before_in_force_until_it_is_mended() {
        let (ca, folder) = (TestCa::new(), tempfile::tempdir().unwrap());
        let (certificate, key) = ca.write_server_pem(folder.path());
        let files = TlsFiles {
            certificate,
            key: key.clone(),
        };
        let tls = Tls::load(files, Duration::from_secs(1)).await.unwrap();
        let first = in_force(&tls);
        for broken in ["", "rubbish"] {
            std::fs::write(&key, broken).unwrap();
            tls.look().await;
            assert_eq!(in_force(&tls), first);
        }
        std::fs::remove_file(&key).unwrap();
        tls.look().await;
        assert_eq!(in_force(&tls), first);
        ca.write_server_pem(folder.path());
        tls.look().await;
        assert_ne!(in_force(&tls), first);
    }
}
