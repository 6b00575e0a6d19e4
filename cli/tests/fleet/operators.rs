//! What operators see of a real fleet: metrics that Prometheus' tool takes, a document of the API that holds for every answer, and webhooks.

use std::path::Path;

use mayfly_testkit::process::Launch;
use mayfly_testkit::sse::http_client;
use mayfly_testkit::tools;
use serde_json::{Value, json};

use super::rig::{Rig, get, get_json};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];
/// A secret of 24 bytes.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Every request of a test with its answer, for the document's reader.
#[derive(Default)]
struct Recorder {
    base: String,
    exchanges: Vec<Value>,
}

impl Recorder {
    /// Asks for a path of this template, and gives the status, the job's id where there is one, and the body.
    async fn ask(
        &mut self,
        method: &str,
        template: &str,
        path: &str,
        request: Option<Value>,
    ) -> (u16, String, String) {
        let mut asked = http_client().request(method.parse().unwrap(), format!("{}{path}", self.base));
        if let Some(request) = &request {
            asked = asked.json(request);
        }
        self.record(method, template, asked, request).await
    }

    async fn get(&mut self, template: &str, path: &str) -> u16 {
        self.ask("GET", template, path, None).await.0
    }

    async fn record(
        &mut self,
        method: &str,
        template: &str,
        asked: reqwest::RequestBuilder,
        request: Option<Value>,
    ) -> (u16, String, String) {
        let answer = asked.send().await.unwrap();
        let status = answer.status().as_u16();
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (kind, job) = (header("content-type"), header("x-job-id"));
        let body = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
        let mut exchange = json!({"method": method, "template": template, "status": status, "contentType": kind, "body": body});
        // A request that is refused need not be what the document says.
        if let Some(request) = request.filter(|_| status < 400) {
            exchange["request"] = request;
        }
        self.exchanges.push(exchange);
        (status, job, body)
    }

    /// A job to its end; gives its id.
    async fn job(&mut self, path: &str, request: Value) -> String {
        let (status, job, body) = self.ask("POST", path, path, Some(request)).await;
        assert_eq!(status, 200, "{body}");
        job
    }
}

async fn jobs(rig: &Rig, recorder: &mut Recorder) -> String {
    let token = rig.host.token();
    // Nobody listens there: what was tried is in the log all the same.
    let mut clone = rig.clone_body("s");
    clone["callbackUrl"] = json!("https://127.0.0.1:9/hook");
    let cloned = recorder.job("/clone-repository", clone).await;
    let branch = json!({"sessionId": "s", "userRequest": "fix the login", "githubAccessToken": token});
    recorder.job("/create-branch", branch).await;
    let files = json!([{"path": "new.txt", "content": "x\n"}, {"path": "bin", "contentBase64": "AAE="}]);
    recorder
        .job("/apply-changes", json!({"sessionId": "s", "files": files}))
        .await;
    recorder.get("/sessions/{id}/diff", "/sessions/s/diff").await;
    recorder
        .get("/sessions/{id}/diff", "/sessions/s/diff?format=patch")
        .await;
    let commit =
        json!({"sessionId": "s", "githubAccessToken": token, "author": {"name": "A", "email": "a@b.c"}});
    recorder.job("/commit-and-push", commit).await;
    let code = json!({"operationType": "refactor", "description": "d", "repository": {"url": rig.host.url("app"), "branch": "main"},
        "organizationId": "o", "sessionId": "code", "approvalRequired": false});
    recorder.job("/code-operation", code).await;
    cloned
}

