//! `mayfly health`: the health check of a container, without a shell.

use std::process::ExitStatus;

use mayfly_testkit::https::TestCa;
use mayfly_testkit::port;
use mayfly_testkit::process::Running;
use mayfly_testkit::wait::within;

use super::rig::Rig;

async fn health(rig: &Rig, args: &[&str], variables: &[(&str, &str)]) -> (ExitStatus, String) {
    let mut launch = rig.launch(&[&["health"], args].concat());
    for (name, value) in variables {
        launch = launch.env(name, value);
    }
    let mut running = launch.start();
    let status = within("the end of the check", running.ended()).await;
    (status, running.stderr())
}

async fn port_of(running: &mut Running) -> String {
    let line = running.line_on_stdout("listening on ").await;
    line.rsplit(':').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_answers_is_well() {
    let rig = Rig::new();
    let mut worker = rig
        .launch(&["git-worker", "--port", "0", "--host", "0.0.0.0", "--announce"])
        .env("WORKER_TOKEN", "a-token-of-some-length")
        .start();
    let port = port_of(&mut worker).await;
    let settings = [("PORT", port.as_str()), ("HOST", "0.0.0.0")];
    let (status, said) = health(&rig, &["git-worker"], &settings).await;
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));

    let workers = format!("http://127.0.0.1:{port}");
    let mut gateway = rig
        .launch(&["gateway", "--port", "0", "--git-workers", &workers])
        .start();
    let port = port_of(&mut gateway).await;
    let (status, said) = health(&rig, &["--port", &port], &[]).await;
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_workers_is_alive_and_not_ready() {
    let rig = Rig::new();
    let nobody = "dns://nobody.invalid:5002";
    let mut gateway = rig
        .launch(&["gateway", "--port", "0", "--git-workers", nobody])
        .start();
    let port = port_of(&mut gateway).await;
    let (status, _) = health(&rig, &["gateway", "--port", &port], &[]).await;
    assert_eq!(status.code(), Some(0));
    let (status, said) = health(&rig, &["gateway", "--ready", "--port", &port], &[]).await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("503"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_or_is_silent_or_is_asked_wrongly_is_not_well() {
    let rig = Rig::new();
    let (refused, silent) = (port::refused(), port::silent());
    for address in [refused.addr(), silent.addr()] {
        let port = address.port().to_string();
        let (status, said) = health(&rig, &["gateway", "--port", &port, "--timeout", "0.2"], &[]).await;
        assert_eq!(status.code(), Some(1));
        assert!(said.contains(&format!("http://{address}/health")), "{said}");
    }
    let (status, said) = health(&rig, &["git-worker", "--ready"], &[]).await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("--ready is for a gateway"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_certificate_of_the_setting_is_taken() {
    let rig = Rig::new();
    let (right, wrong) = (rig.folder.path().join("right"), rig.folder.path().join("wrong"));
    let [(certificate, key), (other, _)] = [&right, &wrong].map(|folder| {
        std::fs::create_dir(folder).unwrap();
        TestCa::new().write_server_pem(folder)
    });
    let mut worker = rig
        .launch(&["code-worker", "--port", "0", "--announce"])
        .env("TLS_CERT_FILE", &certificate)
        .env("TLS_KEY_FILE", &key)
        .start();
    let port = port_of(&mut worker).await;
    let ask = async |variables: &[(&str, &str)]| {
        let (status, said) = health(&rig, &["code-worker", "--port", &port], variables).await;
        (status.code(), said)
    };
    let (ours, theirs) = (certificate.to_str().unwrap(), other.to_str().unwrap());
    assert_eq!(ask(&[("TLS_CERT_FILE", ours)]).await, (Some(0), String::new()));
    assert_eq!(ask(&[("TLS_CERT_FILE", theirs)]).await.0, Some(1));
    assert_eq!(ask(&[]).await.0, Some(1));
    let (status, said) = ask(&[("TLS_CERT_FILE", key.to_str().unwrap())]).await;
    assert_eq!(status, Some(1));
    assert!(said.contains("which holds no certificate"), "{said}");
}
