//! Reading objects by range out of real packs, and out of damaged ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mayfly_git::object::ObjectKind;
use mayfly_git::pack::PackFiles;
use mayfly_git::pack_reader::{PackReadError, PackReader, RangeError, RangeSource};
use mayfly_protocol::ObjectId;

use crate::support::{GitRepo, pack_files};

/// A file in memory that counts its reads.
#[derive(Default)]
struct Memory {
    content: Vec<u8>,
    reads: AtomicUsize,
}

impl Memory {
    fn new(content: Vec<u8>) -> Self {
        Self {
            content,
            reads: AtomicUsize::new(0),
        }
    }
}

#[async_trait::async_trait]
impl RangeSource for &Memory {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let slice = self.content.get(range.start as usize..range.end as usize);
        slice
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| RangeError("behind the end".into()))
    }
}

struct Files {
    index: Memory,
    pack: Memory,
}

impl Files {
    fn of(files: &PackFiles) -> Self {
        Self {
            index: Memory::new(std::fs::read(&files.index).unwrap()),
            pack: Memory::new(std::fs::read(&files.pack).unwrap()),
        }
    }

    fn reader(&self) -> PackReader<&Memory> {
        let (index, pack) = (self.index.content.len() as u64, self.pack.content.len() as u64);
        PackReader::new(&self.index, index, &self.pack, pack)
    }
}

/// A repository with long delta chains, an annotated tag and a file of several ranges, packed as git packs it.
fn delta_repo() -> GitRepo {
    let repo = GitRepo::new();
    let mut text: Vec<String> = (0..600)
        .map(|n| format!("line {n} {}", n * 7919 % 1009))
        .collect();
    let noise: Vec<u8> = (0..300_000u64)
        .map(|i| (i.wrapping_mul(6_364_136_223_846_793_005) >> 29) as u8)
        .collect();
    repo.write("noise", &noise);
    for commit in 0..60 {
        text[commit * 9 % 600] = format!("changed by {commit}");
        repo.write("dir/long", text.join("\n").as_bytes());
        repo.write(&format!("dir/{commit}"), b"small\n");
        repo.commit_all(&format!("commit {commit}"));
    }
    repo.git(&["tag", "-a", "-m", "tag", "v1"]);
    repo
}

fn repacked(repo: &GitRepo) -> PackFiles {
    repo.git(&["repack", "-a", "-d", "-f", "-q", "--depth=50", "--window=30"]);
    let folder = repo.path().join(".git/objects/pack");
    let names = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let hash = names
        .filter_map(|name| Some(name.strip_prefix("pack-")?.strip_suffix(".pack")?.to_owned()))
        .next();
    pack_files(&folder, &hash.unwrap())
}

fn all_objects(repo: &GitRepo) -> BTreeMap<ObjectId, (String, Vec<u8>)> {
    let listed = repo.git(&[
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objectname) %(objecttype)",
    ]);
    let objects = listed.lines().map(|line| line.split_once(' ').unwrap());
    let read = objects.map(|(id, kind)| {
        (
            id.parse().unwrap(),
            (kind.to_owned(), repo.git_raw(&["cat-file", kind, id])),
        )
    });
    read.collect()
}

#[tokio::test]
async fn every_object_of_a_pack_is_read() {
    let repo = delta_repo();
    let objects = all_objects(&repo);
    for by_offset in ["true", "false"] {
        repo.git(&["config", "repack.useDeltaBaseOffset", by_offset]);
        let files = repacked(&repo);
        let chains = repo.git(&["verify-pack", "-v", files.index.to_str().unwrap()]);
        assert!(chains.contains("chain length = 30"), "{chains}");
        let files = Files::of(&files);
        let reader = files.reader();
        for (id, (kind, content)) in &objects {
            let (read_kind, read) = reader.read_object(id, 1 << 20).await.unwrap().unwrap();
            assert_eq!((read_kind.to_string(), &read), (kind.clone(), content), "{id}");
        }
        assert_eq!(
            files.index.reads.load(Ordering::Relaxed),
            1,
            "a small index is read once"
        );
        let absent: ObjectId = "12".repeat(20).parse().unwrap();
        assert_eq!(reader.read_object(&absent, 1 << 20).await.unwrap(), None);
    }
}

#[tokio::test]
async fn sizes_are_bounded_before_anything_is_built() {
    let repo = delta_repo();
    let files = Files::of(&repacked(&repo));
    for name in ["HEAD:noise", "HEAD:dir/long", "HEAD~30:dir/long", "HEAD:dir"] {
        let id = repo.id(name);
        let bytes: u64 = repo.git(&["cat-file", "-s", name]).parse().unwrap();
        let error = files.reader().read_object(&id, bytes - 1).await.unwrap_err();
        assert!(
            matches!(error, PackReadError::TooLarge { id: at, max } if at == id && max == bytes - 1),
            "{error}"
        );
        assert_eq!(
            files
                .reader()
                .read_object(&id, bytes)
                .await
                .unwrap()
                .unwrap()
                .1
                .len() as u64,
            bytes
        );
    }
}

#[tokio::test]
async fn damage_never_gives_another_object() {
    let repo = delta_repo();
    let sound = repacked(&repo);
    let id = repo.id("HEAD~40:dir/long");
    let expected = repo.git_raw(&["cat-file", "blob", &id.to_string()]);
    let mut refused = 0;
    for step in 0..400 {
        let mut files = Files::of(&sound);
        let file = if step % 2 == 0 {
            &mut files.pack.content
        } else {
            &mut files.index.content
        };
        let at = (step * 7919) % file.len();
        file[at] ^= 1 << (step % 8);
        let length = file.len().min(2000);
        if step % 5 == 0 {
            let start = (step * 104_729) % (file.len() - length + 1);
            file[start..start + length].fill(0);
        }
        match files.reader().read_object(&id, 1 << 20).await {
            Ok(Some((kind, content))) => assert_eq!((kind, &content), (ObjectKind::Blob, &expected)),
            Ok(None) | Err(PackReadError::Damaged { .. } | PackReadError::TooLarge { .. }) => refused += 1,
            Err(PackReadError::Source(error)) => panic!("a read behind the end: {error}"),
        }
    }
    assert!(refused > 50, "{refused}");
}

