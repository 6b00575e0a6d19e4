//! Disks that are really full: a small file system in place of the scratch folder, or of the storage, in a mount namespace of its own.

use std::path::{Path, PathBuf};

use mayfly_protocol::ErrorCode;
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::repo::{TestRepo, noise};
use mayfly_testkit::sse::{Numbered, completed, failed, read_whole};
use serde_json::{Value, json};

use super::ground::{Ground, NAME, Order, REPOSITORY, post, started};
use super::session::Found;

/// Where sessions are, in the storage.
const PREFIX: &str = "s";
/// More than the small disk has, after compression.
const BIG_BYTES: usize = 6 << 20;
/// Mounts a small disk, and keeps the namespace for as long as it lives.
const HOLD: &str = r#"mount -t tmpfs -o size=4m small "$0" && echo mounted && exec sleep infinity"#;

/// A disk of 4 MiB over a folder, which only those see who are started in its namespace.
struct SmallDisk {
    holder: Running,
    folder: PathBuf,
}

impl SmallDisk {
    async fn over(folder: &Path) -> Self {
        let own_namespaces = ["--map-root-user", "--mount", "sh", "-c", HOLD];
        let mut holder = Launch::new("unshare").args(own_namespaces).args([folder]).start();
        holder.line_on_stdout("mounted").await;
        let folder = folder.to_owned();
        Self { holder, folder }
    }

    /// A command that starts another in the namespace.
    fn enter(&self) -> [String; 6] {
        let words = [
            "nsenter",
            "--preserve-credentials",
            "--user",
            "--mount",
            "--target",
        ];
        let [a, b, c, d, e] = words.map(str::to_owned);
        [a, b, c, d, e, self.holder.id().to_string()]
    }

    /// Makes it larger.
    async fn make_room(&self) {
        let [program, arguments @ ..] = self.enter();
        let mut remount = Launch::new(program)
            .args(arguments)
            .args(["mount", "-o", "remount,size=256m"])
            .args([&self.folder])
            .start();
        assert_eq!(remount.ended().await.code(), Some(0), "{}", remount.stderr());
    }

    /// Where a path of the namespace is seen from outside.
    fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }
}

/// Bytes that stay as many when they are compressed, as text.
fn big_text() -> String {
    let hex = noise(BIG_BYTES, 1).into_iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}

/// A ground with a small disk in place of one of its folders.
struct Cramped {
    ground: Ground,
    disk: SmallDisk,
}

impl Cramped {
    async fn with_small(folder: &str) -> Self {
        let mut ground = Ground::in_a_folder().await;
        let tmp = ground.tmp();
        let root = tmp.parent().unwrap();
        let disk = SmallDisk::over(&root.join(folder)).await;
        let storage = disk.seen_from_outside(&root.join("storage"));
        let url = format!("file://{}", storage.display()).parse().unwrap();
        ground.storage = mayfly_storage::open(&url, &Default::default()).await.unwrap();
        Self { ground, disk }
    }

    async fn run(&self, order: &Order) -> Vec<Numbered> {
        let mut command = self.disk.enter().to_vec();
        command.push(env!("CARGO_BIN_EXE_mayfly").to_owned());
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let (mut worker, base) = started(self.ground.launch(&command, PREFIX)).await;
        let events = read_whole(post(&base, order).await.unwrap()).await;
        assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
        events
    }

    /// The keys of all objects, and the state of the session; without the outcomes of jobs, and without the packs that sessions of a repository
    /// share: another job may lean on one as soon as it is there, so only the collection of garbage may remove it.
    async fn standing(&self) -> (Vec<String>, Value) {
        let objects = self.ground.objects(PREFIX).await;
        let session = Found::among(&objects).map_or(Value::Null, |found| found.state());
        let mut keys: Vec<String> = objects.into_iter().map(|(key, _)| key).collect();
        keys.retain(|key| !key.contains("/jobs/") && !is_shared_pack(key));
        (keys, session)
    }

    /// The job does not fit, and leaves everything as it was; it is done as soon as there is room.
    async fn ends_and_goes_on(&self, orders: &[Order]) {
        let before = self.standing().await;
        for order in orders {
            let events = self.run(order).await;
            let failure = failed(&events);
            assert_eq!(
                (failure.code, failure.retryable),
                (ErrorCode::DiskFull, true),
                "{failure:?}"
            );
            assert_eq!(self.standing().await, before, "{}", order.body["sessionId"]);
            assert!(self.ground.storage.unfinished().await.unwrap().is_empty());
            let tmp = self.disk.seen_from_outside(&self.ground.tmp());
            assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0);
        }
        self.disk.make_room().await;
        for order in orders {
            completed(&self.run(&order.again()).await);
        }
        assert_ne!(self.standing().await.1, before.1);
    }
}

fn is_shared_pack(key: &str) -> bool {
    key.contains("/repositories/") && key.contains("/packs/")
}

async fn a_full_disk_ends_the_job(folder: &str) {
    let cramped = Cramped::with_small(folder).await;
    let ground = &cramped.ground;
    let bare = ground.host.publish(&TestRepo::sample(), REPOSITORY);
    let clone = Order::new("/clone-repository", ground.clone_body(NAME));
    completed(&cramped.run(&clone).await);
    let changes = json!({"sessionId": NAME, "files": [{"path": "made.txt", "content": "made\n"}]});
    completed(&cramped.run(&Order::new("/apply-changes", changes)).await);

    let big = TestRepo::sample();
    big.write_noise("big.bin", BIG_BYTES, 2).commit("Grow");
    ground.host.publish(&big, "big");
    bare.commit_behind_their_back("main", "big.txt", &big_text());
    let mut unknown = ground.clone_body("unknown");
    unknown["repoUrl"] = ground.repo_url().replace(REPOSITORY, "big").into();
    let known = ground.clone_body("known");
    let unknown = Order::new("/clone-repository", unknown);
    let known = Order::new("/clone-repository", known);
    cramped
        .ends_and_goes_on(&[unknown, known, clone.as_another()])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_scratch_files() {
    a_full_disk_ends_the_job("tmp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_storage() {
    a_full_disk_ends_the_job("storage").await;
}
