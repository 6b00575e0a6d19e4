//! Real children: `sh` and `sleep`.

use mayfly_testkit::canary::Canary;
use mayfly_testkit::process::{Launch, descendants_of, is_alive, members_of_group};
use mayfly_testkit::wait::eventually;
use nix::sys::signal::Signal;

#[tokio::test]
async fn what_a_program_says_is_kept() {
    let script = "echo starting; echo \"listening on $PORT\"; echo oops >&2; exit 3";
    let mut program = Launch::new("/bin/sh")
        .args(["-c", script])
        .env("PORT", "12")
        .start();
    assert_eq!(program.line_on_stdout("listening").await, "listening on 12");
    assert_eq!(program.line_on_stderr("oops").await, "oops");
    assert_eq!(program.ended().await.code(), Some(3));
    assert_eq!(program.stdout(), "starting\nlistening on 12\n");
}

#[tokio::test]
async fn the_environment_is_empty_but_for_what_is_given() {
    let canary = Canary::new();
    let mut program = Launch::new("/bin/sh")
        .args(["-c", "env"])
        .env("TOKEN", canary.as_str())
        .start();
    program.ended().await;
    let stdout = program.stdout();
    let names: Vec<&str> = stdout.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.contains(&"TOKEN"));
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("CARGO") || *name == "HOME"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_token_in_arguments_or_environment_is_found() {
    let canary = Canary::new();
    let mut program = Launch::new("/bin/sh")
        .args(["-c", "echo ready; sleep 1000"])
        .env("TOKEN", canary.as_str())
        .start();
    program.line_on_stdout("ready").await;
    assert_eq!(canary.found_in_process(program.id()), ["environ"]);
    let script = format!("echo ready; sleep 1000; : {}", canary.as_str());
    let mut program = Launch::new("/bin/sh").args(["-c", &script]).start();
    program.line_on_stdout("ready").await;
    assert_eq!(canary.found_in_process(program.id()), ["cmdline"]);
}

#[tokio::test]
async fn signals_arrive() {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut program = Launch::new("/bin/sh").args(["-c", script]).start();
    program.line_on_stdout("ready").await;
    assert!(is_alive(program.id()));
    program.signal(Signal::SIGTERM);
    assert!(program.ended().await.success());
    assert!(program.stdout().ends_with("bye\n"));
}

#[tokio::test]
async fn dropping_leaves_no_descendant() {
    let mut program = Launch::new("/bin/sh")
        .args([
            "-c",
            "setsid sh -c 'sleep 1000 & sleep 1000' & sleep 1000 & echo ready; wait",
        ])
        .start();
    program.line_on_stdout("ready").await;
    let id = program.id();
    eventually("four descendants", || descendants_of(id).len() == 4).await;
    let family = descendants_of(id);
    drop(program);
    eventually("all have ended", || !family.iter().any(|id| is_alive(*id))).await;
}

#[tokio::test]
#[should_panic(expected = "no line with `never` on stdout")]
async fn a_program_that_ends_without_the_line_is_told() {
    let mut program = Launch::new("/bin/sh").args(["-c", "echo ever"]).start();
    program.line_on_stdout("never").await;
}

#[tokio::test]
async fn dropping_leaves_no_child_that_was_just_being_made() {
    let script = "echo ready; for i in $(seq 100); do sleep 1000 & done; wait";
    for _ in 0..5 {
        let mut program = Launch::new("/bin/sh").args(["-c", script]).start();
        program.line_on_stdout("ready").await;
        let group = program.id();
        drop(program);
        eventually("the whole group has ended", || members_of_group(group).is_empty()).await;
    }
}
