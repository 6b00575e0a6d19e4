//! The branch name that the rules give for a request: `feature/add-dark-mode-toggle`.
//!
//! The same request always gives the same name. This file must not know which branches exist; see [`vacancy`] for that.

mod purpose;
pub(crate) mod vacancy;

use mayfly_protocol::BranchName;
use sha2::{Digest as _, Sha256};

use crate::plain::{self, Words};

/// Characters of a name that is made here. Longer ones are valid, and bad to read in lists.
pub(crate) const MAX_NAME_CHARS: usize = 60;
/// Words of a name after its prefix.
const MAX_WORDS: usize = 8;
/// Bytes of the request that are looked at.
const MAX_READ_BYTES: usize = 4096;

/// Words that say nothing about the work.
const STOP_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "could", "do", "for", "from", "have", "hello",
    "hey", "hi", "i", "id", "im", "in", "into", "is", "it", "its", "ive", "just", "kindly", "lets", "like",
    "me", "my", "need", "needs", "of", "on", "or", "our", "please", "pls", "should", "so", "some", "thanks",
    "that", "the", "their", "then", "there", "this", "to", "us", "want", "wants", "was", "we", "will",
    "with", "would", "you", "your",
];

/// The name for a request. It is valid, and may be taken.
pub(crate) fn name(user_request: &str) -> BranchName {
    valid(
        &content_words(user_request).map_or_else(|| task_name(user_request), |words| from_words(&words)),
        user_request,
    )
}

/// The prefix that fits a request, for a name that lacks one.
pub(crate) fn prefix(user_request: &str) -> &'static str {
    content_words(user_request).map_or("task", |words| purpose::of(&words).prefix())
}

/// A name that holds no word of the request, for requests without words that a name can hold.
pub(crate) fn task_name(user_request: &str) -> String {
    let digest = Sha256::digest(user_request.as_bytes());
    let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("task/{hex}")
}

/// The words of the first sentence that says something, where most of it can be written in ASCII.
fn content_words(user_request: &str) -> Option<Vec<String>> {
    let text = plain::prefix(user_request, MAX_READ_BYTES);
    let sentences = text
        .split(['\n', '\r'])
        .flat_map(|line| line.split_inclusive(['.', '!', '?', ';']));
    let mut whole = Words::default();
    for sentence in join_dotted(sentences) {
        let words = plain::words(&sentence);
        whole.ascii_letters += words.ascii_letters;
        whole.other_letters += words.other_letters;
        let content: Vec<String> = words
            .ascii
            .into_iter()
            .filter(|word| !STOP_WORDS.contains(&word.as_str()))
            .collect();
        if content.len() >= 2 && words.ascii_letters > words.other_letters {
            return Some(content);
        }
        whole.ascii.extend(content);
    }
    let says_something = whole.ascii_letters > whole.other_letters && !whole.ascii.is_empty();
    says_something.then_some(whole.ascii)
}

/// Puts pieces together again that were cut inside a word, as in `v1.2` and `theme.ts`.
fn join_dotted<'a>(pieces: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    let mut open = false;
    for piece in pieces {
        match sentences.last_mut() {
            Some(last) if open && piece.starts_with(char::is_alphanumeric) => last.push_str(piece),
            _ => sentences.push(piece.to_owned()),
        }
        open = piece.ends_with('.');
    }
    sentences
}

fn from_words(words: &[String]) -> String {
    let purpose = purpose::of(words);
    let said_by_prefix = words.len() > 1 && purpose.is_said_by(&words[0]);
    let mut name = format!("{}/", purpose.prefix());
    let start = name.len();
    for word in words.iter().skip(usize::from(said_by_prefix)).take(MAX_WORDS) {
        let separator = usize::from(name.len() > start);
        let room = MAX_NAME_CHARS.saturating_sub(name.len() + separator);
        if word.len() > room && separator == 1 {
            break;
        }
        name.push_str(&"-"[..separator]);
        name.push_str(plain::prefix(word, room));
    }
    name
}

/// The text as a branch name; were it not one, the name without words, which always is.
fn valid(text: &str, user_request: &str) -> BranchName {
    #[expect(
        clippy::expect_used,
        reason = "`task/` and eight hexadecimal digits break no rule of git's"
    )]
    text.parse()
        .or_else(|_| task_name(user_request).parse())
        .expect("a name of letters, digits and one slash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_give_names() {
        for (request, expected) in [
            ("Add a dark mode toggle", "feature/add-dark-mode-toggle"),
            ("Please fix the login bug", "fix/login-bug"),
            ("fix", "fix/fix"),
            ("Can you please update the README?", "docs/update-readme"),
            ("Document the API", "docs/api"),
            ("Refactor the auth module", "refactor/auth-module"),
            ("Write unit tests for the parser", "test/write-unit-tests-parser"),
            ("Add tests", "test/add-tests"),
            ("Bump tokio to 1.50", "chore/bump-tokio-1-50"),
            ("Update dependencies", "chore/update-dependencies"),
            (
                "The app crashes when the list is empty",
                "fix/app-crashes-when-list-empty",
            ),
            (
                "Hi! I want to add a button in src/theme.ts. Thanks",
                "feature/add-button-src-theme-ts",
            ),
            ("Añadir modo oscuro", "feature/anadir-modo-oscuro"),
            (
                "Größe der Schaltfläche ändern",
                "feature/grosse-der-schaltflache-andern",
            ),
            ("fix https://host/o/r/issues/12 login", "fix/login"),
            ("../../etc/passwd; rm -rf /", "feature/etc-passwd"),
            ("--upload-pack=touch /tmp/x", "feature/upload-pack-touch-tmp-x"),
        ] {
            assert_eq!(name(request).as_str(), expected, "{request}");
        }
    }

    #[test]
    fn requests_without_words_give_digests() {
        for request in [
            "",
            " \n\t",
            "修复登录错误",
            "исправить вход на API",
            "🚀🚀🚀",
            "---",
            "the",
        ] {
            assert_eq!(name(request).as_str(), task_name(request), "{request}");
        }
        assert_eq!(task_name(""), "task/e3b0c442", "the digest is SHA-256");
    }

    #[test]
    fn long_requests_give_short_names() {
        let long = name(&"internationalisation ".repeat(500)).to_string();
        assert_eq!(long, "feature/internationalisation-internationalisation");
        let word = name(&format!("add {}", "x".repeat(5000))).to_string();
        assert_eq!(word, "feature/add");
        assert_eq!(name(&"y".repeat(5000)).as_str().len(), MAX_NAME_CHARS);
    }

    proptest::proptest! {
        #[test]
        fn any_request_gives_a_short_valid_name(request in "\\PC{0,200}|[ -~\\n]{0,300}") {
            let first = name(&request);
            proptest::prop_assert!(first.as_str().len() <= MAX_NAME_CHARS);
            proptest::prop_assert!(first.as_str().is_ascii());
            proptest::prop_assert_eq!(name(&request), first);
        }
    }
}
