//! The file of keys: a JSON object a line; empty lines and those that begin with `#` are skipped.
//!
//! It is taken whole or not at all, so that a slip in one line locks nobody out.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use mayfly_server::WatchedFile;

use super::caller::KeyId;
use super::key::{KeyHash, id_of};
use super::key_line::{InvalidKeyLine, KeyLine, KnownKey};

/// The file of keys cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("`{}` cannot be read; name a file of keys that this process may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is empty, as a file is while somebody writes it.
    #[error("`{}` is empty; where no key is to be in force, it has a line that begins with `#`", .0.display())]
    Empty(PathBuf),
    /// It is not text.
    #[error("`{}` is not UTF-8", .0.display())]
    NotText(PathBuf),
    /// A line is no key.
    #[error("line {number} of `{}` is no key; correct it, or take it out", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: InvalidKeyLine,
    },
    /// Two lines have one id.
    #[error("line {number} of `{}` has the id `{id}` of an earlier line; ids are unique", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The number of the later line, from 1.
        number: usize,
        /// The id.
        id: KeyId,
    },
}

/// The keys in force.
#[derive(Debug, Default)]
pub(crate) struct KeyRing(HashMap<KeyId, KnownKey>);

impl KeyRing {
    /// The number of keys, those that have expired among them.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn knows(&self, id: &KeyId) -> bool {
        self.0.contains_key(id)
    }

    /// The key with this text. Ids are no secret; the hashes are compared in constant time, and for an unknown id one is compared as well.
    pub(super) fn find(&self, text: &str) -> Option<&KnownKey> {
        let known = id_of(text).and_then(|id| self.0.get(&id));
        let expected = known.map_or(KeyHash::NONE, |known| known.hash);
        let is_it = KeyHash::of(text).is(expected);
        known.filter(|_| is_it)
    }
}

pub(super) async fn read(file: &mut WatchedFile) -> Result<KeyRing, KeyFileError> {
    let path = file.path().to_owned();
    match file.read().await {
        Ok(bytes) => parse(path, bytes),
        Err(source) => Err(KeyFileError::Unreadable { path, source }),
    }
}

pub(super) fn parse(path: PathBuf, bytes: Vec<u8>) -> Result<KeyRing, KeyFileError> {
    if bytes.is_empty() {
        return Err(KeyFileError::Empty(path));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(KeyFileError::NotText(path));
    };
    let mut keys = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let known = match KeyLine::parse(line) {
            Ok(known) => known,
            Err(source) => return Err(KeyFileError::Line { path, number, source }),
        };
        let id = known.id.clone();
        if keys.insert(id.clone(), known).is_some() {
            return Err(KeyFileError::Twice { path, number, id });
        }
    }
    Ok(KeyRing(keys))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use mayfly_protocol::ExposeSecret as _;

    use super::*;
    use crate::access::{CallerLimits, NewKey, Scope};

    fn line(key: &NewKey, tenant: &str) -> String {
        let tenant = tenant.parse().unwrap();
        KeyLine::of(key, tenant, vec![Scope::Jobs], None, CallerLimits::default()).to_json()
    }

    fn ring(text: &str) -> Result<KeyRing, KeyFileError> {
        parse(PathBuf::from("keys"), text.as_bytes().to_vec())
    }

    #[test]
    fn a_key_is_found_by_its_whole_text() {
        let (one, two, stranger) = (
            NewKey::random().unwrap(),
            NewKey::random().unwrap(),
            NewKey::random().unwrap(),
        );
        let text = format!("# keys\n\n{}\r\n{}\n", line(&one, "acme"), line(&two, "zoo"));
        let ring = ring(&text).unwrap();
        assert_eq!(ring.len(), 2);
        let found = ring.find(two.text.expose_secret()).unwrap();
        assert_eq!(found.caller.tenant.as_str(), "zoo");
        let known = one.text.expose_secret();
        let forged = format!(
            "{}{}",
            &known[..known.len() - 1],
            if known.ends_with('0') { '1' } else { '0' }
        );
        for text in [stranger.text.expose_secret(), &forged, "", "mfk_", &known[..20]] {
            assert!(ring.find(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_no_key_is_told_by_its_number_and_its_field() {
        let good = line(&NewKey::random().unwrap(), "acme");
        for (bad, reason) in [
            ("nonsense".to_owned(), "not the JSON"),
            (good.replacen("\"id\"", "\"name\"", 1), "not the JSON"),
            (good.replacen("acme", "../x", 1), "not the JSON"),
            (good.replacen("[\"jobs\"]", "[]", 1), "`scopes`"),
            (good.replacen("[\"jobs\"]", "[\"admin\"]", 1), "not the JSON"),
            (good.replacen("\"sha256\":\"", "\"sha256\":\"x", 1), "`sha256`"),
            (good.replacen('}', ",\"expires\":\"soon\"}", 1), "`expires`"),
            (
                good.replacen('}', ",\"limits\":{\"streams\":0}}", 1),
                "not the JSON",
            ),
        ] {
            let error = ring(&format!("{good}\n{bad}\n")).unwrap_err();
            assert!(error.to_string().contains("line 2 of `keys`"), "{error}");
            let source = error.source().unwrap().to_string();
            assert!(source.contains(reason), "{bad}: {source}");
        }
        assert!(matches!(ring(""), Err(KeyFileError::Empty(_))));
        assert_eq!(ring("# none").unwrap().len(), 0);
        let twice = ring(&format!("{good}\n{good}\n")).unwrap_err();
        assert!(twice.to_string().contains("of an earlier line"), "{twice}");
    }
}
