use secrecy::ExposeSecret;

use super::*;

fn refused(kind: JobKind, body: &str) -> String {
    Job::parse(kind, body.as_bytes()).unwrap_err().field
}

#[test]
fn a_full_clone_request_is_taken() {
    let body = r#"{"sessionId":"s1","repoUrl":"https://host/o/r","branch":"main","accessToken":"t","depth":1,
                   "commit":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}"#;
    let Job::CloneRepository(job) = Job::parse(JobKind::CloneRepository, body.as_bytes()).unwrap() else {
        panic!("another kind");
    };
    assert_eq!(job.session_id.as_str(), "s1");
    assert_eq!(job.history, History::Depth(NonZeroU32::MIN));
    assert_eq!(job.access_token.unwrap().expose_secret(), "t");
}

#[test]
fn each_wrong_field_is_named() {
    use JobKind::*;
    for (kind, body, field) in [
        (CloneRepository, r"not json", ""),
        (CloneRepository, r"[]", ""),
        (CloneRepository, r#"{"repoUrl":"https://h/r"}"#, "sessionId"),
        (
            CloneRepository,
            r#"{"sessionId":"../x","repoUrl":"https://h/r"}"#,
            "sessionId",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"file:///x"}"#,
            "repoUrl",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","branch":"a..b"}"#,
            "branch",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","commit":"HEAD"}"#,
            "commit",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","depth":0}"#,
            "depth",
        ),
        (
            JobKind::CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","depth":2,"unshallow":true}"#,
            "unshallow",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","accessToken":"a\nb"}"#,
            "accessToken",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","extra":1}"#,
            "extra",
        ),
        (
            CloneRepository,
            r#"{"sessionId":7,"repoUrl":"https://h/r"}"#,
            "sessionId",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r","depth":-1}"#,
            "depth",
        ),
        (
            CommitAndPush,
            r#"{"sessionId":"s","author":{"name":["x"],"email":"x"}}"#,
            "author.name",
        ),
        (
            CommitAndPush,
            r#"{"sessionId":"s","author":{"name":{"\u001b":1}}}"#,
            "author.name",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","repoUrl":"https://h/r"} x"#,
            "",
        ),
        (
            CloneRepository,
            r#"{"sessionId":"s","sessionId":"s","repoUrl":"https://h/r"}"#,
            "sessionId",
        ),
        (
            CreateBranch,
            r#"{"sessionId":"s","userRequest":"x","branchName":"-x"}"#,
            "branchName",
        ),
        (
            CreateBranch,
            r#"{"sessionId":"s","userRequest":"x","lfs":true}"#,
            "lfs",
        ),
        (CommitAndPush, r#"{"sessionId":"s","message":" "}"#, "message"),
        (
            CommitAndPush,
            r#"{"sessionId":"s","author":{"name":"a<b","email":"e"}}"#,
            "author.name",
        ),
        (ApplyChanges, r#"{"sessionId":"s"}"#, ""),
        (ApplyChanges, r#"{"sessionId":"s","files":[]}"#, "files"),
        (
            ApplyChanges,
            r#"{"sessionId":"s","files":[{"path":"../x","content":""}]}"#,
            "files[0].path",
        ),
        (
            ApplyChanges,
            r#"{"sessionId":"s","files":[{"path":"a","content":"","delete":true}]}"#,
            "files[0]",
        ),
        (
            ApplyChanges,
            r#"{"sessionId":"s","files":[{"path":"a","contentBase64":"?"}]}"#,
            "files[0].contentBase64",
        ),
        (
            ApplyChanges,
            r#"{"sessionId":"s","files":[{"path":"a","content":"","mode":"777"}]}"#,
            "files[0].mode",
        ),
        (
            ApplyChanges,
            r#"{"sessionId":"s","files":[{"path":"a","content":""},{"path":"a","delete":true}]}"#,
            "files[1].path",
        ),
    ] {
        assert_eq!(refused(kind, body), field, "{body}");
    }
}

#[test]
fn secrets_do_not_show() {
    let body = r#"{"sessionId":"s","repoUrl":"https://h/r","accessToken":"canary"}"#;
    let job = Job::parse(JobKind::CloneRepository, body.as_bytes()).unwrap();
    assert!(!format!("{job:?}").contains("canary"));
    let wrong = Job::parse(
        JobKind::CloneRepository,
        br#"{"sessionId":"s","repoUrl":"https://h/r","accessToken":{"canary":1}}"#,
    );
    assert!(!format!("{:?}", wrong.unwrap_err()).contains("canary"));
}

#[test]
fn deep_json_does_not_exhaust_the_stack() {
    let body = "[".repeat(100_000);
    assert_eq!(refused(JobKind::CommitAndPush, &body), "");
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)) {
        for kind in JobKind::ALL {
            let _ = Job::parse(*kind, &body);
        }
    }
}
