//! Git LFS: pointers are written as they are read, and a batch answer leads nowhere that it may not.

use mayfly_lfs::fuzzing::batch_requests;
use mayfly_protocol::lfs::{LfsId, LfsPointer};
use time::OffsetDateTime;

use crate::Input;

pub fn check(data: &[u8]) {
    check_pointer(data);
    let mut input = Input::new(data);
    let contents = 1 + input.byte() % 3;
    let asked: Vec<LfsPointer> = (0..contents)
        .map(|number| LfsPointer {
            id: LfsId::from_bytes([number; 32]),
            bytes: 10,
        })
        .collect();
    for (url, headers) in batch_requests(input.rest(), &asked, OffsetDateTime::UNIX_EPOCH).unwrap_or_default()
    {
        assert!(matches!(url.scheme(), "http" | "https"));
        assert!(url.username().is_empty() && url.password().is_none());
        assert!(headers.len() <= 32 && headers.values().all(|value| value.is_sensitive()));
        for name in [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "upgrade",
            "expect",
        ] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }
}

fn check_pointer(text: &[u8]) {
    let Some(pointer) = LfsPointer::parse(text) else {
        return;
    };
    assert!(LfsPointer::is_meant(text));
    let written = pointer.to_text();
    assert_eq!(LfsPointer::parse(written.as_bytes()), Some(pointer));
}
