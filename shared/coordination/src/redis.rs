//! Redis as what gateways share: lists with the order of sessions, a stream for each job, and one channel on which changes are called out.
//!
//! Each operation is one script, so that no two gateways see half of it. Scripts name keys that they find in values, which a cluster of Redis would
//! refuse: this is for one Redis (or one that others stand by for). Times are those of Redis' own clock.

mod connection;
mod scripts;
mod url;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_protocol::{SessionId, TenantId};
use redis::{Cmd, FromRedisValue, RedisResult, ScriptInvocation, Value};
use rustls::ClientConfig;
use tokio::sync::broadcast;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::port::{
    Change, Coordination, InLine, JobRef, Lifetimes, Lined, News, Numbered, Owner, RECORDS_KEPT, Unavailable,
};
pub use connection::RedisOpenError;
use connection::{Line, Link};
use scripts::Scripts;
pub use url::{InvalidRedisUrl, RedisUrl};

/// Events that are read with one question.
const EVENTS_AT_ONCE: usize = 256;

/// How a Redis is reached and used.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where it is, with its password.
    pub url: RedisUrl,
    /// What `rediss://` trusts.
    pub tls: Arc<ClientConfig>,
    /// What every key and the channel begin with: fleets that share a Redis have one each.
    pub prefix: String,
    /// How long one operation may take, and each step of a connection.
    pub timeout: Duration,
    /// The pause before a connection is tried again, and between two looks at whether a silent one is alive.
    pub interval: Duration,
    /// How long things stay that nobody tells again.
    pub lifetimes: Lifetimes,
}

/// A gateway's end of a Redis.
#[derive(Debug)]
pub struct RedisCoordination {
    link: Link,
    scripts: Scripts,
    keys: Keys,
    timeout: Duration,
    lifetimes: Lifetimes,
}

/// The names of things. Those of one tenant have it between braces.
#[derive(Debug)]
struct Keys {
    prefix: String,
}

impl Keys {
    fn channel(&self) -> String {
        format!("{}:changes", self.prefix)
    }

    fn owners(&self) -> String {
        format!("{}:gateway:", self.prefix)
    }

    fn owner(&self, owner: &Owner) -> String {
        format!("{}{}", self.owners(), owner.as_str())
    }

    fn line(&self, tenant: &TenantId, session: &SessionId) -> String {
        format!("{}:{{{tenant}}}:line:{session}", self.prefix)
    }

    fn line_owners(&self, tenant: &TenantId, session: &SessionId) -> String {
        format!("{}:{{{tenant}}}:owners:{session}", self.prefix)
    }

    fn events(&self, job: &JobRef) -> String {
        format!("{}:{{{}}}:events:{}", self.prefix, job.tenant, job.job)
    }

    fn records(&self, tenant: &TenantId) -> String {
        format!("{}:{{{tenant}}}:record:", self.prefix)
    }

    fn record(&self, job: &JobRef) -> String {
        format!("{}{}", self.records(&job.tenant), job.job)
    }

    fn shelter(&self, job: &JobRef) -> String {
        format!("{}:{{{}}}:shelter:{}", self.prefix, job.tenant, job.job)
    }

    fn list(&self, tenant: &TenantId) -> String {
        format!("{}:{{{tenant}}}:jobs", self.prefix)
    }
}

impl RedisCoordination {
    /// Tries whether the Redis can be reached and takes the password. One that is only not there (yet) is no error: it is waited for by
    /// [`Coordination::run`].
    pub async fn open(settings: RedisSettings) -> Result<Self, RedisOpenError> {
        let keys = Keys {
            prefix: settings.prefix.clone(),
        };
        let coordination = Self {
            link: Link::new(&settings, keys.channel()),
            scripts: Scripts::default(),
            keys,
            timeout: settings.timeout,
            lifetimes: settings.lifetimes,
        };
        coordination.link.try_once().await?;
        Ok(coordination)
    }

    async fn invoke<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Unavailable> {
        let mut line = self.link.line()?;
        let asked = timeout(self.timeout, script.invoke_async(&mut line.operations));
        let answer = asked.await;
        self.answer(&line, answer)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unavailable> {
        let mut line = self.link.line()?;
        let asked = timeout(self.timeout, command.query_async(&mut line.operations));
        let answer = asked.await;
        self.answer(&line, answer)
    }

    /// The answer, if it came in time. A connection that failed is made anew, since nobody knows what comes next on it.
    fn answer<T>(&self, line: &Line, answer: Result<RedisResult<T>, Elapsed>) -> Result<T, Unavailable> {
        let failure = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Unavailable::Failed(connection::in_short(&error)),
            Err(_) => Unavailable::Late,
        };
        self.link.failed(line, &failure);
        Err(failure)
    }
}

