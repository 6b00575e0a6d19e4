//! What a worker gives up when it starts, and what it does on a kernel that takes nothing from it.

use std::collections::BTreeMap;

use mayfly_protocol::Stage;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::process::Running;
use mayfly_testkit::sse::{Stream, completed, read_whole};
use nix::libc;
use nix::sys::signal::Signal;
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
use serde_json::Value;

use super::rig::{Rig, get_json, post};

const WORKER: &[&str] = &["git-worker", "--port", "0", "--announce"];

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_kept_to_its_own_and_does_its_job() {
    let rig = Rig::new();
    let (mut worker, base) = started(rig.launch(WORKER).env("SANDBOX", "required").start()).await;
    let sandbox = get_json(&base, "/status").await["sandbox"].clone();
    assert!(sandbox["landlock"].as_u64() >= Some(2), "{sandbox}");
    assert_eq!(sandbox["seccomp"], true);
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "{status}");
    assert!(
        worker.stderr().contains("files by Landlock"),
        "{}",
        worker.stderr()
    );
    assert_eq!(rig.left_in_tmp().len(), 1);
    let events = read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await;
    completed(&events);
    assert_eq!(worker.ended().await.code(), Some(0));
    assert!(rig.left_in_tmp().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_kernel_has_no_landlock_the_setting_decides() {
    let rig = Rig::new();
    let mut refused = without_landlock(|| rig.launch(WORKER).env("SANDBOX", "required").start());
    assert_eq!(refused.ended().await.code(), Some(1));
    assert!(
        refused.stderr().contains("SANDBOX=required"),
        "{}",
        refused.stderr()
    );
    assert!(rig.left_in_tmp().is_empty());

    let (mut worker, base) = started(without_landlock(|| rig.launch(WORKER).start())).await;
    let sandbox = get_json(&base, "/status").await["sandbox"].clone();
    assert_eq!(
        sandbox,
        serde_json::json!({"landlock": Value::Null, "seccomp": true})
    );
    assert!(worker.stderr().contains("Landlock"), "{}", worker.stderr());
    let events = read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await;
    completed(&events);
    assert_eq!(worker.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_left_goes_before_the_next_one_shuts_itself_in() {
    let rig = Rig::new();
    rig.host.fail_times(On::UploadPack, 1, Fault::StallBeforeHead);
    let (mut killed, base) = rig.start(WORKER).await;
    let mut stream = Stream::of(post(&base, "/clone-repository", &rig.clone_body("s")).await);
    let is_cloning = |event: &mayfly_protocol::Event| {
        matches!(
            event.body,
            mayfly_protocol::EventBody::Progress {
                stage: Stage::Cloning,
                ..
            }
        )
    };
    stream.until(is_cloning).await;
    let left = rig.left_in_tmp();
    assert_eq!(left.len(), 1);
    killed.signal(Signal::SIGKILL);
    killed.ended().await;
    assert_eq!(rig.left_in_tmp(), left);
    let (mut next, _) = rig.start(WORKER).await;
    let now = rig.left_in_tmp();
    assert!(now.len() == 1 && now != left, "{now:?}");
    next.signal(Signal::SIGTERM);
    assert_eq!(next.ended().await.code(), Some(0));
    assert!(rig.left_in_tmp().is_empty());
}

async fn started(mut running: Running) -> (Running, String) {
    let line = running.line_on_stdout("listening on ").await;
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (running, format!("http://{address}"))
}

/// Starts a process as on a kernel that was built without Landlock: its system calls do not exist for the process.
fn without_landlock(start: impl FnOnce() -> Running + Send) -> Running {
    let calls = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
    ];
    let rules: BTreeMap<_, _> = calls.map(|call| (call, Vec::new())).into();
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let runtime = tokio::runtime::Handle::current();
    // The filter holds for this thread and what it starts, and for no other test.
    let in_a_thread = || {
        let _runtime = runtime.enter();
        seccompiler::apply_filter(&program).unwrap();
        start()
    };
    std::thread::scope(|scope| scope.spawn(in_a_thread).join().unwrap())
}
