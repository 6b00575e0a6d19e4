//! Chooses the files that the jobs change.

use std::path::Path;

use anyhow::ensure;

use super::git;

/// The sizes of files that people edit, in bytes.
const SIZES: std::ops::Range<u64> = 200..100_000;

/// Chooses text files that are spread evenly over the tree of a branch.
pub(super) fn choose(bare: &Path, branch: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let listing = git::bytes(bare, &["ls-tree", "-r", "-z", "--long", branch])?;
    let fitting: Vec<&str> = listing
        .split(|&byte| byte == 0)
        .filter_map(fitting_path)
        .collect();
    let mut chosen = Vec::with_capacity(count);
    for number in 0..count {
        let (from, to) = (
            fitting.len() * number / count,
            fitting.len() * (number + 1) / count,
        );
        for path in fitting.get(from..to).unwrap_or_default() {
            let content = git::bytes(bare, &["show", &format!("{branch}:{path}")])?;
            if std::str::from_utf8(&content).is_ok_and(|text| text.ends_with('\n') && !text.contains('\0')) {
                chosen.push((*path).to_owned());
                break;
            }
        }
    }
    ensure!(
        chosen.len() == count,
        "`{branch}` has too few text files for {count} to be changed; lower --files"
    );
    Ok(chosen)
}

/// The path in a line of `git ls-tree --long`, where the file is plain, of an editable size, and has a name that needs no quoting.
fn fitting_path(line: &[u8]) -> Option<&str> {
    let (meta, path) = std::str::from_utf8(line).ok()?.split_once('\t')?;
    let mut fields = meta.split_whitespace();
    let mode = fields.next()?;
    let size: u64 = fields.nth(2)?.parse().ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    (mode == "100644" && SIZES.contains(&size) && path.chars().all(is_plain)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_people_edit_fit() {
        let line =
            |mode: &str, size: &str, path: &str| format!("{mode} blob 0123abcd {size}\t{path}").into_bytes();
        for (mode, size, path, fits) in [
            ("100644", "    1234", "src/a.rs", true),
            ("100755", "1234", "run.sh", false),
            ("120000", "300", "link", false),
            ("100644", "10", "short", false),
            ("100644", "100000", "long", false),
            ("100644", "1234", "it's", false),
            ("160000", "-", "module", false),
        ] {
            assert_eq!(
                fitting_path(&line(mode, size, path)),
                fits.then_some(path),
                "{path}"
            );
        }
        assert_eq!(fitting_path(b""), None);
    }
}
