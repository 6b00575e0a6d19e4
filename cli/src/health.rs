//! `mayfly health`: asks the role that runs in this container or on this machine how it is, so that a health check needs no shell and no curl.
//!
//! It takes the same settings as the role itself. Over TLS the server must show the very certificate of `TLS_CERT_FILE`: nothing else is
//! known about names here, since the address is loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::args::seconds;

/// Which role is asked, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct HealthArgs {
    /// The role that runs here.
    #[arg(value_enum, default_value = "gateway")]
    role: Role,
    /// Port that it listens on; the role's default when absent.
    #[arg(long, env = "PORT")]
    port: Option<u16>,
    /// Address that it listens on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// File of its certificate (PEM), if it speaks TLS.
    #[arg(long, env = "TLS_CERT_FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Ask a gateway whether it is ready for jobs, and not only whether it is alive.
    #[arg(long)]
    ready: bool,
    /// Seconds that the answer may take.
    #[arg(long, default_value = "3", value_parser = seconds)]
    timeout: Duration,
}

/// The roles that listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Gateway,
    GitWorker,
    CodeWorker,
}

impl Role {
    fn default_port(self) -> u16 {
        match self {
            Self::Gateway => 8080,
            Self::GitWorker => 5002,
            Self::CodeWorker => 3001,
        }
    }
}

/// Succeeds if the role answers that all is well.
pub(crate) async fn command(args: HealthArgs) -> anyhow::Result<()> {
    if args.ready && args.role != Role::Gateway {
        bail!("--ready is for a gateway; a worker that is alive is ready");
    }
    let address = SocketAddr::new(
        reachable(args.host),
        args.port.unwrap_or_else(|| args.role.default_port()),
    );
    let path = if args.ready { "ready" } else { "health" };
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(args.timeout);
    let scheme = match &args.tls_cert_file {
        Some(file) => {
            client = client.tls_backend_preconfigured(trusting_only(file)?);
            "https"
        }
        None => "http",
    };
    let url = format!("{scheme}://{address}/{path}");
    let asked = client.build()?.get(&url).send().await;
    let answer = asked.with_context(|| format!("nothing answers well at {url}"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{url} answers {status}");
    }
    Ok(())
}

/// Where a server that listens on all addresses is reached from here.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

fn trusting_only(file: &Path) -> anyhow::Result<ClientConfig> {
    let certificate = CertificateDer::from_pem_file(file).with_context(|| {
        format!(
            "TLS_CERT_FILE names {}, which holds no certificate",
            file.display()
        )
    })?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(OneCertificate {
        certificate,
        algorithms: provider.signature_verification_algorithms,
    });
    Ok(configured(provider, verifier)?)
}

fn configured(provider: Arc<CryptoProvider>, verifier: Arc<OneCertificate>) -> Result<ClientConfig, Error> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes one certificate, of which the server proves to have the key, and no other.
#[derive(Debug)]
struct OneCertificate {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, shown, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, shown, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