#[async_trait]
impl Coordination for RedisCoordination {
    async fn beat(&self, owner: &Owner) -> Result<(), Unavailable> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.owner(owner))
            .arg(1)
            .arg("PX")
            .arg(millis(self.lifetimes.owner));
        self.ask(&set).await
    }

    async fn line_up(&self, owner: &Owner, place: &InLine) -> Result<Lined, Unavailable> {
        let JobRef { tenant, job } = &place.job;
        let mut script = self.scripts.line_up.key(self.keys.line(tenant, &place.session));
        script
            .key(self.keys.line_owners(tenant, &place.session))
            .arg(self.keys.owners())
            .arg(job.as_str())
            .arg(owner.as_str())
            .arg(place.since.map(|since| since.to_string()).unwrap_or_default())
            .arg(millis(self.lifetimes.owner))
            .arg(millis(self.lifetimes.job));
        let (since, is_first, is_new): (u64, bool, bool) = self.invoke(&script).await?;
        Ok(Lined {
            since,
            is_first,
            is_new,
        })
    }

    async fn leave(&self, owner: &Owner, place: &InLine) -> Result<(), Unavailable> {
        let JobRef { tenant, job } = &place.job;
        let mut script = self.scripts.leave.key(self.keys.line(tenant, &place.session));
        script
            .key(self.keys.line_owners(tenant, &place.session))
            .arg(job.as_str())
            .arg(owner.as_str())
            .arg(self.keys.channel())
            .arg(tenant.as_str());
        self.invoke(&script).await
    }

    async fn is_busy(&self, tenant: &TenantId, session: &SessionId) -> Result<bool, Unavailable> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.keys.line(tenant, session));
        self.ask(&exists).await
    }

    async fn publish(&self, job: &JobRef, news: &News<'_>) -> Result<u64, Unavailable> {
        let mut script = self.scripts.publish.key(self.keys.events(job));
        script
            .key(self.keys.record(job))
            .key(self.keys.list(&job.tenant))
            .arg(self.keys.channel())
            .arg(job.tenant.as_str())
            .arg(job.job.as_str())
            .arg(news.record)
            .arg(news.accepted_ms)
            .arg(RECORDS_KEPT)
            .arg(millis(self.lifetimes.job))
            .arg(news.after);
        for (id, event) in news.events {
            script.arg(id).arg(event.as_ref());
        }
        self.invoke(&script).await
    }

    async fn events(&self, job: &JobRef, after: u64) -> Result<Vec<Numbered>, Unavailable> {
        let mut range = redis::cmd("XRANGE");
        range
            .arg(self.keys.events(job))
            .arg(format!("({after}-0"))
            .arg("+")
            .arg("COUNT")
            .arg(EVENTS_AT_ONCE);
        let entries: Vec<(String, Vec<Vec<u8>>)> = self.ask(&range).await?;
        let numbered = entries.into_iter().map(|(id, fields)| {
            let number = id.split('-').next().and_then(|number| number.parse().ok());
            let event = fields.into_iter().nth(1);
            number
                .zip(event.map(Bytes::from))
                .ok_or_else(|| Unavailable::Failed("an event has another form than was written".to_owned()))
        });
        numbered.collect()
    }

    async fn record(&self, job: &JobRef) -> Result<Option<Bytes>, Unavailable> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.record(job));
        let found: Option<Vec<u8>> = self.ask(&get).await?;
        Ok(found.map(Bytes::from))
    }

    async fn records(&self, tenant: &TenantId) -> Result<Vec<Bytes>, Unavailable> {
        let mut script = self.scripts.records.key(self.keys.list(tenant));
        script.arg(self.keys.records(tenant)).arg(RECORDS_KEPT);
        let found: Vec<Vec<u8>> = self.invoke(&script).await?;
        Ok(found.into_iter().map(Bytes::from).collect())
    }

    async fn shelter(&self, job: &JobRef, what: &[u8], keep_for: Duration) -> Result<(), Unavailable> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.shelter(job))
            .arg(what)
            .arg("PX")
            .arg(millis(keep_for));
        self.ask(&set).await
    }

    async fn take_shelter(&self, job: &JobRef) -> Result<Option<Bytes>, Unavailable> {
        let mut take = redis::cmd("GETDEL");
        take.arg(self.keys.shelter(job));
        let found: Option<Vec<u8>> = self.ask(&take).await?;
        Ok(found.map(Bytes::from))
    }

    async fn ask_to_cancel(&self, job: &JobRef) -> Result<(), Unavailable> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys.channel()).arg(format!("cancel {job}"));
        let _heard: Value = self.ask(&publish).await?;
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.link.changes()
    }

    fn is_available(&self) -> bool {
        self.link.line().is_ok()
    }

    async fn run(&self) {
        self.link.run().await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
