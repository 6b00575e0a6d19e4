//! Secrets come from the environment, or from a file that the environment names (`NAME_FILE`); never from arguments.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use mayfly_protocol::SecretString;
use mayfly_server::bearer::FleetTokens;

/// The largest file that is read for a secret, in bytes.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;

/// Reads a secret that may be absent: `NAME`, or the file that `NAME_FILE` names.
#[expect(
    clippy::disallowed_methods,
    reason = "a secret has no flag, since arguments can be read by every user of the machine"
)]
pub(crate) fn from_environment(name: &str) -> anyhow::Result<Option<SecretString>> {
    let file = std::env::var_os(format!("{name}_FILE"))
        .filter(|file| !file.is_empty())
        .map(PathBuf::from);
    resolve(name, std::env::var(name).ok(), file.as_deref())
}

/// The tokens of the fleet: WORKER_TOKEN, one or, while they are changed, two with a comma between them.
pub(crate) fn worker_tokens() -> anyhow::Result<Option<FleetTokens>> {
    let list = from_environment("WORKER_TOKEN")?;
    let tokens = list.as_ref().map(FleetTokens::parse).transpose();
    tokens.context("WORKER_TOKEN cannot be used")
}

/// Takes the secret from its variable, or from its file without the line end.
fn resolve(name: &str, value: Option<String>, file: Option<&Path>) -> anyhow::Result<Option<SecretString>> {
    let text = match (value.filter(|value| !value.is_empty()), file) {
        (Some(_), Some(_)) => bail!("both {name} and {name}_FILE are set; unset one"),
        (Some(value), None) => value,
        (None, None) => return Ok(None),
        (None, Some(file)) => read(file).with_context(|| format!("{name}_FILE names {}", file.display()))?,
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(['\r', '\n', '\0']) {
        bail!("{name} is empty or has more than one line");
    }
    Ok(Some(SecretString::from(text.to_owned())))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(file).context("it cannot be read")?.len();
    if bytes > MAX_SECRET_FILE_BYTES {
        bail!("it has {bytes} bytes, more than a secret may ({MAX_SECRET_FILE_BYTES})");
    }
    std::fs::read_to_string(file).context("it cannot be read as text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_protocol::ExposeSecret as _;

    #[test]
    fn a_secret_comes_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        let resolved =
            |value: Option<&str>, file: Option<&Path>| resolve("TOKEN", value.map(str::to_owned), file);
        assert_eq!(
            resolved(None, Some(&file)).unwrap().unwrap().expose_secret(),
            "from-file"
        );
        assert_eq!(
            resolved(Some("direct"), None).unwrap().unwrap().expose_secret(),
            "direct"
        );
        assert!(resolved(None, None).unwrap().is_none());
        assert!(resolved(Some(""), None).unwrap().is_none());
        assert!(resolved(Some("a"), Some(&file)).is_err());
        assert!(resolved(None, Some(&folder.path().join("absent"))).is_err());
        std::fs::write(&file, "two\nlines").unwrap();
        assert!(resolved(None, Some(&file)).is_err());
    }
}
