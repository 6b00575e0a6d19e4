//! Several gateways that have more in common than a storage: over what gateways of one process share, and over a real Redis.

mod cases;
mod lost_redis;

use std::sync::Arc;
use std::time::Duration;

use mayfly_coordination::{
    Coordination, Lifetimes, MemoryBoard, MemoryCoordination, RedisCoordination, RedisSettings,
};
use mayfly_gateway::{GatewayConfig, SessionsConfig, WaitingJobsKeys};
use mayfly_storage::ObjectStore;
use mayfly_testkit::https::TestCa;
use mayfly_testkit::redis::Redis;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::gateway::TestGateway;
use crate::leaving::{memory as storage, shared};
use crate::real_worker::{RealWorker, start_keeping};

/// What bodies of waiting jobs are sealed with.
const KEY: &str = "0123456789abcdef0123456789abcdef";

enum Common {
    Memory(Arc<MemoryBoard>),
    Redis(Redis),
}

/// A fleet in which any number of gateways share everything.
pub(crate) struct Fleet {
    common: Common,
    storage: Arc<dyn ObjectStore>,
    workers: Vec<RealWorker>,
    tmp: TempDir,
}

async fn memory() -> Fleet {
    Fleet::of(Common::Memory(MemoryBoard::new(Lifetimes::default()))).await
}

async fn redis() -> Fleet {
    Fleet::of(Common::Redis(block_in_place(Redis::start))).await
}

impl Fleet {
    async fn of(common: Common) -> Self {
        let storage = storage();
        let workers = vec![
            start_keeping(&storage).await,
            start_keeping(&storage).await,
            start_keeping(&storage).await,
        ];
        Self {
            common,
            storage,
            workers,
            tmp: TempDir::new().unwrap(),
        }
    }

    async fn coordination(&self) -> Arc<dyn Coordination> {
        match &self.common {
            Common::Memory(board) => Arc::new(MemoryCoordination::of(board)),
            Common::Redis(redis) => {
                let settings = RedisSettings {
                    url: redis.url().parse().unwrap(),
                    tls: TestCa::new().client_config(),
                    prefix: "it".to_owned(),
                    timeout: Duration::from_millis(500),
                    interval: Duration::from_millis(20),
                    lifetimes: Lifetimes::default(),
                };
                Arc::new(RedisCoordination::open(settings).await.unwrap())
            }
        }
    }

    /// A gateway that gives jobs to these workers.
    pub(crate) async fn gateway(&self, workers: &[usize]) -> TestGateway {
        let workers: Vec<&RealWorker> = workers.iter().map(|index| &self.workers[*index]).collect();
        let config = GatewayConfig {
            coordination: Some(self.coordination().await),
            waiting_jobs_keys: Some(WaitingJobsKeys::parse(&KEY.into()).unwrap()),
            job_attempts: 3,
            cancel_timeout: Duration::from_secs(10),
            sessions: Some(SessionsConfig::new(
                Arc::clone(&self.storage),
                self.tmp.path().to_owned(),
            )),
            ..shared(&self.storage, &workers)
        };
        let gateway = TestGateway::start(config).await;
        gateway
            .wait_for("/ready", |ready| ready["coordination"]["ready"] == true)
            .await;
        gateway
    }

    /// Lets a job of this gateway go on to its end, at whichever worker it is.
    pub(crate) async fn go_on(&self, gateway: &TestGateway, job: &str) {
        let path = format!("/jobs/{job}");
        let view = gateway
            .wait_for(&path, |view| {
                view["state"] == "running" && view["worker"].is_string()
            })
            .await;
        let has_it = |worker: &&RealWorker| view["worker"] == worker.url.to_string();
        let worker = self.workers.iter().find(has_it).unwrap();
        worker.runner.go_on.notify_one();
    }

    fn redis(&mut self) -> &mut Redis {
        match &mut self.common {
            Common::Redis(redis) => redis,
            Common::Memory(_) => unreachable!("this test is about Redis"),
        }
    }
}

macro_rules! suite {
    ($($backend:ident)*) => {
        $(mod $backend {
            suite! { @ $backend
                jobs_of_a_session_run_in_the_order_in_which_they_came_to_any_gateway
                every_gateway_streams_all_events_as_they_come
                every_gateway_shows_and_lists_jobs_as_they_stand
                a_waiting_job_is_cancelled_at_any_gateway
                a_running_job_is_cancelled_at_any_gateway
                a_key_is_one_job_at_all_gateways
                a_gateway_that_ends_takes_no_running_job_with_it
                a_job_whose_gateway_and_worker_are_lost_is_repeated_by_another_gateway
                a_job_that_others_can_begin_is_sent_to_no_worker_before_that_is_noted
                a_session_with_a_job_at_another_gateway_is_not_deleted
            }
        })*
    };
    (@ $backend:ident $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::coordinated::cases::$case(crate::coordinated::$backend().await).await;
            }
        )*
    };
}

suite! { memory redis }
