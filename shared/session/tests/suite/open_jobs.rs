//! Records of jobs and keys over every backend: of those who race one wins, and what is stale is not written.

use std::sync::Arc;

use futures::future::join_all;
use mayfly_protocol::{JobId, JobKind, TenantId};
use mayfly_session::{
    Claimed, GatewayId, HexDigest, KeyArchive, KeyRecord, OpenJob, OpenJobError, OpenJobs, Sent, SignOfLife,
};
use mayfly_storage::Precondition;
use time::macros::datetime;

use super::scene::{Backend, backends};

const WRITERS: usize = 12;

fn open_jobs(backend: &Backend) -> OpenJobs {
    OpenJobs::new(Arc::clone(&backend.storage))
}

fn job(session: &str) -> OpenJob {
    OpenJob::waiting(
        JobId::new_now(),
        JobKind::ApplyChanges,
        "acme".parse().unwrap(),
        session.parse().unwrap(),
        datetime!(2026-01-02 03:04:05.678 UTC),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_given_to_one_of_many_and_then_to_one_other() {
    for backend in backends().await {
        let (keys, tenant, name) = (
            KeyArchive::new(Arc::clone(&backend.storage)),
            TenantId::default(),
            HexDigest::of(b"key"),
        );
        let records: Vec<_> = (0..WRITERS)
            .map(|_| KeyRecord::new(JobId::new_now(), HexDigest::of(b"request")))
            .collect();
        let claims = join_all(records.iter().map(|record| keys.claim(&tenant, &name, record))).await;
        let claims: Vec<_> = claims.into_iter().map(Result::unwrap).collect();
        let ours = claims.iter().position(|claim| *claim == Claimed::Ours).unwrap();
        let mut version = None;
        for (index, claim) in claims.into_iter().enumerate() {
            match claim {
                Claimed::Ours => assert_eq!(index, ours, "{}", backend.name),
                Claimed::Theirs(theirs, at) => {
                    assert_eq!(theirs.job_id, records[ours].job_id, "{}", backend.name);
                    version = Some(at);
                }
            }
        }
        let version = version.unwrap();
        let records: Vec<_> = (0..WRITERS)
            .map(|_| KeyRecord::new(JobId::new_now(), HexDigest::of(b"request")))
            .collect();
        let given = records
            .iter()
            .map(|record| keys.give(&tenant, &name, record, version.clone()));
        let given = join_all(given).await.into_iter().map(Result::unwrap);
        assert_eq!(given.filter(|given| *given).count(), 1, "{}", backend.name);
        keys.forget(&tenant, &name).await.unwrap();
        assert_eq!(
            keys.claim(&tenant, &name, &records[0]).await.unwrap(),
            Claimed::Ours,
            "{}",
            backend.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_life_has_one_heir() {
    for backend in backends().await {
        let open = open_jobs(&backend);
        let gateway = GatewayId::new_now();
        let beat = SignOfLife::of_beat;
        let first = open.write_sign(&gateway, &beat(1), None).await.unwrap().unwrap();
        assert_eq!(open.write_sign(&gateway, &beat(9), None).await.unwrap(), None);
        let second = open
            .write_sign(&gateway, &beat(2), Some(first.clone()))
            .await
            .unwrap();
        assert_eq!(
            open.write_sign(&gateway, &beat(3), Some(first)).await.unwrap(),
            None
        );
        let heirs: Vec<_> = (0..WRITERS).map(|_| GatewayId::new_now()).collect();
        let claims = heirs.iter().map(|heir| {
            let (open, gateway, over) = (open.clone(), gateway.clone(), second.clone());
            let sign = beat(2).inherited_by(heir.clone());
            async move { open.write_sign(&gateway, &sign, over).await.unwrap().is_some() }
        });
        let won = join_all(claims).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{}", backend.name);
        let winner = won.iter().position(|won| *won).unwrap();
        let (sign, _) = open.sign(&gateway).await.unwrap().unwrap();
        assert_eq!(sign.heir.as_ref(), Some(&heirs[winner]), "{}", backend.name);
        open.remove_sign(&gateway).await.unwrap();
        assert_eq!(open.sign(&gateway).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_stand_with_their_gateway_until_they_are_removed() {
    for backend in backends().await {
        let open = open_jobs(&backend);
        let gateway = GatewayId::new_now();
        let mut jobs = [job("a"), job("b")];
        let version = open.write(&gateway, &jobs[0], None).await.unwrap().unwrap();
        jobs[0].sent = Some(Sent {
            worker: "http://w:1".to_owned(),
            attempt: 1,
            events_before: 2,
        });
        assert_eq!(open.write(&gateway, &jobs[0], None).await.unwrap(), None);
        assert!(
            open.write(&gateway, &jobs[0], Some(version))
                .await
                .unwrap()
                .is_some()
        );
        open.write(&gateway, &jobs[1], None).await.unwrap();
        let mut found: Vec<_> = open
            .of(&gateway)
            .await
            .unwrap()
            .into_iter()
            .map(Result::unwrap)
            .collect();
        found.sort_by(|one, other| one.session_id.cmp(&other.session_id));
        assert_eq!(found, jobs, "{}", backend.name);
        assert_eq!(open.gateways().await.unwrap(), std::slice::from_ref(&gateway));
        let (tenant, id) = (&jobs[0].tenant, &jobs[0].job_id);
        let found = open.find(tenant, id).await.unwrap();
        assert_eq!(
            found,
            Some((gateway.clone(), jobs[0].clone())),
            "{}",
            backend.name
        );
        assert_eq!(open.find(&TenantId::default(), id).await.unwrap(), None);
        for job in &jobs {
            open.remove(&gateway, &job.tenant, &job.job_id).await.unwrap();
        }
        assert_eq!(open.of(&gateway).await.unwrap().len(), 0, "{}", backend.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_of_another_format_is_told_apart() {
    for backend in backends().await {
        let open = open_jobs(&backend);
        let (gateway, job) = (GatewayId::new_now(), job("a"));
        open.write(&gateway, &job, None).await.unwrap();
        let key = format!("gateways/{gateway}/jobs/acme/{}.json", job.job_id)
            .parse()
            .unwrap();
        let newer = serde_json::to_string(&job)
            .unwrap()
            .replace("\"formatVersion\":1", "\"formatVersion\":2");
        for body in ["{", "", &newer] {
            let put = backend
                .storage
                .put(&key, body.as_bytes().to_vec().into(), Precondition::None);
            put.await.unwrap();
            let found = open.find(&job.tenant, &job.job_id).await;
            assert!(
                matches!(found, Err(OpenJobError::Damaged { .. })),
                "{}: {found:?}",
                backend.name
            );
            assert_eq!(open.of(&gateway).await.unwrap(), [Err(key.clone())]);
        }
        open.discard(&key).await.unwrap();
        assert_eq!(open.find(&job.tenant, &job.job_id).await.unwrap(), None);
    }
}
