//! Bodies of requests: what is taken is within the rules, no credential is shown by what was read or by its refusal, and none changes what a request is.

use mayfly_gateway::fuzzing::request_digest;
use mayfly_protocol::path::check_path;
use mayfly_protocol::request::{CREDENTIAL_FIELDS, Changes};
use mayfly_protocol::{Job, JobKind, RepoUrl};
use serde_json::Value;

use crate::Input;

const CANARY: &str = "canary-of-a-credential";

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = JobKind::ALL[usize::from(input.byte()) % JobKind::ALL.len()];
    let body = input.rest();
    let parsed = Job::parse(kind, body);
    check_secrecy(kind, body);
    if let Ok(job) = parsed {
        check_job(&job, kind);
        check_digest(kind, body);
    }
}

fn check_job(job: &Job, kind: JobKind) {
    assert_eq!(job.kind(), kind);
    let session = job.session_id().to_string();
    assert!(
        !session.is_empty() && !session.contains(['/', '\\', '\0', '\n', '\r']) && !session.starts_with('.')
    );
    match job {
        Job::CloneRepository(job) => check_url(&job.repo_url),
        Job::CreateBranch(job) => job.repo_url.iter().for_each(check_url),
        Job::ApplyChanges(job) => {
            if let Changes::Files(files) = &job.changes {
                assert!(
                    files
                        .iter()
                        .all(|file| check_path(file.path.as_str().as_bytes()).is_ok())
                );
            }
        }
        Job::CommitAndPush(job) => {
            if let Some(author) = &job.author {
                let text = format!("{}{}", author.name, author.email);
                assert!(!text.contains(['<', '>']) && !text.contains(char::is_control));
            }
        }
        Job::CodeOperation(_) => {}
    }
}

fn check_url(url: &RepoUrl) {
    let parsed = url.as_url();
    assert!(matches!(parsed.scheme(), "http" | "https"));
    assert!(parsed.username().is_empty() && parsed.password().is_none());
    assert!(
        !url.as_str()
            .contains(|c: char| c.is_control() || c.is_whitespace())
    );
    assert_eq!(url.as_str().parse::<RepoUrl>().as_ref(), Ok(url));
}

/// What is read of the same body with credentials that can be told from all else, or its refusal, does not show them.
fn check_secrecy(kind: JobKind, body: &[u8]) {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
        return;
    };
    for name in CREDENTIAL_FIELDS {
        if let Some(value) = fields.get_mut(*name).filter(|value| value.is_string()) {
            *value = CANARY.into();
        }
    }
    let body = Value::Object(fields).to_string();
    if body.matches(CANARY).count() > CREDENTIAL_FIELDS.len() {
        return;
    }
    let shown = match Job::parse(kind, body.as_bytes()) {
        Ok(job) => format!("{job:?}"),
        Err(error) => format!("{error:?} {error}"),
    };
    assert!(!shown.contains(CANARY), "a credential is shown: {shown}");
}

fn check_digest(kind: JobKind, body: &[u8]) {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
        return;
    };
    let text = |fields: &serde_json::Map<String, Value>| Value::Object(fields.clone()).to_string();
    let digest = request_digest(kind, text(&fields).as_bytes());
    for name in CREDENTIAL_FIELDS {
        fields.insert((*name).to_owned(), "another-one".into());
    }
    assert_eq!(digest, request_digest(kind, text(&fields).as_bytes()));
    fields.insert("sessionId".to_owned(), "quite another session".into());
    assert_ne!(digest, request_digest(kind, text(&fields).as_bytes()));
}
