//! The connections to Redis: one for operations, which all share, and one on which changes are heard. Lost, both are made anew.
//!
//! There is no waiting for a connection: while there is none, every operation fails at once.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{RedisSettings, RedisUrl};
use crate::port::{Change, JobRef, Unavailable};

/// Changes that a gateway may lag behind.
const CHANGES: usize = 4096;

/// Why Redis cannot be used with these settings.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// It does not take the password, or the user may not do what is needed.
    #[error("Redis at {at} refuses the user or the password, or what the user may do is not enough: {why}")]
    Refused {
        /// Where it is, without the password.
        at: String,
        /// What it said.
        why: String,
    },
    /// Its certificate is not trusted, or what it speaks is no TLS.
    #[error("Redis at {at} is not trusted")]
    Tls {
        /// Where it is, without the password.
        at: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it did not answer in time")]
    Late,
    #[error("it cannot be reached")]
    Unreached(#[source] io::Error),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("{0}")]
    Said(String),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("the connection was lost")]
    Lost,
}

impl From<RedisError> for Failed {
    fn from(error: RedisError) -> Self {
        let is_refused = matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm)
        ) || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
        match is_refused {
            true => Self::Refused(in_short(&error)),
            false => Self::Said(in_short(&error)),
        }
    }
}

/// What is said of an error of Redis: its kind and code. Its text may quote what was sent.
pub(super) fn in_short(error: &RedisError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None => error.category().to_owned(),
    }
}

/// A connection for operations, and what ends it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) operations: MultiplexedConnection,
    lost: CancellationToken,
}

/// The connections, and who is told of changes.
pub(super) struct Link {
    settings: RedisSettings,
    tls: TlsConnector,
    channel: String,
    line: Mutex<Option<Line>>,
    changes: broadcast::Sender<Change>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("url", &self.settings.url)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(settings: &RedisSettings, channel: String) -> Self {
        let mut tls = ClientConfig::clone(&settings.tls);
        tls.alpn_protocols.clear();
        Self {
            settings: settings.clone(),
            tls: Arc::new(tls).into(),
            channel,
            line: Mutex::new(None),
            changes: broadcast::Sender::new(CHANGES),
        }
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(super) fn line(&self) -> Result<Line, Unavailable> {
        let line = self.current().clone().filter(|line| !line.lost.is_cancelled());
        line.ok_or(Unavailable::Away)
    }

    /// An operation on this connection failed: it is made anew.
    pub(super) fn failed(&self, line: &Line, failure: &Unavailable) {
        if !line.lost.is_cancelled() {
            tracing::warn!(redis = %self.settings.url, "Redis is lost: {failure}");
            line.lost.cancel();
        }
    }

    /// Finds out what waiting would not mend.
    pub(super) async fn try_once(&self) -> Result<(), RedisOpenError> {
        let at = self.settings.url.to_string();
        match self.connect().await {
            Ok(_) => Ok(()),
            Err(Failed::Refused(why)) => Err(RedisOpenError::Refused { at, why }),
            // Anything else may come from a Redis that is being started.
            Err(Failed::Tls(source)) if source.kind() == io::ErrorKind::InvalidData => {
                Err(RedisOpenError::Tls { at, source })
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(redis = %at, error, "Redis cannot be used now; it is tried again and again");
                Ok(())
            }
        }
    }

    pub(super) async fn run(&self) {
        let mut was_told = false;
        loop {
            let error = self.follow(&mut was_told).await;
            *self.current() = None;
            if !was_told {
                was_told = true;
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(redis = %self.settings.url, error, "Redis is away; gateways go on without it until it is back");
            }
            sleep(self.settings.interval).await;
        }
    }

    /// Connects, and hears changes until a connection is lost.
    async fn follow(&self, was_told: &mut bool) -> Failed {
        let (line, pubsub, driver) = match self.connect().await {
            Ok(connected) => connected,
            Err(error) => return error,
        };
        let lost = line.lost.clone();
        *self.current() = Some(line);
        *was_told = false;
        tracing::info!(redis = %self.settings.url, "connected to Redis");
        self.say(Change::Everything);
        tokio::select! {
            () = driver => Failed::Lost,
            () = lost.cancelled() => Failed::Lost,
            failed = self.hear(pubsub) => failed,
        }
    }

    /// Hears changes; in a silence it asks whether the connection is alive.
    async fn hear(&self, pubsub: PubSub) -> Failed {
        let (mut asking, mut messages) = pubsub.split();
        loop {
            match timeout(self.settings.interval, messages.next()).await {
                Ok(None) => return Failed::Lost,
                Ok(Some(message)) => {
                    if let Some(change) = parse(message.get_payload_bytes()) {
                        self.say(change);
                    }
                }
                Err(_) => match timeout(self.settings.timeout, asking.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return Failed::Late,
                },
            }
        }
    }

    fn say(&self, change: Change) {
        // Nobody has to listen.
        let _listeners = self.changes.send(change);
    }

    /// Makes both connections; operations go on for as long as the driver is polled.
    async fn connect(&self) -> Result<(Line, PubSub, Driver), Failed> {
        let greeting = self.settings.url.greeting();
        let mut pubsub = self
            .within(async { Ok(PubSub::new(&greeting, self.stream().await?).await?) })
            .await?;
        self.within(async { Ok(pubsub.subscribe(&self.channel).await?) })
            .await?;
        let (operations, driver) = self
            .within(async {
                let config = AsyncConnectionConfig::new().set_response_timeout(None);
                let stream = self.stream().await?;
                Ok(MultiplexedConnection::new_with_config(&greeting, stream, config).await?)
            })
            .await?;
        let lost = CancellationToken::new();
        Ok((Line { operations, lost }, pubsub, Box::pin(driver)))
    }

    async fn within<T>(&self, step: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        timeout(self.settings.timeout, step)
            .await
            .map_err(|_| Failed::Late)?
    }

    async fn stream(&self) -> Result<Box<dyn Stream>, Failed> {
        let RedisUrl {
            host, port, is_tls, ..
        } = &self.settings.url;
        let socket = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(Failed::Unreached)?;
        socket.set_nodelay(true).map_err(Failed::Unreached)?;
        if !is_tls {
            return Ok(Box::new(socket));
        }
        let name = ServerName::try_from(host.clone())
            .map_err(|error| Failed::Tls(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let stream = self.tls.connect(name, socket).await.map_err(Failed::Tls)?;
        Ok(Box::new(stream))
    }

    fn current(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `turn TENANT JOB`, `events TENANT JOB` or `cancel TENANT JOB`; what a later version may say is passed over.
fn parse(payload: &[u8]) -> Option<Change> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ');
    let what = words.next()?;
    let job = JobRef {
        tenant: words.next()?.parse().ok()?,
        job: words.next()?.parse().ok()?,
    };
    match what {
        "turn" => Some(Change::Turn(job)),
        "events" => Some(Change::Events(job)),
        "cancel" => Some(Change::Cancel(job)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_on_the_channel_is_passed_over() {
        let job = mayfly_protocol::JobId::new_now();
        assert!(matches!(
            parse(format!("turn t {job}").as_bytes()),
            Some(Change::Turn(_))
        ));
        for rubbish in ["", "turn", "turn t", "turn t x", "later t x", "\u{0}"] {
            assert_eq!(parse(rubbish.as_bytes()), None);
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }
}
