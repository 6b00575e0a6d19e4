//! The bench of the gateway, as small as it can be: its figures agree with one another, and nothing of it is left.

use mayfly_testkit::process::{Launch, descendants_of, is_alive};
use mayfly_testkit::wait::eventually;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::rig::Rig;

const SIZES: [&str; 16] = [
    "--runs",
    "1",
    "--workers",
    "6",
    "--latency-jobs",
    "20",
    "--streams",
    "30",
    "--hold-seconds",
    "1",
    "--kills",
    "1",
    "--addresses",
    "40",
    "--changes",
    "1",
];
const SIDES: [&str; 3] = ["mayfly", "nginx", "haproxy"];

fn bench(rig: &Rig, more: &[&str]) -> Launch {
    let file = rig.folder.path().join("figures.json");
    let mut args = vec!["bench", "gateway", "--json", file.to_str().unwrap()];
    args.extend(SIZES);
    args.extend(more);
    rig.launch(&args)
}

/// The figures of one side, of the only run.
fn figures<'a>(report: &'a Value, measure: &str, side: &str) -> &'a Value {
    let named = |list: &'a Value, key: &str, name: &str| -> &'a Value {
        let found = list.as_array().unwrap().iter().find(|it| it[key] == name);
        found.unwrap_or_else(|| panic!("no {name} in {list}"))
    };
    &named(
        &named(&report["measures"], "measure", measure)["sides"],
        "side",
        side,
    )["samples"][0]
}

/// Measures, and gives the tables and the figures.
async fn measured(rig: &Rig, what: &str, against: &str) -> (String, Value) {
    let more = ["--seconds", "1", "--measure", what, "--against", against];
    let mut running = bench(rig, &more).start();
    let ended = running.ended().await;
    assert!(ended.success(), "{}", running.stderr());
    assert!(rig.left_in_tmp().is_empty(), "{:?}", rig.left_in_tmp());
    let text = std::fs::read_to_string(rig.folder.path().join("figures.json")).unwrap();
    (running.stdout(), serde_json::from_str(&text).unwrap())
}

/// Each job that was sent is completed or failed.
fn assert_jobs_add_up(report: &Value, measure: &str, sides: &[&str]) {
    for side in sides {
        let found = figures(report, measure, side);
        let count = |name: &str| found[name].as_f64().unwrap();
        assert!(count("completed") > 0.0, "{measure} of {side}: {found}");
        assert_eq!(
            count("jobs sent"),
            count("completed") + count("failed"),
            "{measure} of {side}: {found}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_jobs_agree_with_one_another() {
    let rig = Rig::new();
    let (tables, report) = measured(&rig, "latency,steady,bursts,flood", "nginx,haproxy").await;
    for measure in ["steady", "bursts", "flood"] {
        assert_jobs_add_up(&report, measure, &SIDES);
        assert_eq!(figures(&report, measure, "mayfly")["failed"], 0.0, "{measure}");
    }
    for side in SIDES {
        let tries = &figures(&report, "steady", side)["tries a job"];
        assert!(tries.as_f64().unwrap() >= 1.0, "{side}: {tries}");
        let latency = figures(&report, "latency", side);
        assert_eq!(
            (&latency["jobs"], &latency["failed"]),
            (&20.0.into(), &0.0.into()),
            "{side}"
        );
    }
    assert!(tables.contains("| mayfly to nginx | "), "{tables}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_streams_and_of_lost_workers_agree_with_one_another() {
    let rig = Rig::new();
    let (_, report) = measured(&rig, "streams,churn,kill,list", "nginx").await;
    assert_jobs_add_up(&report, "churn", &["mayfly", "nginx"]);
    let streams = figures(&report, "streams-30", "mayfly");
    for (name, expected) in [("held", 30.0), ("completed", 30.0), ("lost", 0.0)] {
        assert_eq!(streams[name], expected, "{streams}");
    }
    let told = |side| &figures(&report, "kill", side)["told by an event, %"];
    assert_eq!((told("mayfly"), told("nginx")), (&100.0.into(), &0.0.into()));
    assert_eq!(figures(&report, "list", "mayfly")["addresses"], 40.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_of_the_gateway_that_is_stopped_leaves_nothing() {
    let rig = Rig::new();
    let mut running = bench(
        &rig,
        &["--measure", "flood", "--seconds", "600", "--against", "none"],
    )
    .start();
    running.line_on_stderr("measuring").await;
    let started = || descendants_of(running.id());
    eventually("the gateway and the workers run", || started().len() >= 2).await;
    let started = started();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.ended().await.code(), Some(1));
    eventually("all processes are gone", || {
        !started.iter().any(|&pid| is_alive(pid))
    })
    .await;
    assert!(rig.left_in_tmp().is_empty(), "{:?}", rig.left_in_tmp());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_all_open_files_that_it_may() {
    let rig = Rig::new();
    let program = env!("CARGO_BIN_EXE_mayfly");
    let with_few = r#"ulimit -S -n 64; exec "$0" "$@""#;
    let gateway = ["gateway", "--port", "0", "--git-workers", "http://127.0.0.1:9"];
    let launch = Launch::new("/bin/sh")
        .args(["-c", with_few, program])
        .args(gateway);
    let mut running = launch.env("TMP_DIR", rig.tmp()).start();
    running.line_on_stdout("listening on").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_ne!(words[3], "64", "{line}");
    assert_eq!(words[3], words[4], "{line}");
}
