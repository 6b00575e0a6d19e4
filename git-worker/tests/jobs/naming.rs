//! Names and messages by an LLM, inside a job: used where they are good, and no reason to fail where they are not.

use std::time::Duration;

use mayfly_naming::{LlmConfig, Provider};
use mayfly_protocol::JobKind;
use mayfly_testkit::port;
use mayfly_testkit::repo::TestRepo;
use serde_json::{Value, json};

use super::aimock::{Aimock, KEY};
use super::rig::Rig;

/// A rig whose LLM is at this address, with a session `s`.
async fn rig_with(url: &str, timeout: Duration) -> (Rig, mayfly_testkit::repo::BareRepo) {
    let mut rig = Rig::new().await;
    let config = LlmConfig::new(Provider::Anthropic, url.parse().unwrap(), "a-model");
    rig.llm = Some(LlmConfig {
        timeout,
        retry_delay: Duration::from_millis(1),
        ..config
    });
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    (rig, bare)
}

fn says(question: &str, content: &str) -> Value {
    json!({"match": {"userMessage": question}, "response": {"content": content}})
}

async fn branch(rig: &Rig, request: &str) -> (String, String) {
    let body = json!({"userRequest": request, "claudeCredentials": KEY});
    let done = rig.branch("s", body).await.completed();
    let text = |field: &str| done[field].as_str().unwrap().to_owned();
    (text("branch"), text("nameSource"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_llm_names_the_branch_and_writes_the_message() {
    let server = Aimock::start(&[
        says("dark mode", "feature/dark-mode"),
        says("collide", "feature/dark-mode/more"),
        says("theme.ts", "feat(theme): add dark mode\n\nBody."),
    ]);
    let (rig, bare) = rig_with(server.url.as_str(), Duration::from_secs(10)).await;
    assert_eq!(
        branch(&rig, "Add a dark mode").await,
        ("feature/dark-mode".to_owned(), "llm".to_owned())
    );
    rig.write("s", "theme.ts", "export {};\n").await;
    let body = json!({"claudeCredentials": KEY});
    let done = rig.commit("s", body).await.completed();
    assert_eq!(done["messageSource"], "llm");
    assert_eq!(bare.log("feature/dark-mode")[0], "feat(theme): add dark mode");
    // A name below a branch that exists cannot be a branch as well.
    let (name, source) = branch(&rig, "Please collide").await;
    assert_eq!(source, "llm");
    assert!(!name.starts_with("feature/dark-mode/"), "{name}");
    assert_eq!(bare.rev_parse(&name), bare.rev_parse("feature/dark-mode"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_name_is_not_used() {
    for garbage in [
        "```\n```",
        "../../etc/passwd\0",
        "I am sorry, I cannot do that.\n\nHere is why: it is long.",
        "--upload-pack=touch /tmp/x",
        "refs/heads/..",
        "@{-1}",
        "\u{202e}\u{200b}",
    ] {
        let server = Aimock::start(&[says("dark mode", garbage), says("a.txt", garbage)]);
        let (rig, bare) = rig_with(server.url.as_str(), Duration::from_secs(10)).await;
        let (name, source) = branch(&rig, "Add a dark mode").await;
        if source == "heuristic" {
            assert_eq!(name, "feature/add-dark-mode", "{garbage:?}");
        }
        bare.text(&["check-ref-format", "--branch", &name]);
        rig.write("s", "a.txt", "a\n").await;
        let body = json!({"claudeCredentials": KEY});
        let done = rig.commit("s", body).await.completed();
        assert_eq!(done["pushed"], true, "{garbage:?}");
        assert!(
            !done["message"].as_str().unwrap().trim().is_empty(),
            "{garbage:?}"
        );
        bare.fsck_strict();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_llm_that_is_silent_or_away_costs_a_name_by_rule() {
    let (silent, away) = (port::silent(), port::refused());
    for address in [silent.addr(), away.addr()] {
        let (rig, _) = rig_with(&format!("http://{address}"), Duration::from_millis(200)).await;
        assert_eq!(
            branch(&rig, "Add a dark mode").await,
            ("feature/add-dark-mode".to_owned(), "heuristic".to_owned())
        );
        rig.write("s", "a.txt", "a\n").await;
        let body = rig.with_token("s", json!({"claudeCredentials": "wrong"}));
        let done = rig.job(JobKind::CommitAndPush, body).await.completed();
        assert_eq!(done["messageSource"], "heuristic");
    }
}
