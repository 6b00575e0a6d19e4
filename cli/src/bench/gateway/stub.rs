//! One stub worker: it speaks the worker's protocol by hand, does nothing, and is away for a while after each job, as a process that is started again.
//!
//! It takes one job, answers 429 while it has it, streams events, and closes its listener with the end of its stream.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mayfly_protocol::event::timestamp;
use mayfly_protocol::header;
use mayfly_telemetry::task;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Between two events of a job that is held.
pub(super) const HELD_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after the address could not be listened on.
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// Where the stub worker of this number listens. Each has an address of its own in 127.66.0.0/16, so that one port does for all.
pub(super) fn address(number: u32, port: u16) -> SocketAddr {
    let [_, _, high, low] = number.to_be_bytes();
    (Ipv4Addr::new(127, 66, high, low), port).into()
}

/// What every stub worker does with its job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// From the first event to the last; `None` for an event a second until all are told to end.
    pub(super) job: Option<Duration>,
    /// How long a worker is away after its job; with 0 it takes the next one at once.
    pub(super) restart: Duration,
}

/// What stub workers saw and said.
#[derive(Debug, Default)]
pub(super) struct Counters {
    taken: AtomicU64,
    refused: AtomicU64,
    events: AtomicU64,
    delivered: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Jobs that were begun.
    pub(super) taken: u64,
    /// Jobs that were answered with 429.
    pub(super) refused: u64,
    /// Events that were written, the terminal ones with them.
    pub(super) events: u64,
    /// Jobs whose terminal event was written.
    pub(super) delivered: u64,
}

impl Counters {
    pub(super) fn now(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            taken: get(&self.taken),
            refused: get(&self.refused),
            events: get(&self.events),
            delivered: get(&self.delivered),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One stub worker.
#[derive(Clone)]
pub(super) struct Stub {
    pub(super) number: u32,
    pub(super) address: SocketAddr,
    pub(super) plan: Plan,
    pub(super) counters: Arc<Counters>,
    /// Fires when jobs that are held are to end.
    pub(super) finish: CancellationToken,
}

/// A process between two restarts.
struct Life {
    has_job: AtomicBool,
    /// Fires when its one job is over.
    over: CancellationToken,
    /// Fires when the life ends, with all its connections.
    ended: CancellationToken,
}

impl Stub {
    /// Lives until it is dropped, which cuts all connections as a kill does.
    pub(super) async fn live(self, bound: Arc<AtomicU64>) {
        let tasks = TaskTracker::new();
        let mut is_first = true;
        loop {
            let Ok(listener) = TcpListener::bind(self.address).await else {
                sleep(BIND_PAUSE).await;
                continue;
            };
            if std::mem::take(&mut is_first) {
                count(&bound);
            }
            let life = Arc::new(Life {
                has_job: AtomicBool::new(false),
                over: CancellationToken::new(),
                ended: CancellationToken::new(),
            });
            let _cut = life.ended.clone().drop_guard();
            // Whether it was the job's end or an error of the listener: the next life begins.
            let _over = life
                .over
                .run_until_cancelled(self.accept(&listener, &life, &tasks))
                .await;
            drop(listener);
            sleep(self.plan.restart).await;
        }
    }

    async fn accept(&self, listener: &TcpListener, life: &Arc<Life>, tasks: &TaskTracker) {
        while let Ok((socket, _)) = listener.accept().await {
            let (stub, life) = (self.clone(), Arc::clone(life));
            task::spawn(tasks, async move {
                // A client that breaks off is its own affair.
                let _answered = life.ended.run_until_cancelled(stub.answer(socket, &life)).await;
            });
        }
    }

    async fn answer(&self, mut socket: TcpStream, life: &Life) -> anyhow::Result<()> {
        socket.set_nodelay(true)?;
        // As a worker does, it listens on after it was asked for its status.
        let request = loop {
            let request = Request::read(&mut socket).await?;
            if request.method == "POST" && !request.path.starts_with("/jobs/") {
                break request;
            }
            respond(&mut socket, "200 OK", "", &self.status(life)).await?;
        };
        if life.has_job.swap(true, Ordering::AcqRel) {
            count(&self.counters.refused);
            let body = json!({"error": "this worker has its job", "code": "worker_busy", "retryable": true, "retryAfter": 1});
            respond(
                &mut socket,
                "429 Too Many Requests",
                "Retry-After: 1\r\nConnection: close\r\n",
                &body.to_string(),
            )
            .await?;
            return Ok(socket.shutdown().await?);
        }
        count(&self.counters.taken);
        let job = request.headers.get(header::JOB_ID).cloned();
        let job = job.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let mut stream = Stream {
            socket,
            job,
            number: self.number,
            events: 0,
            counters: &self.counters,
        };
        let done = self.work(&mut stream).await;
        if self.plan.restart.is_zero() {
            life.has_job.store(false, Ordering::Release);
        } else {
            life.over.cancel();
        }
        done
    }

    fn status(&self, life: &Life) -> String {
        let state = match life.has_job.load(Ordering::Acquire) {
            true => "busy",
            false => "idle",
        };
        json!({"status": "ok", "state": state, "source": "git-worker", "kinds": ["clone_repository"], "uptimeSeconds": 0})
            .to_string()
    }

    async fn work(&self, stream: &mut Stream<'_>) -> anyhow::Result<()> {
        stream.begin().await?;
        match self.plan.job {
            Some(time) => sleep(time).await,
            None => {
                let mut next = Instant::now();
                loop {
                    next += HELD_INTERVAL;
                    tokio::select! {
                        biased;
                        () = self.finish.cancelled() => break,
                        () = sleep_until(next) => stream.progress().await?,
                    }
                }
            }
        }
        stream.end().await
    }
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    /// Reads a request with its body, which is passed over.
    async fn read(socket: &mut TcpStream) -> anyhow::Result<Self> {
        let mut read = Vec::with_capacity(2048);
        let end = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            more(socket, &mut read).await?;
        };
        let head = std::str::from_utf8(&read[..end])?;
        let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = words.next().zip(words.next()).context("no request line")?;
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: BTreeMap<String, String> = fields.lines().filter_map(field).collect();
        let length: usize = match headers.get("content-length") {
            Some(length) => length.parse()?,
            None => 0,
        };
        while read.len() < end + length {
            more(socket, &mut read).await?;
        }
        Ok(Self {
            method,
            path,
            headers,
        })
    }
}

async fn more(socket: &mut TcpStream, read: &mut Vec<u8>) -> anyhow::Result<()> {
    ensure!(read.len() < MAX_REQUEST_BYTES, "the request is too large");
    ensure!(socket.read_buf(read).await? > 0, "the request broke off");
    Ok(())
}

async fn respond(socket: &mut TcpStream, status: &str, fields: &str, body: &str) -> anyhow::Result<()> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    );
    Ok(socket.write_all(answer.as_bytes()).await?)
}

