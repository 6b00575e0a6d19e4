//! Keys, tenants and TLS with the real processes: `keys new`, a gateway that asks for keys, and a git worker that believes it.

use mayfly_server::TlsFiles;
use mayfly_testkit::canary::Canary;
use mayfly_testkit::https::TestCa;
use mayfly_testkit::process::Running;
use mayfly_testkit::sse::{completed, read_whole};
use mayfly_testkit::wait::within;
use serde_json::{Value, json};

use super::rig::Rig;

const TOKEN: &str = "a-token-of-the-fleet";

/// Makes a key by the command, and gives its text.
async fn new_key(rig: &Rig, tenant: &str, scope: &str) -> String {
    let args = [
        "keys",
        "new",
        "--tenant",
        tenant,
        "--scope",
        scope,
        "--expires",
        "1d",
    ];
    let mut made = rig
        .launch(&args)
        .env("GATEWAY_API_KEYS_FILE", rig.folder.path().join("keys"))
        .start();
    let key = made.line_on_stdout("mfk_").await;
    assert!(made.ended().await.success());
    assert!(!made.stderr().contains(&key), "{}", made.stderr());
    key
}

/// A git worker and a gateway before it, both speaking TLS.
async fn fleet(rig: &Rig, ca: &TestCa) -> (Running, Running, String) {
    let (certificate, key) = ca.write_server_pem(rig.folder.path());
    let files = TlsFiles { certificate, key };
    let launch = |args: &[&str]| {
        rig.launch(args)
            .env("WORKER_TOKEN", TOKEN)
            .env("TLS_CERT_FILE", &files.certificate)
            .env("TLS_KEY_FILE", &files.key)
            .env("EXTRA_CA_FILE", ca.write_pem(rig.folder.path()))
    };
    let mut worker = launch(&["git-worker", "--port", "0", "--announce"]).start();
    let at = address(&mut worker).await;
    let mut gateway = launch(&[
        "gateway",
        "--port",
        "0",
        "--git-workers",
        &format!("https://{at}"),
    ])
    .env("GATEWAY_API_KEYS_FILE", rig.folder.path().join("keys"))
    .start();
    let at = address(&mut gateway).await;
    (worker, gateway, format!("https://{at}"))
}

async fn address(running: &mut Running) -> String {
    let line = running.line_on_stdout("listening on ").await;
    line.rsplit(' ').next().unwrap().to_owned()
}

fn client(ca: &TestCa) -> reqwest::Client {
    // An error means that there is a provider already.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap()])
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_a_fleet_and_see_nothing_of_one_another() {
    let (rig, ca) = (Rig::new(), TestCa::new());
    let (acme, zoo) = (
        new_key(&rig, "acme", "jobs,read").await,
        new_key(&rig, "zoo", "jobs,read").await,
    );
    let (mut worker, mut gateway, base) = fleet(&rig, &ca).await;
    let client = client(&ca);
    let body = rig.clone_body("s");
    let post = client.post(format!("{base}/clone-repository")).json(&body);
    let nobody = post.try_clone().unwrap().send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    let events = read_whole(post.bearer_auth(&acme).send().await.unwrap()).await;
    assert_eq!(completed(&events)["branch"], "main");
    assert_eq!(within("the worker's end", worker.ended()).await.code(), Some(0));

    let get = async |path: &str, key: &str| {
        let answer = client
            .get(format!("{base}{path}"))
            .bearer_auth(key)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(get("/sessions/s", &acme).await.1["branch"], "main");
    let (status, theirs) = get("/sessions/s", &zoo).await;
    assert_eq!((status, &theirs["code"]), (404, &json!("session_not_found")));
    assert_eq!(get("/sessions", &zoo).await.1["sessions"], json!([]));
    assert_eq!(get("/workers", &acme).await.0, 403);
    let tenants: Vec<_> = std::fs::read_dir(rig.folder.path().join("storage/tenants"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(tenants, ["acme"]);

    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(gateway.ended().await.success());
    for key in [&acme, &zoo] {
        let secret = Canary::of(key.rsplit('_').next().unwrap());
        for log in [gateway.stderr(), gateway.stdout(), worker.stderr()] {
            secret.assert_not_in("a log", &log);
        }
        secret.assert_not_below(rig.folder.path());
    }
    Canary::of(TOKEN).assert_not_in("the gateway's log", gateway.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_anybody_could_reach_does_not_start() {
    let rig = Rig::new();
    for (args, setting) in [
        (
            &["gateway", "--git-workers", "http://127.0.0.1:1"][..],
            "GATEWAY_API_KEYS_FILE",
        ),
        (&["git-worker"], "WORKER_TOKEN"),
        (&["code-worker"], "WORKER_TOKEN"),
    ] {
        let mut refused = rig
            .launch(&[args, &["--host", "0.0.0.0", "--port", "0"]].concat())
            .start();
        assert_eq!(refused.ended().await.code(), Some(1));
        let log = refused.stderr();
        assert!(
            log.contains("beyond this machine") && log.contains(setting),
            "{log}"
        );
    }
}
