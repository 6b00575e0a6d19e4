//! A client of the gateway, as a service would be one: it posts a job, reads its stream, and takes it up again where it broke off.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mayfly_sse::{Decoded, Decoder};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Response};

/// How long a stream is looked for that broke off, before the job is given up.
const LOOKING: Duration = Duration::from_secs(40);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(30);
/// A stream is taken up anew after so long, whatever it does.
const BODY: Duration = Duration::from_secs(120);

/// How a job went, as its client saw it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The job's id, where the gateway gave one.
    pub(super) id: Option<String>,
    /// `completed.data`, or nothing.
    pub(super) data: Option<Value>,
    /// The code of the error or of the refusal; `lost` where no end of the job is to be found, `unreachable` where it never began.
    pub(super) code: Option<String>,
    /// Whether the code's own words allow to send the request again.
    pub(super) is_retryable: bool,
    /// Terminal events that were seen.
    pub(super) terminals: usize,
    /// Until the first `dispatched`.
    pub(super) waited: Option<Duration>,
    /// From the last `dispatched` to the end.
    pub(super) ran: Option<Duration>,
    /// Events `retrying` that begin a new attempt, since a worker was lost.
    pub(super) attempts: usize,
    /// Events `retrying` of the other sort: a worker took nothing, and the job is offered to another.
    pub(super) refusals: usize,
    /// Connections beyond the first.
    pub(super) reconnects: usize,
    /// The longest time without a byte while the job was not over.
    pub(super) silence: Duration,
    last_event_id: Option<String>,
    dispatched_at: Option<Instant>,
}

/// Speaks to one gateway with one key, which changes for all clones at once.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: Agent,
    base: String,
    key: Arc<Mutex<String>>,
}

impl Client {
    pub(super) fn new(base: String, key: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(HEAD))
            .timeout_recv_body(Some(BODY))
            // A connection that is kept may have broken with its gateway.
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.into(),
            base,
            key: Arc::new(Mutex::new(key.to_owned())),
        }
    }

    /// From now on, another key.
    pub(super) fn change_key(&self, key: &str) {
        key.clone_into(&mut self.key.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn authorization(&self) -> String {
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        format!("Bearer {key}")
    }

    /// Reads a JSON answer; its status and its body.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let (status, text) = self.read(path)?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// How many git workers the gateway knows, in one state or in any.
    pub(super) fn git_workers(&self, state: &str) -> usize {
        let Ok((200, list)) = self.get("/workers") else {
            return 0;
        };
        let workers = list["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fits = |worker: &&Value| {
            worker["kind"] == "git-worker" && (state.is_empty() || worker["state"] == state)
        };
        workers.iter().filter(fits).count()
    }

    /// Reads a file of a session.
    pub(super) fn text(&self, path: &str) -> anyhow::Result<String> {
        let (status, text) = self.read(path)?;
        anyhow::ensure!(status == 200, "{path}: {status}");
        Ok(text)
    }

    fn read(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("authorization", self.authorization())
            .call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    /// Posts a job under an idempotency key and follows it to its end.
    pub(super) fn job(&self, path: &str, body: &Value, key: &str) -> Seen {
        let begun = Instant::now();
        let mut seen = Seen::default();
        let posted = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", self.authorization())
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .send(body.to_string());
        let Ok(answer) = posted else {
            seen.refuse("unreachable", true);
            return seen;
        };
        if answer.status() != 200 {
            seen.take_refusal(answer);
            return seen;
        }
        seen.id = text_of(answer.headers(), "x-job-id");
        let mut last_byte = begun;
        seen.read(answer, begun, &mut last_byte);
        self.take_up(&mut seen, begun, &mut last_byte);
        seen
    }

    /// Connects again and again until the stream has ended.
    fn take_up(&self, seen: &mut Seen, begun: Instant, last_byte: &mut Instant) {
        let Some(id) = seen.id.clone() else {
            seen.refuse("unreachable", true);
            return;
        };
        let path = format!("{}/jobs/{id}/events", self.base);
        let mut broken = Instant::now();
        while seen.terminals == 0 {
            if broken.elapsed() > LOOKING {
                seen.refuse("lost", true);
                return;
            }
            let mut request = self
                .agent
                .get(&path)
                .header("authorization", self.authorization());
            if let Some(last) = &seen.last_event_id {
                request = request.header("last-event-id", last);
            }
            match request.call() {
                Ok(answer) if answer.status() == 200 => {
                    seen.reconnects += 1;
                    seen.read(answer, begun, last_byte);
                    broken = Instant::now();
                }
                _ => sleep(BETWEEN_LOOKS),
            }
        }
    }

    /// How many terminal events the whole stream of a job has; nothing where the job is not found.
    pub(super) fn terminals(&self, id: &str) -> anyhow::Result<Option<usize>> {
        let answer = self
            .agent
            .get(format!("{}/jobs/{id}/events", self.base))
            .header("authorization", self.authorization())
            .call()?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let mut seen = Seen::default();
        let now = Instant::now();
        seen.read(answer, now, &mut now.clone());
        Ok(Some(seen.terminals))
    }
}

impl Seen {
    fn refuse(&mut self, code: &str, is_retryable: bool) {
        self.code = Some(code.to_owned());
        self.is_retryable = is_retryable;
    }

    fn take_refusal(&mut self, mut answer: Response<ureq::Body>) {
        // A balancer's own word, when the gateway was lost before it answered: as good as a connection that broke.
        let is_lost = matches!(answer.status().as_u16(), 502 | 504);
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        match body["code"].as_str() {
            None if is_lost => self.refuse("unreachable", true),
            code => self.refuse(code.unwrap_or("unknown"), body["retryable"] == true),
        }
    }

    /// Reads a stream until it ends or breaks off.
    fn read(&mut self, answer: Response<ureq::Body>, begun: Instant, last_byte: &mut Instant) {
        let mut decoder = Decoder::default();
        let mut reader = answer.into_body().into_reader();
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            self.silence = self.silence.max(last_byte.elapsed());
            *last_byte = Instant::now();
            for decoded in decoder.push(&buffer[..count]).unwrap_or_default() {
                if let Decoded::Message { id, data, .. } = decoded {
                    self.last_event_id = id;
                    self.take_event(&data, begun);
                }
            }
        }
    }

    fn take_event(&mut self, data: &[u8], begun: Instant) {
        let event: Value = serde_json::from_slice(data).unwrap_or_default();
        match (event["type"].as_str(), event["stage"].as_str()) {
            (Some("completed"), _) => {
                self.data = Some(event["data"].clone());
                self.end();
            }
            (Some("error"), _) => {
                let code = event["code"].as_str().unwrap_or("unknown");
                self.refuse(code, event["retryable"] == true);
                self.end();
            }
            (_, Some("dispatched")) => {
                self.waited.get_or_insert_with(|| begun.elapsed());
                self.dispatched_at = Some(Instant::now());
            }
            (_, Some("retrying")) if event["detail"]["attempt"].is_u64() => self.attempts += 1,
            (_, Some("retrying")) => self.refusals += 1,
            _ => {}
        }
    }

    fn end(&mut self) {
        self.terminals += 1;
        self.ran = self.dispatched_at.map(|at| at.elapsed());
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