#[tokio::test]
async fn files_that_are_cut_or_empty_are_damaged() {
    let repo = delta_repo();
    let sound = repacked(&repo);
    let id = repo.id("HEAD:noise");
    for (index_keeps, pack_keeps) in [
        (0, 1.0),
        (1031, 1.0),
        (1032, 1.0),
        (2000, 1.0),
        (usize::MAX, 0.0),
        (usize::MAX, 0.5),
    ] {
        let mut files = Files::of(&sound);
        files.index.content.truncate(index_keeps);
        let bytes = files.pack.content.len() as f64 * pack_keeps;
        files.pack.content.truncate(bytes as usize);
        let outcome = files.reader().read_object(&id, 1 << 20).await;
        let is_whole = matches!(&outcome, Ok(Some(_))) && pack_keeps == 0.5;
        assert!(
            matches!(outcome, Err(PackReadError::Damaged { .. })) || is_whole,
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_failing_source_is_told_apart() {
    let (empty, files) = (Memory::default(), Files::of(&repacked(&delta_repo())));
    let reader = PackReader::new(&empty, files.index.content.len() as u64, &files.pack, 1000);
    let error = reader.read_object(&ObjectId::EMPTY_TREE, 1).await.unwrap_err();
    assert!(matches!(error, PackReadError::Source(_)), "{error}");
}

/// An index and a pack by hand: two deltas by id that build on each other, and offsets of eight bytes.
fn by_hand(ids: [ObjectId; 2], entries: [&[u8]; 2], large: bool) -> Files {
    let mut pack = b"PACK\0\0\0\x02\0\0\0\x02".to_vec();
    let mut offsets = Vec::new();
    for entry in entries {
        offsets.push(pack.len() as u64);
        pack.extend_from_slice(entry);
    }
    pack.extend_from_slice(&[0; 20]);
    let mut index = vec![0xff, b't', b'O', b'c', 0, 0, 0, 2];
    for first in 0..=255u8 {
        let count = ids.iter().filter(|id| id.as_bytes()[0] <= first).count() as u32;
        index.extend_from_slice(&count.to_be_bytes());
    }
    ids.iter().for_each(|id| index.extend_from_slice(id.as_bytes()));
    index.extend_from_slice(&[0; 8]);
    for (number, offset) in offsets.iter().enumerate() {
        let small = if large {
            1 << 31 | number as u32
        } else {
            *offset as u32
        };
        index.extend_from_slice(&small.to_be_bytes());
    }
    if large {
        offsets
            .iter()
            .for_each(|offset| index.extend_from_slice(&offset.to_be_bytes()));
    }
    index.extend_from_slice(&[0; 40]);
    Files {
        index: Memory::new(index),
        pack: Memory::new(pack),
    }
}

/// `hello` by zlib.
const HELLO: &[u8] = &[
    0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06, 0x2c, 0x02, 0x15,
];

#[tokio::test]
async fn offsets_of_eight_bytes() {
    let hello: ObjectId = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".parse().unwrap();
    let other: ObjectId = "ff".repeat(20).parse().unwrap();
    let entry = [&[0x35], HELLO].concat();
    for large in [false, true] {
        let files = by_hand([hello, other], [&entry, &entry], large);
        let read = files.reader().read_object(&hello, 5).await.unwrap();
        assert_eq!(read, Some((ObjectKind::Blob, b"hello".to_vec())));
        // The same content under another id is damage.
        assert!(matches!(
            files.reader().read_object(&other, 5).await,
            Err(PackReadError::Damaged { .. })
        ));
    }
    let mut lying = by_hand([hello, other], [&entry, &entry], true);
    let at = 8 + 1024 + 2 * 24;
    lying.index.content[at..at + 4].copy_from_slice(&[0xff; 4]);
    assert!(matches!(
        lying.reader().read_object(&hello, 5).await,
        Err(PackReadError::Damaged { .. })
    ));
}

#[tokio::test]
async fn deltas_that_build_on_each_other_end() {
    let (one, two): (ObjectId, ObjectId) =
        ("11".repeat(20).parse().unwrap(), "22".repeat(20).parse().unwrap());
    // A stored zlib block with the delta: base of 1 byte, result of 1 byte, insert `x`.
    let delta = [
        0x78, 0x01, 0x01, 4, 0, 0xfb, 0xff, 1, 1, 1, b'x', 0, 0x85, 0, 0x7c,
    ];
    let entry = |base: &ObjectId| [&[0x74][..], base.as_bytes(), &delta].concat();
    let files = by_hand([one, two], [&entry(&two), &entry(&one)], false);
    let error = files.reader().read_object(&one, 1000).await.unwrap_err();
    assert!(
        matches!(error, PackReadError::Damaged { .. }) && error.to_string().contains("itself"),
        "{error}"
    );
    assert!(files.pack.reads.load(Ordering::Relaxed) < 10);
    let absent = by_hand([one, two], [&entry(&ObjectId::EMPTY_TREE), &entry(&one)], false);
    let error = absent.reader().read_object(&one, 1000).await.unwrap_err();
    assert!(error.to_string().contains("not in the pack"), "{error}");
}
