//! Tokens that are looked for afterwards: in bytes, files and processes, in every form in which a token travels.
//!
//! Not found inside compressed data, such as git objects: what may hold repository content is checked before it is packed.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bstr::ByteSlice;
use mayfly_protocol::SecretString;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

/// A random token; it has characters that percent-encoding changes.
#[derive(Debug, Clone)]
pub struct Canary {
    token: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    /// Makes a token that nobody else has.
    pub fn new() -> Self {
        Self::of(&format!(
            "canary+{}/{}",
            Uuid::new_v4().simple(),
            Uuid::new_v4().simple()
        ))
    }

    /// Looks for a token that exists already, such as one of a [`crate::git_host::GitHost`].
    pub fn of(token: &str) -> Self {
        Self {
            token: token.to_owned(),
            forms: forms(token),
        }
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.token
    }

    /// The token as the code under test takes it.
    pub fn secret(&self) -> SecretString {
        SecretString::from(self.token.clone())
    }

    /// Whether the bytes hold the token: plain, percent-encoded, in hexadecimal, or in base64 after whatever prefix.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| bytes.contains_str(form))
    }

    /// The files and folders below a folder that hold the token, in their content, name or link target.
    pub fn found_below(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            // A folder that has gone meanwhile holds nothing.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if self.is_in(entry.file_name().as_bytes()) || self.is_in(&content(&path)) {
                    found.push(path.clone());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                }
            }
        }
        found
    }

    /// Where in `/proc/<pid>` the token stands: `cmdline`, `environ`; empty for a process that is gone.
    ///
    /// A process that has only just been started may not show them yet: ask after its first words.
    pub fn found_in_process(&self, pid: u32) -> Vec<&'static str> {
        let holds = |file: &&str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            self.is_in(&bytes)
        };
        ["cmdline", "environ"].into_iter().filter(holds).collect()
    }

    /// Panics if the text holds the token; the message does not repeat it.
    #[track_caller]
    pub fn assert_not_in(&self, what: &str, bytes: impl AsRef<[u8]>) {
        assert!(!self.is_in(bytes.as_ref()), "the token is in {what}");
    }

    /// Panics if a file below the folder holds the token.
    #[track_caller]
    pub fn assert_not_below(&self, folder: &Path) {
        let found = self.found_below(folder);
        assert!(found.is_empty(), "the token is in {found:?}");
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

fn content(path: &Path) -> Vec<u8> {
    match std::fs::read_link(path) {
        Ok(target) => target.as_os_str().as_bytes().to_vec(),
        // Neither folders nor files that have gone meanwhile can be read.
        Err(_) => std::fs::read(path).unwrap_or_default(),
    }
}

fn forms(token: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![
        token.as_bytes().to_vec(),
        utf8_percent_encode(token, NON_ALPHANUMERIC)
            .to_string()
            .into_bytes(),
        token.replace('+', "%2B").replace('/', "%2F").into_bytes(),
        token
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into_bytes(),
    ];
    for before in 0..3 {
        forms.extend(base64_core(token, before));
    }
    forms
}

/// What all base64 texts have in common in which `before` bytes (modulo 3) stand before the token: the digits that
/// depend on the token alone.
fn base64_core(token: &str, before: usize) -> [Vec<u8>; 2] {
    let padded = [vec![0; before], token.as_bytes().to_vec()].concat();
    let first = (before * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    let core = |text: String| text.as_bytes()[first..last].to_vec();
    [
        core(STANDARD_NO_PAD.encode(&padded)),
        core(URL_SAFE_NO_PAD.encode(&padded)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_token_is_found_in_every_form() {
        let canary = Canary::new();
        let token = canary.as_str();
        for text in [
            format!("https://x-access-token:{token}@host/"),
            STANDARD.encode(format!("x-access-token:{token}")),
            STANDARD.encode(token),
            STANDARD.encode(format!("a:{token}:more")),
            STANDARD.encode(format!("ab:{token}\n")),
            URL_SAFE_NO_PAD.encode(format!("oauth2:{token}")),
            utf8_percent_encode(token, NON_ALPHANUMERIC).to_string(),
            token.replace('/', "%2F").replace('+', "%2B"),
            serde_json::json!({ "a": token }).to_string(),
        ] {
            assert!(canary.is_in(format!("before {text} after").as_bytes()), "{text}");
        }
        let other = STANDARD.encode(format!("x-access-token:{}", Canary::new().as_str()));
        assert!(!canary.is_in(other.as_bytes()));
        assert!(!canary.is_in(&token.as_bytes()[..40]));
    }

    #[test]
    fn files_names_and_links_are_searched() {
        let canary = Canary::of("canary-1234567890");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("deep/er")).unwrap();
        std::fs::write(at("deep/er/file"), format!("x{}", canary.as_str())).unwrap();
        std::fs::write(at("innocent"), "canary").unwrap();
        std::os::unix::fs::symlink("/nowhere/canary-1234567890", at("link")).unwrap();
        std::fs::create_dir(at("canary-1234567890")).unwrap();
        let mut found = canary.found_below(folder.path());
        found.sort();
        assert_eq!(found, [at("canary-1234567890"), at("deep/er/file"), at("link")]);
        assert_eq!(canary.found_in_process(std::process::id()), [""; 0]);
    }
}
