//! Files of keys: taken whole or not at all, and what is refused is not quoted.

use mayfly_gateway::fuzzing::keys;

/// Shorter pieces stand in all sorts of texts by chance.
const MIN_SECRET_BYTES: usize = 12;

pub fn check(data: &[u8]) {
    let taken = keys(data);
    let lines = || data.split(|byte| *byte == b'\n');
    match taken {
        Ok(keys) => {
            assert!(keys <= lines().count());
            // The same lines once more have ids that are known.
            let twice = [data, b"\n", data].concat();
            assert_eq!(self::keys(&twice).is_ok(), keys == 0);
        }
        Err(error) => {
            for word in lines().flat_map(|line| line.split(u8::is_ascii_whitespace)) {
                // Somebody may have put a key there.
                let key = std::str::from_utf8(word)
                    .ok()
                    .filter(|word| word.starts_with("mfk_"));
                assert!(
                    key.is_none_or(|key| key.len() < MIN_SECRET_BYTES || !error.contains(key)),
                    "{error}"
                );
            }
        }
    }
}
