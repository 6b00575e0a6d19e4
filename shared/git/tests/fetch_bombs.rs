//! Packs that are made to harm: each is refused while it arrives, before it costs memory or time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "transport/setup.rs"]
#[expect(dead_code, reason = "shared with the tests of other fetches")]
mod setup;

use std::io::Write;

use gix_zlib::Compression;
use gix_zlib::stream::deflate;
use mayfly_git::fetch::FetchError;
use mayfly_protocol::ErrorCode;
use mayfly_testkit::git;
use mayfly_testkit::git_host::{Fault, GitHost, On};
use mayfly_testkit::pack::{Pack, copies, fetch_answer, varint};
use mayfly_testkit::repo::TestRepo;
use setup::Run;

/// Content compressed as well as can be.
fn deflated(content: &[u8]) -> Vec<u8> {
    let mut out = deflate::Write::new(Vec::new(), Compression::BEST);
    out.write_all(content).unwrap();
    out.flush().unwrap();
    out.into_inner()
}

/// Serves the pack as the answer of a fetch by protocol 2.
fn host_with(pack: &[u8]) -> GitHost {
    let host = GitHost::start();
    host.publish(&TestRepo::sample(), "r");
    host.fail_times(
        On::UploadPack,
        1,
        Fault::Trickle {
            bytes: 1 << 20,
            every: std::time::Duration::ZERO,
        },
    );
    let answer = fetch_answer(pack);
    host.fail(On::UploadPack, Fault::Lie(answer));
    host
}

async fn refused(pack: &[u8]) -> FetchError {
    Run::of(&host_with(pack), "r").failure().await
}

#[tokio::test]
async fn a_well_formed_pack_passes() {
    let mut pack = Pack::new();
    let base = pack.blob(b"content");
    pack.grown(base, 7, 21);
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(b"blob 7\0content");
    let id = hasher.try_finalize().unwrap();
    let by_id = copies(7, 14);
    pack.entry(7, by_id.len() as u64, id.as_slice(), &by_id);
    let host = host_with(&pack.finish());
    let run = Run::of(&host, "r");
    let pack = run.fetch().await.unwrap().pack.unwrap();
    assert_eq!(pack.objects, 3);
    git::stdout(git::command(run.into.path()).arg("verify-pack").arg(pack.index));
}

#[tokio::test]
async fn a_chain_of_deltas_that_makes_gigabytes_is_refused() {
    let mut pack = Pack::new();
    let mut size = 16;
    let mut at = pack.blob(&[b'x'; 16]);
    while size < 4 << 30 {
        let times = (0xff_ffff / size).clamp(2, 16);
        at = pack.grown(at, size, size * times);
        size *= times;
        if size > 0xff_ffff {
            // A copy reaches 16 MiB at most; the size that is claimed is what counts.
            pack.delta(at, &[varint(size), varint(4 << 30), vec![0x90, 1]].concat());
            break;
        }
    }
    let pack = pack.finish();
    assert!(pack.len() < 1000, "{}", pack.len());
    assert_eq!(refused(&pack).await.code(), ErrorCode::ObjectTooLarge);
}

#[tokio::test]
async fn deflated_zeros_are_refused_by_their_size() {
    let zeros = vec![0; 600 << 20];
    let (length, zeros) = (zeros.len() as u64, deflated(&zeros));
    let mut pack = Pack::new();
    pack.deflated_entry(3, length, &[], &zeros);
    let pack = pack.finish();
    assert!(pack.len() < 1 << 20);
    assert_eq!(refused(&pack).await.code(), ErrorCode::ObjectTooLarge);
    // Claiming to be small does not help.
    let mut pack = Pack::new();
    pack.deflated_entry(3, 10, &[], &zeros);
    assert_eq!(refused(&pack.finish()).await.code(), ErrorCode::RemoteProtocol);
}

