//! Which request gets which fault. Decides; what a fault does is in `wrong`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Method;

/// The requests that a fault is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// Every request.
    Any,
    /// `GET …/info/refs?service=git-upload-pack`.
    FetchAdvertisement,
    /// `POST …/git-upload-pack`: in protocol 2 both the listing of refs and the pack.
    UploadPack,
    /// `GET …/info/refs?service=git-receive-pack`.
    PushAdvertisement,
    /// `POST …/git-receive-pack`.
    ReceivePack,
    /// Every request to this repository, `name` or `team/name`.
    Repository(String),
}

impl On {
    pub(super) fn fits(&self, method: &Method, path: &str, query: &str) -> bool {
        let posted = |service: &str| method == Method::POST && path.ends_with(service);
        match self {
            Self::Any => true,
            Self::FetchAdvertisement => path.ends_with("/info/refs") && query == "service=git-upload-pack",
            Self::UploadPack => posted("/git-upload-pack"),
            Self::PushAdvertisement => path.ends_with("/info/refs") && query == "service=git-receive-pack",
            Self::ReceivePack => posted("/git-receive-pack"),
            Self::Repository(name) => path.starts_with(&format!("/{name}.git/")),
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers this, and does not ask git. See [`Fault::status`] and [`Fault::too_many_requests`].
    Answer {
        /// The HTTP status.
        status: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Sends the client to this origin (`http://host:port`), same path and query.
    Redirect {
        /// 301, 302, 307 or 308.
        status: u16,
        /// Where to.
        origin: String,
    },
    /// Takes the request and says nothing, not even the head of an answer.
    StallBeforeHead,
    /// Says nothing more after so many bytes of the answer's body.
    StallAfter(u64),
    /// Closes the connection in place of an answer, and does not ask git.
    CutBeforeHead,
    /// Closes the connection after so many bytes of the answer's body.
    CutAfter(u64),
    /// Has git do all of it, and then closes the connection in place of the answer.
    LoseAnswer,
    /// Has git do all of it, and then answers this status in place of git's answer, as a proxy does that lost patience.
    LoseAnswerTo(u16),
    /// Sends the answer in pieces.
    Trickle {
        /// Bytes of a piece.
        bytes: usize,
        /// The pause before each.
        every: Duration,
    },
    /// Gives the right answer under a wrong content type.
    ContentType(String),
    /// Gives these bytes under the right status and content type.
    Lie(Vec<u8>),
    /// Hides the client's `Git-Protocol` header from git, which then speaks protocol 0.
    ProtocolV0,
}

impl Fault {
    /// Answers with a status and a word of text.
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
            body: b"scripted fault\n".to_vec(),
        }
    }

    /// Answers 429 with this `Retry-After`: seconds, or a date.
    pub fn too_many_requests(retry_after: &str) -> Self {
        Self::Answer {
            status: 429,
            headers: vec![("retry-after".to_owned(), retry_after.to_owned())],
            body: b"slow down\n".to_vec(),
        }
    }
}

#[derive(Debug)]
struct Rule {
    on: On,
    /// Without a number, for ever.
    left: Option<usize>,
    fault: Fault,
}

/// The rules in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<Vec<Rule>>);

impl Script {
    pub(super) fn add(&self, on: On, left: Option<usize>, fault: Fault) {
        self.rules().push(Rule { on, left, fault });
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
    }

    /// The fault for this request; a rule that is used up goes.
    pub(super) fn take(&self, method: &Method, path: &str, query: &str) -> Option<Fault> {
        let mut rules = self.rules();
        rules.retain(|rule| rule.left != Some(0));
        let rule = rules.iter_mut().find(|rule| rule.on.fits(method, path, query))?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.fault.clone())
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_used_up_in_their_order() {
        let script = Script::default();
        script.add(On::UploadPack, Some(1), Fault::CutAfter(1));
        script.add(On::UploadPack, Some(2), Fault::LoseAnswer);
        script.add(On::Repository("a".to_owned()), None, Fault::CutBeforeHead);
        let fetch = |path| script.take(&Method::POST, path, "");
        assert_eq!(fetch("/b.git/git-upload-pack"), Some(Fault::CutAfter(1)));
        assert_eq!(fetch("/b.git/git-upload-pack"), Some(Fault::LoseAnswer));
        assert_eq!(fetch("/a.git/git-upload-pack"), Some(Fault::LoseAnswer));
        assert_eq!(fetch("/a.git/git-upload-pack"), Some(Fault::CutBeforeHead));
        assert_eq!(fetch("/a.git/git-upload-pack"), Some(Fault::CutBeforeHead));
        assert_eq!(fetch("/b.git/git-upload-pack"), None);
        script.clear();
        assert_eq!(fetch("/a.git/git-upload-pack"), None);
    }

    #[test]
    fn requests_are_told_apart() {
        let (get, post) = (Method::GET, Method::POST);
        let refs = "/t/a.git/info/refs";
        for (on, method, path, query) in [
            (On::FetchAdvertisement, &get, refs, "service=git-upload-pack"),
            (On::PushAdvertisement, &get, refs, "service=git-receive-pack"),
            (On::UploadPack, &post, "/t/a.git/git-upload-pack", ""),
            (On::ReceivePack, &post, "/t/a.git/git-receive-pack", ""),
        ] {
            let kinds = [
                On::FetchAdvertisement,
                On::PushAdvertisement,
                On::UploadPack,
                On::ReceivePack,
            ];
            let fitting: Vec<_> = kinds.iter().filter(|it| it.fits(method, path, query)).collect();
            assert_eq!(fitting, [&on]);
            assert!(On::Any.fits(method, path, query));
            assert!(On::Repository("t/a".to_owned()).fits(method, path, query));
            assert!(!On::Repository("a".to_owned()).fits(method, path, query));
        }
    }
}
