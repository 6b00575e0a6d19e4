//! What tenants do not share: idempotency keys, and the memory for bodies.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use mayfly_gateway::{GatewayConfig, Scope};
use mayfly_storage::{MemoryStore, ObjectStore};
use serde_json::json;

use crate::client::{self, post};
use crate::gateway::TestGateway;
use crate::keys::{Keys, with_key};
use crate::stub_worker::{StubWorker, waiting};

fn sized(session: &str, bytes: usize) -> Request<Bytes> {
    let body = json!({"sessionId": session, "userRequest": "x".repeat(bytes)});
    post("/create-branch", body.to_string())
}

fn keyed(mut request: Request<Bytes>) -> Request<Bytes> {
    request
        .headers_mut()
        .insert("idempotency-key", "k".parse().unwrap());
    request
}

#[tokio::test]
async fn the_same_idempotency_key_is_another_job_for_another_tenant() {
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    for storage in [Some(memory), None] {
        let (worker, keys) = (StubWorker::completing().await, Keys::new());
        let [acme, globex] = ["acme", "globex"].map(|tenant| keys.add(tenant, Scope::ALL));
        let gateway = TestGateway::start(GatewayConfig {
            storage,
            ..keys.config(&[&worker])
        })
        .await;
        let mut ids = Vec::new();
        for (key, bytes) in [(&acme, 1), (&globex, 2), (&acme, 1)] {
            let stream = gateway.post(with_key(keyed(sized("s", bytes)), key)).await;
            ids.push(stream.job_id());
            assert_eq!(stream.names().await.last().unwrap(), "completed");
        }
        assert!(ids[0] == ids[2] && ids[0] != ids[1], "{ids:?}");
    }
}

#[tokio::test]
async fn a_tenant_that_holds_many_bytes_leaves_room_for_another() {
    let (worker, keys) = (StubWorker::start(vec![waiting()]).await, Keys::new());
    let [acme, globex] = ["acme", "globex"].map(|tenant| keys.add(tenant, Scope::ALL));
    let gateway = TestGateway::start(GatewayConfig {
        held_body_bytes: 8000,
        ..keys.config(&[&worker])
    })
    .await;
    let first = gateway.post(with_key(sized("a", 3500), &acme)).await;
    let refused = gateway.send(with_key(sized("b", 3500), &acme)).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(client::json(refused).await["code"], "queue_full");
    let other = gateway.post(with_key(sized("a", 2000), &globex)).await;
    for stream in [first, other] {
        worker.go_on();
        assert_eq!(stream.names().await.last().unwrap(), "completed");
    }
    let again = gateway.post(with_key(sized("b", 3500), &acme)).await;
    worker.go_on();
    assert_eq!(again.names().await.last().unwrap(), "completed");
}
