//! A gateway on a free port, ended when it is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use mayfly_gateway::{GatewayConfig, RunError, WorkerSource};
use mayfly_protocol::SecretString;
use mayfly_server::bearer::FleetTokens;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Events, PATIENCE};
use crate::stub_worker::StubWorker;
use crate::until::until_some;

pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
    /// Its own threads, where it has them.
    runtime: Option<Runtime>,
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.running.abort();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The tokens of a fleet, as its setting lists them.
pub(crate) fn tokens(list: &str) -> FleetTokens {
    FleetTokens::parse(&SecretString::from(list)).unwrap()
}

/// Short waits, so that what waits for a bound does so quickly; long enough for a slow machine.
pub(crate) fn config(workers: &[&StubWorker]) -> GatewayConfig {
    GatewayConfig {
        git_workers: WorkerSource::Static(workers.iter().map(|worker| worker.url()).collect()),
        queue_timeout: PATIENCE,
        position_interval: Duration::from_millis(50),
        linger: Duration::from_millis(200),
        job_attempts: 1,
        ..GatewayConfig::default()
    }
}

impl TestGateway {
    #[expect(clippy::disallowed_methods, reason = "the test stands for main")]
    pub(crate) async fn start(config: GatewayConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(mayfly_gateway::run(config, listener, shutdown.clone()));
        Self {
            address,
            shutdown,
            running,
            runtime: None,
        }
    }

    /// A gateway on threads of its own, so that it can be killed.
    pub(crate) fn start_apart(config: GatewayConfig) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener).unwrap();
        drop(entered);
        let shutdown = CancellationToken::new();
        let running = runtime.spawn(mayfly_gateway::run(config, listener, shutdown.clone()));
        Self {
            address,
            shutdown,
            running,
            runtime: Some(runtime),
        }
    }

    pub(crate) async fn with(workers: &[&StubWorker]) -> Self {
        Self::start(config(workers)).await
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Response<Incoming> {
        client::send(self.address, request).await
    }

    /// Posts a job, and reads its stream.
    pub(crate) async fn post(&self, request: Request<Bytes>) -> Events {
        Events::of(self.send(request).await)
    }

    /// A job of a session of its own, to its end.
    pub(crate) async fn names_of(&self, session: &str) -> Vec<String> {
        self.post(client::job(session)).await.names().await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.send(client::get(path)).await;
        (response.status().as_u16(), client::json(response).await)
    }

    /// Looks at a path until what it says is right.
    pub(crate) async fn wait_for(&self, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        until_some(path, async || {
            let (_, value) = self.get(path).await;
            is_right(&value).then_some(value)
        })
        .await
    }

    /// Ends the gateway as a kill does: nothing of it goes on, and nothing is said.
    pub(crate) fn kill(&mut self) {
        let runtime = self.runtime.take().expect("it was started apart");
        runtime.shutdown_background();
    }

    /// Asks the gateway to end, and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        timeout(PATIENCE, &mut self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
