//! The libraries that are really linked: none that is banned, and none older than its last known hole.
//!
//! Advisory databases list Rust crates, and not the C code inside them, so the bundled libgit2 is checked here.

use super::Finding;

/// The file that cargo writes.
pub(super) const PATH: &str = "Cargo.lock";

/// Libraries that must not be linked, with what is used instead.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "rustls uses ring"),
    ("aws-lc-sys", "rustls uses ring"),
    ("native-tls", "TLS is rustls"),
    ("openssl", "TLS is rustls"),
    ("openssl-sys", "TLS is rustls"),
];

/// The oldest allowed version of a library; where a crate bundles C code, that of the code (after the `+`).
const OLDEST: &[(&str, [u64; 3])] = &[
    ("h2", [0, 4, 16]),
    ("libgit2-sys", [1, 9, 7]),
    ("tar", [0, 4, 45]),
];

pub(super) fn check(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, name, version) in packages(text) {
        if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            findings.push(Finding::new(
                PATH,
                line,
                format!("`{name}` is linked, and banned ({instead}): `cargo tree -i {name}` shows by whom"),
            ));
        }
        let oldest = OLDEST.iter().find(|(known, _)| *known == name);
        if let Some((_, [major, minor, patch])) =
            oldest.filter(|(_, oldest)| parse(version).is_none_or(|found| found < *oldest))
        {
            let what = format!(
                "`{name}` {version} has known holes: {major}.{minor}.{patch} or newer is needed (`cargo update -p {name}`)"
            );
            findings.push(Finding::new(PATH, line, what));
        }
    }
    if text.is_empty() {
        findings.push(Finding::new(
            PATH,
            1,
            "is missing: it is committed, so that everybody builds the same",
        ));
    }
    findings
}

/// Line, name and version of each package.
fn packages(text: &str) -> Vec<(usize, &str, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut packages = Vec::new();
    for (index, window) in lines
        .windows(3)
        .enumerate()
        .filter(|(_, window)| window[0] == "[[package]]")
    {
        if let (Some(name), Some(version)) = (value(window[1], "name"), value(window[2], "version")) {
            packages.push((index + 2, name, version));
        }
    }
    packages
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
}

fn parse(version: &str) -> Option<[u64; 3]> {
    let version = version.split_once('+').map_or(version, |(_, bundled)| bundled);
    let mut numbers = version.split(['.', '-']).map(str::parse);
    Some([
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, version: &str) -> usize {
        check(&format!(
            "version = 4\n\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n"
        ))
        .len()
    }

    #[test]
    fn banned_and_old_libraries_are_found() {
        for (name, version, expected) in [
            ("openssl-sys", "1.0.0", 1),
            ("serde", "1.0.0", 0),
            ("h2", "0.4.15", 1),
            ("h2", "0.4.16", 0),
            ("libgit2-sys", "0.18.2+1.9.1", 1),
            ("libgit2-sys", "0.18.8+1.9.7", 0),
            ("libgit2-sys", "0.19.0+1.10.0", 0),
            ("libgit2-sys", "strange", 1),
        ] {
            assert_eq!(count(name, version), expected, "{name} {version}");
        }
        assert_eq!(check("").len(), 1);
    }
}
