//! The capabilities that a remote advertises. Pure.

/// Names, each with an optional value, as in `agent=git/2.50 side-band-64k fetch=shallow filter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(Vec<(String, Option<String>)>);

impl Capabilities {
    /// Reads the list of protocol v0 and v1, which stands in one line behind the first ref (gitprotocol-capabilities(5)).
    pub(crate) fn from_line(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        Self(text.split_ascii_whitespace().map(entry).collect())
    }

    /// Adds a capability of protocol v2, which has a line of its own (gitprotocol-v2(5)).
    pub(crate) fn push_line(&mut self, line: &[u8]) {
        self.0.push(entry(&String::from_utf8_lossy(line)));
    }

    /// Whether the name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The values of every entry with the name.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// Whether the value of a v2 command lists the feature.
    pub(crate) fn command_has(&self, command: &str, feature: &str) -> bool {
        self.values(command)
            .any(|value| value.split(' ').any(|f| f == feature))
    }

    /// Whether the ids of the repository are SHA-1.
    pub(crate) fn is_sha1(&self) -> bool {
        self.values("object-format")
            .next()
            .is_none_or(|format| format == "sha1")
    }
}

fn entry(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let line = Capabilities::from_line(b" side-band-64k symref=HEAD:refs/heads/x object-format=sha1");
        assert!(line.has("side-band-64k") && line.is_sha1() && !line.has("side-band"));
        assert_eq!(line.values("symref").collect::<Vec<_>>(), ["HEAD:refs/heads/x"]);
        let mut v2 = Capabilities::default();
        v2.push_line(b"fetch=shallow wait-for-done");
        v2.push_line(b"object-format=sha256");
        assert!(v2.command_has("fetch", "shallow") && !v2.command_has("fetch", "wait") && !v2.is_sha1());
    }
}