/// The events of one job, one chunk each, as a worker sends them.
struct Stream<'a> {
    socket: TcpStream,
    job: String,
    number: u32,
    events: u64,
    counters: &'a Counters,
}

impl Stream<'_> {
    /// The head of the answer with the first event.
    async fn begin(&mut self) -> anyhow::Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n\
             X-Job-Id: {}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.job
        );
        let event = self.next_progress();
        self.write(format!("{head}{event}")).await
    }

    async fn progress(&mut self) -> anyhow::Result<()> {
        let event = self.next_progress();
        self.write(event).await
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        let data =
            json!({"sessionId": "bench", "generation": 1, "worker": self.number, "events": self.events + 1});
        let body = format!(r#""type":"completed","data":{data}"#);
        let event = self.next(&body);
        self.write(event + "0\r\n\r\n").await?;
        count(&self.counters.delivered);
        Ok(self.socket.shutdown().await?)
    }

    fn next_progress(&mut self) -> String {
        let (number, done) = (self.number, self.events + 1);
        let body = format!(
            r#""type":"progress","stage":"cloning","message":"Worker {number} receives objects...","progress":{{"done":{done},"total":1000000,"unit":"objects"}}"#
        );
        self.next(&body)
    }

    /// The next event as a chunk.
    fn next(&mut self, body: &str) -> String {
        self.events += 1;
        let (id, job) = (self.events, &self.job);
        let at = timestamp::format(OffsetDateTime::now_utc());
        let frame = format!(
            "id: {id}\ndata: {{{body},\"source\":\"git-worker\",\"timestamp\":\"{at}\",\"jobId\":\"{job}\"}}\n\n"
        );
        format!("{:x}\r\n{frame}\r\n", frame.len())
    }

    async fn write(&mut self, text: String) -> anyhow::Result<()> {
        self.socket.write_all(text.as_bytes()).await?;
        count(&self.counters.events);
        Ok(())
    }
}