#[tokio::test]
async fn long_chains_are_refused() {
    let mut pack = Pack::new();
    let mut at = pack.blob(b"x");
    for _ in 0..4096 {
        at = pack.delta(at, &[1, 1, 0x90, 1]);
    }
    let error = refused(&pack.finish()).await;
    assert!(error.to_string().contains("chain of deltas"), "{error}");
}

#[tokio::test]
async fn lies_about_the_pack_are_refused() {
    let blob = |content: &[u8]| {
        let mut pack = Pack::new();
        pack.blob(content);
        pack
    };
    let mut wrong_checksum = blob(b"x").finish();
    *wrong_checksum.last_mut().unwrap() ^= 1;
    let mut damaged = blob(b"some content").finish();
    damaged[20] ^= 0xff;
    let mut followed = blob(b"x").finish();
    followed.extend_from_slice(b"more");
    let mut outside = Pack::new();
    outside.blob(b"x");
    outside.entry(6, 4, &[0x7f], &[1, 1, 0x90, 1]);
    let mut nowhere = Pack::new();
    nowhere.entry(7, 4, &[9; 20], &[1, 1, 0x90, 1]);
    let mut between = Pack::new();
    let base = between.blob(b"some longer content");
    between.delta(base + 1, &[19, 1, 0x90, 1]);
    let mut wrong_base_size = Pack::new();
    let base = wrong_base_size.blob(b"x");
    wrong_base_size.delta(base, &[9, 1, 0x90, 1]);
    let mut unknown = Pack::new();
    unknown.entry(5, 1, &[], b"x");
    let mut more = blob(b"x");
    more.blob(b"y");
    let mut short = Pack::new();
    short.entry(3, 99, &[], b"x");
    for (name, pack) in [
        ("wrong checksum", wrong_checksum),
        ("damaged", damaged),
        ("followed", followed),
        ("base outside", outside.finish()),
        ("base nowhere", nowhere.finish()),
        ("base between", between.finish()),
        ("wrong size of base", wrong_base_size.finish()),
        ("unknown type", unknown.finish()),
        ("short", short.finish()),
        ("fewer objects", blob(b"x").finish_claiming(2)),
        ("more objects", more.finish_claiming(1)),
        ("no pack", b"JUNK\0\0\0\x02\0\0\0\0".to_vec()),
        ("version", b"PACK\0\0\0\x09\0\0\0\0".to_vec()),
        ("only a header", b"PACK\0\0\0\x02\0\0\0\x01".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let error = refused(&pack).await;
        assert_eq!(error.code(), ErrorCode::RemoteProtocol, "{name}: {error:?}");
    }
    let many = refused(b"PACK\0\0\0\x02\xff\xff\xff\xff").await;
    assert_eq!(many.code(), ErrorCode::TooManyObjects);
}

#[tokio::test]
async fn a_pack_without_objects_is_nothing_new() {
    let run_host = host_with(&Pack::new().finish());
    let run = Run::of(&run_host, "r");
    assert_eq!(run.fetch().await.unwrap().pack, None);
    assert_eq!(setup::files(run.into.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_flood_of_messages_is_refused_and_words_are_made_safe() {
    let host = GitHost::start();
    host.publish(&TestRepo::sample(), "r");
    let pass = Fault::Trickle {
        bytes: 1 << 20,
        every: std::time::Duration::ZERO,
    };
    host.fail_times(On::UploadPack, 1, pass.clone());
    let mut flood = b"000dpackfile\n".to_vec();
    flood.extend(b"0015\x02evil\r\ndata: {}\x1b\n".repeat(100_000));
    host.fail(On::UploadPack, Fault::Lie(flood));
    let run = Run::of(&host, "r");
    assert_eq!(run.failure().await.code(), ErrorCode::RemoteProtocol);
    let seen = run.progress.lock().unwrap();
    assert!((1..20).contains(&seen.len()), "{}", seen.len());
    assert_eq!(
        seen[0],
        mayfly_git::fetch::FetchProgress::Remote("data: {}".to_owned())
    );
}
