//! Makes the client: where to, as whom, with which roots of trust and which bounds. Must not know keys or objects.

use std::path::Path;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use mayfly_protocol::ExposeSecret;
use mayfly_telemetry::task;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::{OpenError, S3Credentials, StorageOptions};

/// What a server that is not AWS is signed for when nobody says otherwise; such servers take any region.
const DEFAULT_REGION: &str = "us-east-1";

/// The client, and which server it speaks to.
pub(super) async fn client(options: &StorageOptions) -> Result<(Client, String), OpenError> {
    let sdk = sdk_config(options).await?;
    let endpoint = endpoint(options, &sdk);
    if sdk.region().is_none() && endpoint.is_none() {
        return Err(OpenError::NoRegion);
    }
    let mut config = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(endpoint.is_some());
    if sdk.region().is_none() {
        config = config.region(Region::from_static(DEFAULT_REGION));
    }
    let server = match (&endpoint, sdk.region()) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, region) => format!("aws {}", region.map_or(DEFAULT_REGION, |region| region.as_ref())),
    };
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        // Spares the loading of certificates that nothing will be checked against.
        config = config.http_client(Builder::new().build_http());
    }
    Ok((Client::from_conf(config.build()), server))
}

async fn sdk_config(options: &StorageOptions) -> Result<SdkConfig, OpenError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https_client(options.s3.ca_bundle.as_deref()).await?)
        .retry_config(retries(options))
        .timeout_config(timeouts(options))
        .stalled_stream_protection(stall_protection(options))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenSupported);
    if let Some(endpoint) = &options.s3.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &options.s3.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(key) = &options.s3.credentials {
        loader = loader.credentials_provider(credentials(key));
    }
    Ok(loader.load().await)
}

/// The endpoint that is configured, if any, where S3's own (`AWS_ENDPOINT_URL_S3`) goes before that of all services.
fn endpoint(options: &StorageOptions, sdk: &SdkConfig) -> Option<String> {
    if let Some(endpoint) = &options.s3.endpoint {
        return Some(endpoint.clone());
    }
    let key = aws_types::service_config::ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let of_service = sdk.service_config().and_then(|config| config.load_config(key));
    of_service.or_else(|| sdk.endpoint_url().map(ToOwned::to_owned))
}

fn credentials(key: &S3Credentials) -> Credentials {
    let secret = key.secret_access_key.expose_secret();
    Credentials::new(&key.access_key_id, secret, None, None, "storage options")
}

fn retries(options: &StorageOptions) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(options.attempts.get())
        .with_max_backoff(options.max_backoff)
}

fn timeouts(options: &StorageOptions) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.operation_timeout)
        .operation_timeout(options.operation_window(0))
        .build()
}

fn stall_protection(options: &StorageOptions) -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::enabled()
        .grace_period(options.stall_timeout)
        .upload_enabled(true)
        .download_enabled(true)
        .build()
}

async fn https_client(ca_bundle: Option<&Path>) -> Result<SharedHttpClient, OpenError> {
    let mut roots = TrustStore::default();
    if let Some(path) = ca_bundle {
        let path = path.to_owned();
        roots = roots.with_pem_certificate(task::blocking(move || read_ca_bundle(&path)).await?);
    }
    let failed = |error| OpenError::Tls {
        source: Box::new(error),
    };
    let context = TlsContext::builder()
        .with_trust_store(roots)
        .build()
        .map_err(failed)?;
    let builder = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    Ok(builder.tls_context(context).build_https())
}

/// Reads and checks the file; the SDK would panic on one that is no PEM.
fn read_ca_bundle(path: &Path) -> Result<Vec<u8>, OpenError> {
    let failed = |source| OpenError::CaBundle {
        path: path.to_owned(),
        source,
    };
    let pem = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| failed(error.into()))?;
        store.add(certificate).map_err(|error| failed(error.into()))?;
    }
    if store.is_empty() {
        return Err(failed("it holds no certificate".into()));
    }
    Ok(pem)
}
