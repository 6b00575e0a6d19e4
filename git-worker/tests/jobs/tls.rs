//! Git over TLS: trusted by the system's roots and one's own authority, and by nothing else.

use mayfly_protocol::{ErrorCode, JobKind};
use mayfly_testkit::git_host::GitHost;
use mayfly_testkit::https::TestCa;
use mayfly_testkit::repo::TestRepo;
use serde_json::json;

use super::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_trusted_by_the_authority_that_is_set() {
    let (own, other) = (TestCa::new(), TestCa::new());
    let mut rig = Rig::new().await;
    rig.host = GitHost::builder().https(&own).start();
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    for authority in [None, Some(other.pem().into_bytes())] {
        rig.policy.extra_ca_pem = authority;
        let body = rig.clone_body("s", "app");
        rig.job(JobKind::CloneRepository, body)
            .await
            .failed(ErrorCode::TlsFailed);
        assert!(
            rig.host.requests().is_empty(),
            "no token is sent to a host that is not trusted"
        );
    }
    rig.policy.extra_ca_pem = Some(own.pem().into_bytes());
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let done = rig.commit("s", json!({})).await.completed();
    assert_eq!(bare.rev_parse("main"), done["commitSha"].as_str().unwrap());
}
