//! The binary itself: processes that are really started, really refuse, really exit; counted by process id.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod fleet {
    mod bench;
    mod bench_gateway;
    mod cancelling;
    mod client;
    mod clients;
    mod collecting;
    mod damaged;
    mod flood;
    mod health;
    mod interrupted;
    mod keys;
    mod left;
    mod operators;
    mod outcomes;
    mod redis;
    mod restart;
    mod rig;
    mod sandbox;
    mod sessions;
    mod storage;
    mod traces;
    mod up;
    mod wire;
    mod worker;
}
