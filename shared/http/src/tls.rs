//! The TLS settings: rustls with ring, the system's authorities and those of the policy.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::client::BuildError;

/// Makes the TLS settings of every connection: the system's authorities, and those in this PEM text.
///
/// HTTP/1.1 only: a response that is dropped then closes its connection, which is what cancel means.
pub fn client_config(extra_ca_pem: Option<&[u8]>) -> Result<ClientConfig, BuildError> {
    let mut roots = system_roots();
    if let Some(pem) = extra_ca_pem {
        add_extra(&mut roots, pem)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities that the system trusts. A machine without any can still reach hosts over plain HTTP or with the extra authorities.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "read the system's certificate authorities");
    roots
}

fn add_extra(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), BuildError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| BuildError::ExtraCa)?;
        roots.add(certificate).map_err(|_| BuildError::ExtraCa)?;
        count += 1;
    }
    if count == 0 {
        return Err(BuildError::ExtraCa);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_ca_file_without_a_certificate_is_refused() {
        for bad in [
            &b""[..],
            b"not pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(matches!(client_config(Some(bad)), Err(BuildError::ExtraCa)));
        }
        assert!(client_config(None).is_ok());
    }
}
