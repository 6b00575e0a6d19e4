//! The end of a gateway: nothing new, and every stream with its end.

use std::time::Duration;

use mayfly_gateway::GatewayConfig;

use crate::client::{self, job};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{StubWorker, waiting};

#[tokio::test]
async fn running_jobs_finish_waiting_ones_end_and_new_ones_are_refused() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let mut gateway = TestGateway::with(&[&worker]).await;
    let mut running = gateway.post(job("a")).await;
    running.until("preparing").await;
    let waits = gateway.post(job("b")).await;
    gateway.shutdown.cancel();
    assert_eq!(waits.names().await, ["queued", "shutting_down"]);
    let refused = gateway.send(job("c")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(client::json(refused).await["code"], "shutting_down");
    assert_eq!(gateway.get("/ready").await.0, 503);
    assert_eq!(gateway.get("/health").await.0, 200);
    worker.go_on();
    assert_eq!(running.names().await, ["completed"]);
    gateway.stop().await;
}

#[tokio::test]
async fn after_the_grace_streams_end_and_the_gateway_returns() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let mut gateway = TestGateway::start(GatewayConfig {
        drain_grace: Duration::from_millis(100),
        ..config(&[&worker])
    })
    .await;
    let mut running = gateway.post(job("a")).await;
    running.until("preparing").await;
    gateway.shutdown.cancel();
    assert_eq!(running.names().await, ["shutting_down"]);
    gateway.stop().await;
    assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_and_a_reader_that_never_reads_do_not_hold_the_end_up() {
    let worker = StubWorker::completing().await;
    let mut gateway = TestGateway::start(GatewayConfig {
        close_grace: Duration::from_millis(100),
        ..config(&[&worker])
    })
    .await;
    let _idle = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let _unread = gateway.post(job("a")).await;
    gateway.stop().await;
}