async fn routes(recorder: &mut Recorder, cloned: &str) {
    for path in [
        "/health",
        "/ready",
        "/status",
        "/workers",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/jobs",
        "/sessions",
    ] {
        assert_eq!(recorder.get(path, path).await, 200, "{path}");
    }
    for (template, path) in [
        ("/jobs", "/jobs?state=completed&limit=2"),
        ("/jobs/{id}", &format!("/jobs/{cloned}")),
        ("/jobs/{id}/events", &format!("/jobs/{cloned}/events")),
        ("/jobs/{id}/deliveries", &format!("/jobs/{cloned}/deliveries")),
        ("/sessions/{id}", "/sessions/s"),
        ("/sessions/{id}/files/{path}", "/sessions/s/files/new.txt"),
        ("/sessions/{id}/files/{path}", "/sessions/s/files/bin"),
        ("/sessions/{id}/archive", "/sessions/s/archive"),
    ] {
        assert_eq!(recorder.get(template, path).await, 200, "{path}");
    }
    // Refusals have one form.
    for (template, path) in [
        ("/jobs", "/jobs?limit=0"),
        ("/jobs/{id}", "/jobs/none"),
        ("/sessions/{id}", "/sessions/none"),
        ("/sessions/{id}/files/{path}", "/sessions/s/files/.git/config"),
    ] {
        assert!(recorder.get(template, path).await >= 400, "{path}");
    }
    let bad = json!({"sessionId": "s", "noSuchField": 1});
    recorder
        .ask("POST", "/create-branch", "/create-branch", Some(bad))
        .await;
    let cancel = format!("/jobs/{cloned}/cancel");
    recorder.ask("POST", "/jobs/{id}/cancel", &cancel, None).await;
    for method in ["PUT", "DELETE"] {
        recorder
            .ask(method, "/sessions/{id}/pin", "/sessions/s/pin", None)
            .await;
    }
    let all = format!("/jobs/{cloned}/events");
    let last = http_client()
        .get(format!("{}{all}", recorder.base))
        .header("last-event-id", last_event(&recorder.base, &all).await);
    let (status, ..) = recorder.record("GET", "/jobs/{id}/events", last, None).await;
    assert_eq!(status, 204);
    let body = json!({"sessionId": "t", "patch": "--- a/x\n"});
    let later = http_client()
        .post(format!("{}/apply-changes", recorder.base))
        .header("prefer", "respond-async")
        .json(&body);
    let (status, ..) = recorder.record("POST", "/apply-changes", later, Some(body)).await;
    assert_eq!(status, 202);
    recorder
        .ask("DELETE", "/sessions/{id}", "/sessions/s", None)
        .await;
}

async fn last_event(base: &str, path: &str) -> String {
    let text = get(base, path).await.text().await.unwrap();
    let id = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back();
    id.unwrap().to_owned()
}

/// `promtool check metrics`, which reads them as Prometheus does, and knows its rules for names.
async fn check_metrics(rig: &Rig, text: &str) {
    let file = rig.folder.path().join("metrics");
    std::fs::write(&file, text).unwrap();
    let mut promtool = Launch::new(tools::path("prometheus/promtool"))
        .args(["check", "metrics"])
        .stdin(&file)
        .start();
    let status = promtool.ended().await;
    let said = promtool.stdout() + &promtool.stderr();
    assert!(status.success() && said.is_empty(), "{said}\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_what_the_document_says_and_the_figures_are_those_of_the_jobs() {
    let rig = Rig::new();
    let mut up = rig
        .launch(UP)
        .env("WEBHOOK_SECRET", SECRET)
        .env("ALLOW_PRIVATE_WEBHOOK_HOSTS", "true")
        .env("WEBHOOK_ATTEMPTS", "1")
        .start();
    let line = up.line_on_stdout("listening on ").await;
    let mut recorder = Recorder {
        base: format!("http://{}", line.rsplit(' ').next().unwrap()),
        ..Recorder::default()
    };
    let cloned = jobs(&rig, &mut recorder).await;
    routes(&mut recorder, &cloned).await;

    let document = get_json(&recorder.base, "/openapi.json").await;
    let (document_file, exchanges_file) = (
        rig.folder.path().join("openapi.json"),
        rig.folder.path().join("exchanges.json"),
    );
    std::fs::write(&document_file, document.to_string()).unwrap();
    std::fs::write(&exchanges_file, Value::from(recorder.exchanges).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/check.py");
    let mut check = Launch::new(tools::path("openapi/bin/python"))
        .args([&script, &document_file, &exchanges_file])
        .start();
    let status = check.ended().await;
    assert!(status.success(), "{}{}", check.stdout(), check.stderr());

    let text = get(&recorder.base, "/metrics").await.text().await.unwrap();
    check_metrics(&rig, &text).await;
    let counted = |series: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series))
            .unwrap_or_default();
        value.trim().parse::<f64>().unwrap_or(0.0)
    };
    for series in [
        r#"mayfly_jobs_ended_total{kind="clone_repository",outcome="completed"}"#,
        r#"mayfly_jobs_ended_total{kind="code_operation",outcome="no_executor"}"#,
        r#"mayfly_job_storage_bytes_total{direction="written",kind="clone_repository"}"#,
        r#"mayfly_job_storage_bytes_total{direction="read",kind="commit_and_push"}"#,
        r#"mayfly_job_git_bytes_total{direction="received",kind="clone_repository"}"#,
        r#"mayfly_job_git_bytes_total{direction="sent",kind="commit_and_push"}"#,
        r#"mayfly_webhooks_total{state="failed"}"#,
    ] {
        assert!(counted(series) > 0.0, "{series}\n{text}");
    }
}
