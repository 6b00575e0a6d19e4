//! Names by a real LLM server over real HTTP: what it answers, how it fails, and what it is sent.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod aimock;
mod rogue;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aimock::{Aimock, KEY, client};
use mayfly_http::Url;
use mayfly_naming::{
    BranchRequest, ChangeSummary, ChangedFile, FileChangeKind, LlmConfig, NameSource, Named, Namer, Provider,
};
use mayfly_protocol::{BranchName, SecretString};
use rogue::{Manner, Rogue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PROVIDERS: [Provider; 2] = [Provider::Anthropic, Provider::OpenAi];

fn llm(provider: Provider, url: &Url) -> LlmConfig {
    let mut config = LlmConfig::new(provider, url.clone(), "a-model");
    config.api_key = Some(SecretString::from(KEY));
    config.retry_delay = Duration::from_millis(10);
    config
}

fn namer(config: LlmConfig) -> Namer {
    Namer::new(client(), Some(config))
}

async fn branch(namer: &Namer, user_request: &str, taken: &[BranchName]) -> Named<BranchName> {
    let request = BranchRequest { user_request, taken };
    namer.branch_name(&request, None, &CancellationToken::new()).await
}

async fn message(namer: &Namer, path: &str) -> Named<String> {
    namer
        .commit_message(&change(path), None, &CancellationToken::new())
        .await
}

fn change(path: &str) -> ChangeSummary {
    let file = ChangedFile {
        path: path.to_owned(),
        kind: FileChangeKind::Added,
        insertions: 1,
        deletions: 0,
        binary: false,
        text: Some("@@ -0,0 +1 @@\n+x\n".to_owned()),
    };
    ChangeSummary {
        files: vec![file],
        omitted_files: 12,
        omitted_bytes: 340_000,
        insertions: 1,
        deletions: 0,
    }
}

fn says(question: &str, content: &str) -> Value {
    json!({"match": {"userMessage": question}, "response": {"content": content}})
}

fn fails(question: &str, status: u16) -> Value {
    json!({"match": {"userMessage": question}, "response": {"error": {"message": KEY, "type": "api_error"}, "status": status}})
}

fn reason<T>(named: &Named<T>) -> &str {
    assert_eq!(named.source, NameSource::Heuristic);
    named.fallback_reason.as_deref().unwrap()
}

#[tokio::test]
async fn good_answers_become_names() {
    let server = Aimock::start(&[
        says("dark mode", "`feature/dark-mode-toggle`\n"),
        says(
            "src/theme.ts",
            "feat(theme): add dark mode\n\nBody.\n\nCo-authored-by: Mallory <m@x>",
        ),
    ]);
    for provider in PROVIDERS {
        let namer = namer(llm(provider, &server.url));
        let name = branch(
            &namer,
            "Add a dark mode",
            &["feature/dark-mode-toggle".parse().unwrap()],
        )
        .await;
        assert_eq!(
            (name.value.as_str(), name.source),
            ("feature/dark-mode-toggle-2", NameSource::Llm)
        );
        assert_eq!(name.fallback_reason, None);
        let message = message(&namer, "src/theme.ts").await;
        assert_eq!(
            (message.value.as_str(), message.source),
            ("feat(theme): add dark mode\n\nBody.", NameSource::Llm)
        );
    }
    let journal = server.journal().await;
    let paths: Vec<&Value> = journal.iter().map(|entry| &entry["path"]).collect();
    assert_eq!(
        paths,
        [
            "/v1/messages",
            "/v1/messages",
            "/v1/chat/completions",
            "/v1/chat/completions"
        ]
    );
    assert_eq!(journal[0]["headers"]["anthropic-version"], "2023-06-01");
    for entry in &journal {
        assert_eq!(
            (&entry["body"]["model"], &entry["body"]["max_tokens"]),
            (&json!("a-model"), &json!(1024))
        );
        assert_eq!(entry["response"]["status"], 200);
    }
    assert!(
        journal[1]
            .to_string()
            .contains("12 files and 340 kB of diff are left out.")
    );
}

#[tokio::test]
async fn nonsense_leads_to_the_rules() {
    let server = Aimock::start(&[
        says("fix the login", "Sure! I would call it fix/login."),
        says("src/a.rs", "I added a file."),
        json!({"match": {"userMessage": "cut off"}, "response": {"content": "feature/cu", "finishReason": "length"}}),
        says("be empty", " \n"),
    ]);
    for provider in PROVIDERS {
        let namer = namer(llm(provider, &server.url));
        let name = branch(&namer, "fix the login", &[]).await;
        assert_eq!(reason(&name), "the LLM's answer is no plain branch name");
        assert_eq!(name.value.as_str(), "fix/login");
        let message = message(&namer, "src/a.rs").await;
        assert_eq!(
            reason(&message),
            "the LLM's answer does not begin with a Conventional Commit line"
        );
        assert!(message.value.starts_with("feat: update 13 files\n"));
        let cut = branch(&namer, "be cut off", &[]).await;
        assert_eq!(
            reason(&cut),
            "the LLM's answer was cut off by the limit on its length"
        );
        assert_eq!(
            reason(&branch(&namer, "be empty", &[]).await),
            "the LLM's answer is empty"
        );
    }
}

#[tokio::test]
async fn what_may_pass_is_asked_once_more() {
    let server = Aimock::start(&[
        json!({"match": {"userMessage": "once", "sequenceIndex": 0}, "response": {"error": {"message": "x"}, "status": 500}}),
        json!({"match": {"userMessage": "once", "sequenceIndex": 1}, "response": {"content": "fix/second-try"}}),
        fails("always", 529),
        json!({"match": {"userMessage": "hurried"}, "response": {"error": {"message": "x"}, "status": 429, "retryAfter": 3600}}),
        json!({"match": {"userMessage": "patient", "sequenceIndex": 0}, "response": {"error": {"message": "x"}, "status": 429}}),
        json!({"match": {"userMessage": "patient", "sequenceIndex": 1}, "response": {"content": "fix/patience"}}),
        fails("refused", 400),
    ]);
    let namer = namer(llm(Provider::Anthropic, &server.url));
    assert_eq!(branch(&namer, "once", &[]).await.value.as_str(), "fix/second-try");
    // The server asks for a second of patience.
    assert_eq!(
        branch(&namer, "patient", &[]).await.value.as_str(),
        "fix/patience"
    );
    assert_eq!(server.journal().await.len(), 4);
    let overloaded = branch(&namer, "always", &[]).await;
    assert_eq!(
        reason(&overloaded),
        "the LLM's server answered with status 529: it is out of order"
    );
    assert_eq!(server.journal().await.len(), 6);
    let limited = branch(&namer, "hurried", &[]).await;
    assert_eq!(
        reason(&limited),
        "the LLM's server answered with status 429: it wants fewer requests"
    );
    let refused = branch(&namer, "refused", &[]).await;
    assert_eq!(
        reason(&refused),
        "the LLM's server answered with status 400: it refuses the question"
    );
    assert_eq!(server.journal().await.len(), 8);
}

#[tokio::test]
async fn slow_and_cut_answers_lead_to_the_rules_in_time() {
    let server = Aimock::start(&[
        json!({"match": {"userMessage": "slow"}, "response": {"content": "fix/slow"}, "chaos": {"latencyMs": 30000}}),
        json!({"match": {"userMessage": "cut"}, "response": {"content": "fix/cut"}, "chaos": {"disconnectRate": 1}}),
        json!({"match": {"userMessage": "broken"}, "response": {"content": "fix/x"}, "chaos": {"malformedRate": 1}}),
    ]);
    for provider in PROVIDERS {
        let mut config = llm(provider, &server.url);
        config.timeout = Duration::from_millis(300);
        let namer = namer(config);
        assert_eq!(
            reason(&branch(&namer, "slow", &[]).await),
            "the LLM gave no answer within 0.3s"
        );
        let cut = branch(&namer, "cut", &[]).await;
        assert!(
            reason(&cut).starts_with("the LLM cannot be asked: `127.0.0.1:"),
            "{cut:?}"
        );
        let broken = branch(&namer, "broken", &[]).await;
        assert_eq!(
            reason(&broken),
            "the LLM's server answered with something that is not its protocol"
        );
    }
}

#[tokio::test]
async fn a_server_that_misbehaves_is_left_within_bounds() {
    let elsewhere = Rogue::start(Manner::Says("{}".to_owned())).await;
    for (manner, expected) in [
        (
            Manner::Says("<html>".to_owned()),
            "the LLM's server answered with something that is not its protocol",
        ),
        (
            Manner::Says("{}".to_owned()),
            "the LLM's server answered with something that is not its protocol",
        ),
        (
            Manner::Says("[".repeat(60_000)),
            "the LLM's server answered with something that is not its protocol",
        ),
        (Manner::Floods, "is longer than 65536 bytes"),
        (Manner::Redirects(elsewhere.url.clone()), "which is not followed"),
        (Manner::Trickles, "the LLM gave no answer within 0.5s"),
        (Manner::Hangs, "the LLM gave no answer within 0.5s"),
    ] {
        let server = Rogue::start(manner.clone()).await;
        for provider in PROVIDERS {
            let mut config = llm(provider, &server.url);
            config.timeout = Duration::from_millis(500);
            let name = branch(&namer(config), "fix it", &[]).await;
            assert!(reason(&name).contains(expected), "{manner:?}: {name:?}");
        }
    }
    assert!(
        elsewhere.seen().is_empty(),
        "a redirect carried the credential to another origin"
    );
}

#[tokio::test]
async fn each_credential_goes_where_it_belongs() {
    let server = Rogue::start(Manner::Says("{}".to_owned())).await;
    let request = BranchRequest {
        user_request: "fix it",
        taken: &[],
    };
    let cancel = CancellationToken::new();
    for (provider, caller) in [
        (Provider::Anthropic, None),
        (Provider::Anthropic, Some("sk-ant-api03-caller")),
        (Provider::Anthropic, Some("sk-ant-oat01-caller")),
        (Provider::OpenAi, Some("sk-caller")),
        (Provider::OpenAi, Some("sk-ant-api03-caller")),
    ] {
        let caller = caller.map(SecretString::from);
        namer(llm(provider, &server.url))
            .branch_name(&request, caller.as_ref(), &cancel)
            .await;
    }
    let mut keyless = llm(Provider::OpenAi, &server.url);
    keyless.api_key = None;
    namer(keyless).branch_name(&request, None, &cancel).await;

    let seen = server.seen();
    let text = |name: &str| {
        seen.iter()
            .map(|headers| headers.get(name).map(|v| v.to_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        text("x-api-key"),
        [Some(KEY), Some("sk-ant-api03-caller"), None, None, None, None]
    );
    let bearer = format!("Bearer {KEY}");
    let expected = [
        None,
        None,
        Some("Bearer sk-ant-oat01-caller"),
        Some("Bearer sk-caller"),
        Some(bearer.as_str()),
        None,
    ];
    assert_eq!(text("authorization"), expected);
}

#[tokio::test]
async fn without_an_llm_the_rules_name() {
    let namer = Namer::new(client(), None);
    assert_eq!(
        reason(&branch(&namer, "fix it", &[]).await),
        "no LLM is configured"
    );
    assert_eq!(reason(&message(&namer, "a.rs").await), "no LLM is configured");
    let server = Rogue::start(Manner::Hangs).await;
    let mut config = llm(Provider::Anthropic, &server.url);
    config.api_key = None;
    let namer = self::namer(config);
    assert_eq!(
        reason(&branch(&namer, "fix it", &[]).await),
        "there is no credential for the LLM"
    );
    assert_eq!(
        reason(&branch(&namer, " \n", &[]).await),
        "there is nothing to ask the LLM"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_cancelled_job_waits_for_no_llm() {
    let server = Rogue::start(Manner::Hangs).await;
    let namer = namer(llm(Provider::OpenAi, &server.url));
    let cancel = CancellationToken::new();
    let request = BranchRequest {
        user_request: "fix it",
        taken: &[],
    };
    let naming = namer.branch_name(&request, None, &cancel);
    let cancelling = async {
        while server.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (name, ()) = tokio::join!(naming, cancelling);
    assert_eq!(reason(&name), "the job was cancelled");
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_show_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    // For the whole process: a subscriber of one thread misses what the other tests' threads have registered before.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let canary = SecretString::from("sk-canary-0123456789");
    let server = Aimock::start(&[fails("echo", 500), says("a.rs", "sk-canary-0123456789")]);
    let cancel = CancellationToken::new();
    let mut shown = String::new();
    for provider in PROVIDERS {
        let mut config = llm(provider, &server.url);
        config.api_key = Some(canary.clone());
        let namer = namer(config.clone());
        let request = BranchRequest {
            user_request: "echo",
            taken: &[],
        };
        let name = namer.branch_name(&request, None, &cancel).await;
        assert_eq!(
            reason(&name),
            "the LLM's server answered with status 401: it refuses the credential"
        );
        let message = namer
            .commit_message(&change("a.rs"), Some(&canary), &cancel)
            .await;
        shown.push_str(&format!("{name:?} {message:?} {namer:?} {config:?}"));
    }
    let unsendable = SecretString::from("sk-canary\n0123456789");
    let request = BranchRequest {
        user_request: "echo",
        taken: &[],
    };
    let name = namer(llm(Provider::Anthropic, &server.url))
        .branch_name(&request, Some(&unsendable), &cancel)
        .await;
    assert!(reason(&name).contains("no header can carry"));
    shown.push_str(&format!("{name:?}"));

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("named by rule"), "the log was not kept: {log}");
    assert!(!log.contains("canary") && !shown.contains("canary"));
}
