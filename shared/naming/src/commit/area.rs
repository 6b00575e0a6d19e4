//! What a path says about the file: documentation, a test, the build, or the program itself.
//!
//! This file must not know what happened to the file.

/// The part of a repository that a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Docs,
    Test,
    Ci,
    Build,
    Settings,
    Source,
}

const CI_FOLDERS: &[&str] = &[
    ".github/workflows/",
    ".github/actions/",
    ".circleci/",
    ".ci/",
    ".buildkite/",
    ".woodpecker/",
];
const CI_FILES: &[&str] = &[
    ".gitlab-ci.yml",
    ".travis.yml",
    "jenkinsfile",
    "azure-pipelines.yml",
    ".drone.yml",
    "bitbucket-pipelines.yml",
    "appveyor.yml",
];
const BUILD_FILES: &[&str] = &[
    "build.gradle",
    "build.gradle.kts",
    "build.rs",
    "bun.lock",
    "cargo.lock",
    "cargo.toml",
    "cmakelists.txt",
    "compose.yaml",
    "compose.yml",
    "composer.json",
    "composer.lock",
    "docker-compose.yaml",
    "docker-compose.yml",
    "dockerfile",
    "flake.lock",
    "flake.nix",
    "gemfile",
    "gemfile.lock",
    "go.mod",
    "go.sum",
    "gradle.properties",
    "justfile",
    "makefile",
    "meson.build",
    "mix.exs",
    "mix.lock",
    "package-lock.json",
    "package.json",
    "pipfile",
    "pipfile.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "pom.xml",
    "pyproject.toml",
    "requirements.txt",
    "rust-toolchain.toml",
    "settings.gradle",
    "setup.cfg",
    "setup.py",
    "uv.lock",
    "yarn.lock",
];
const DOCS_FOLDERS: &[&str] = &["doc", "docs", "documentation", "man"];
const DOCS_EXTENSIONS: &[&str] = &["adoc", "asciidoc", "markdown", "md", "mdx", "rst"];
const DOCS_STEMS: &[&str] = &[
    "authors",
    "changelog",
    "code_of_conduct",
    "contributing",
    "copying",
    "license",
    "notice",
    "readme",
    "security",
];
const TEST_FOLDERS: &[&str] = &[
    "__tests__",
    "e2e",
    "fixtures",
    "spec",
    "specs",
    "test",
    "testdata",
    "tests",
];
const TEST_ENDINGS: &[&str] = &["_test", "_tests", "-test", ".test", ".spec", "_spec"];
const SETTINGS_EXTENSIONS: &[&str] = &["cfg", "conf", "ini", "properties", "toml", "yaml", "yml"];

impl Area {
    /// The area of a path with `/` between its components.
    pub(super) fn of(path: &str) -> Self {
        let path = path.to_ascii_lowercase();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, extension),
            _ => (name, ""),
        };
        let is_under = |folders: &[&str]| folder.split('/').any(|component| folders.contains(&component));
        if CI_FILES.contains(&name) || CI_FOLDERS.iter().any(|prefix| path.starts_with(prefix)) {
            Self::Ci
        } else if BUILD_FILES.contains(&name) || name.starts_with("dockerfile.") || extension == "dockerfile"
        {
            Self::Build
        } else if DOCS_EXTENSIONS.contains(&extension) || DOCS_STEMS.contains(&stem) || is_under(DOCS_FOLDERS)
        {
            Self::Docs
        } else if is_under(TEST_FOLDERS) || is_test_stem(stem) {
            Self::Test
        } else if name.starts_with('.') || SETTINGS_EXTENSIONS.contains(&extension) {
            Self::Settings
        } else {
            Self::Source
        }
    }
}

fn is_test_stem(stem: &str) -> bool {
    stem == "tests"
        || stem == "conftest"
        || stem.starts_with("test_")
        || TEST_ENDINGS.iter().any(|ending| stem.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_their_area() {
        for (path, expected) in [
            ("README", Area::Docs),
            ("src/README.md", Area::Docs),
            ("docs/picture.png", Area::Docs),
            ("LICENSE", Area::Docs),
            ("src/a_test.go", Area::Test),
            ("src/a.spec.ts", Area::Test),
            ("tests/a.rs", Area::Test),
            ("test_a.py", Area::Test),
            ("src/latest.rs", Area::Source),
            (".github/workflows/x.yml", Area::Ci),
            ("Jenkinsfile", Area::Ci),
            ("a/Cargo.toml", Area::Build),
            ("requirements.txt", Area::Build),
            ("Dockerfile.prod", Area::Build),
            (".gitignore", Area::Settings),
            ("config/app.yml", Area::Settings),
            ("src/main.rs", Area::Source),
            ("", Area::Source),
            ("notes.txt", Area::Source),
        ] {
            assert_eq!(Area::of(path), expected, "{path}");
        }
    }
}
