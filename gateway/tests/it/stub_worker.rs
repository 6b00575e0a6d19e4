//! A worker that does as it is told, byte for byte: real workers do not die, lie or fall silent when asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_gateway::WorkerUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a stub does with a connection on which it has said that it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It closes the connection, as it has said.
    Closes,
    /// It listens.
    Listens,
    /// It closes the connection without a word.
    HangsUp,
    /// It says something that nobody asked for.
    Babbles,
    /// It is not idle: its process ends.
    Ends,
}

impl Afterwards {
    fn status(self) -> &'static [u8] {
        match self {
            Self::Closes => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\nconnection: close\r\n\r\n{\"state\":\"idle\"}"
            }
            Self::Listens | Self::HangsUp | Self::Babbles => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"state\":\"idle\"}"
            }
            Self::Ends => {
                b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
        }
    }
}

/// What a stub does with one request, after it has read it whole.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A refusal with this status and code.
    Refuse(u16, &'static str),
    /// These bytes, and then the connection is closed.
    Raw(&'static [u8]),
    /// A stream of these parts, and then the connection is closed.
    Stream(Vec<Part>),
    /// Nothing at all, for ever.
    Hang,
    /// The connection is closed without a byte.
    Close,
}

/// A part of a stream.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A progress event of this stage.
    Progress(&'static str),
    /// A `completed` event.
    Completed,
    /// An `error` event with this code.
    Failed(&'static str),
    /// A heartbeat.
    Comment,
    /// These bytes; `JOB` stands for the job's id.
    Raw(String),
    /// Waits for [`StubWorker::go_on`].
    Wait,
    /// Says nothing more, and keeps the connection.
    Silence,
    /// Progress without end.
    Flood,
}

/// A request as the stub saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// On which connection, counted from 1.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

struct Shared {
    script: Mutex<Vec<Act>>,
    last: Act,
    seen: Mutex<Vec<Seen>>,
    go_on: Notify,
    beats: AtomicUsize,
    cancels: Mutex<Vec<Seen>>,
    afterwards: Mutex<Afterwards>,
    /// Connections that the gateway has closed after it was told that the stub is idle.
    left: AtomicUsize,
}

pub(crate) struct StubWorker {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for StubWorker {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl StubWorker {
    /// Does these in turn, and then the last one again and again.
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, acts)
    }

    pub(crate) fn on(listener: TcpListener, mut acts: Vec<Act>) -> Self {
        let address = listener.local_addr().unwrap();
        acts.reverse();
        let shared = Arc::new(Shared {
            last: acts[0].clone(),
            script: Mutex::new(acts),
            seen: Mutex::default(),
            go_on: Notify::new(),
            beats: AtomicUsize::new(0),
            cancels: Mutex::default(),
            afterwards: Mutex::new(Afterwards::Closes),
            left: AtomicUsize::new(0),
        });
        let accepting = spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    pub(crate) async fn completing() -> Self {
        Self::start(vec![completing()]).await
    }

    pub(crate) fn url(&self) -> WorkerUrl {
        self.address.into()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The requests to cancel a job, each of which was answered 202.
    pub(crate) fn cancels(&self) -> Vec<Seen> {
        self.shared.cancels.lock().unwrap().clone()
    }

    /// Heartbeats sent so far, one each 50 ms of waiting.
    pub(crate) fn beats(&self) -> usize {
        self.shared.beats.load(Ordering::Relaxed)
    }

    /// Has it do this once it has said that it is idle.
    pub(crate) fn afterwards(&self, afterwards: Afterwards) {
        *self.shared.afterwards.lock().unwrap() = afterwards;
    }

    /// Connections that the gateway has closed after it was told that the stub is idle.
    pub(crate) fn left(&self) -> usize {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// Lets one [`Part::Wait`] pass, now or later.
    pub(crate) fn go_on(&self) {
        self.shared.go_on.notify_one();
    }
}

pub(crate) fn completing() -> Act {
    Act::Stream(vec![Part::Progress("preparing"), Part::Completed])
}

pub(crate) fn waiting() -> Act {
    Act::Stream(vec![Part::Progress("preparing"), Part::Wait, Part::Completed])
}

pub(crate) fn busy() -> Act {
    Act::Refuse(429, "worker_busy")
}

#[expect(clippy::disallowed_methods, reason = "a stub outside the gateway")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(future)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    for number in 1.. {
        let (socket, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        spawn(async move {
            // A gateway that closes the connection early ends the stub's work.
            let _ = serve(socket, number, &shared).await;
        });
    }
}

async fn serve(mut socket: TcpStream, connection: usize, shared: &Shared) -> std::io::Result<()> {
    let seen = loop {
        let seen = read_request(&mut socket, connection).await?;
        if !seen.head.starts_with("GET /status ") {
            break seen;
        }
        let afterwards = *shared.afterwards.lock().unwrap();
        socket.write_all(afterwards.status()).await?;
        match afterwards {
            Afterwards::Listens => continue,
            Afterwards::Closes | Afterwards::HangsUp | Afterwards::Ends => socket.shutdown().await?,
            Afterwards::Babbles => socket.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await?,
        }
        while socket.read(&mut [0; 1024]).await? > 0 {}
        shared.left.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    };
    if seen.head.starts_with("POST /jobs/") {
        shared.cancels.lock().unwrap().push(seen);
        return socket
            .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    }
    let job = seen.header("x-job-id").unwrap_or_default().to_owned();
    shared.seen.lock().unwrap().push(seen);
    let act = shared
        .script
        .lock()
        .unwrap()
        .pop()
        .unwrap_or_else(|| shared.last.clone());
    match act {
        Act::Refuse(status, code) => {
            let body = format!(r#"{{"error":"refused by the stub","code":"{code}","retryable":true}}"#);
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all((head + &body).as_bytes()).await?;
        }
        Act::Raw(bytes) => socket.write_all(bytes).await?,
        Act::Stream(parts) => stream(&mut socket, &job, parts, shared).await?,
        Act::Hang => std::future::pending().await,
        Act::Close => {}
    }
    socket.shutdown().await?;
    // Until the gateway closes its side, so that no reset overtakes the answer.
    while socket.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

async fn read_request(socket: &mut TcpStream, connection: usize) -> std::io::Result<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end + 4);
    let seen = Seen {
        head: String::from_utf8(bytes).unwrap(),
        body: Vec::new(),
        connection,
    };
    let length: usize = seen
        .header("content-length")
        .unwrap_or("0")
        .trim()
        .parse()
        .unwrap();
    while body.len() < length {
        if socket.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Seen { body, ..seen })
}

async fn stream(socket: &mut TcpStream, job: &str, parts: Vec<Part>, shared: &Shared) -> std::io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    for (index, part) in parts.into_iter().enumerate() {
        let id = index + 41;
        let text = match part {
            Part::Progress(stage) => event(
                id,
                job,
                &format!(r#""type":"progress","stage":"{stage}","message":"m""#),
            ),
            Part::Completed => event(id, job, r#""type":"completed","data":{"answer":42}"#),
            Part::Failed(code) => event(
                id,
                job,
                &format!(r#""type":"error","error":"e","code":"{code}","retryable":false"#),
            ),
            Part::Comment => ": keep-alive\n\n".to_owned(),
            Part::Raw(text) => text.replace("JOB", job),
            Part::Wait => {
                wait(socket, shared).await?;
                continue;
            }
            Part::Silence => std::future::pending().await,
            Part::Flood => loop {
                let text = event(id, job, r#""type":"progress","stage":"cloning","message":"m""#);
                socket.write_all(text.as_bytes()).await?;
            },
        };
        socket.write_all(text.as_bytes()).await?;
    }
    Ok(())
}

/// Waits with heartbeats, as a worker does.
async fn wait(socket: &mut TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut gone = [0; 1];
    loop {
        tokio::select! {
            () = shared.go_on.notified() => return Ok(()),
            _ = beat.tick() => {
                socket.write_all(b": keep-alive\n\n").await?;
                shared.beats.fetch_add(1, Ordering::Relaxed);
            }
            read = socket.read(&mut gone) => {
                if read? == 0 {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
            }
        }
    }
}

/// An event in the stub's own spelling, which the gateway must not change.
fn event(id: usize, job: &str, fields: &str) -> String {
    format!("id: {id}\ndata: {}\n\n", data(job, fields))
}

pub(crate) fn data(job: &str, fields: &str) -> String {
    format!(
        r#"{{ {fields}, "unknown" : [1.0,"ä"],"source":"git-worker","timestamp":"2026-01-02T03:04:05.678Z", "jobId":"{job}"}}"#
    )
}
