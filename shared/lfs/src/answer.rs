//! The answer of the batch API, checked: what is to be done for each content, and where.

use std::collections::HashMap;

use mayfly_http::{HeaderMap, HeaderName, HeaderValue, Url, header};
use mayfly_protocol::lfs::{LfsId, LfsPointer};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Characters of a server's words that are shown.
const MAX_WORDS: usize = 200;
/// Headers that an action may bring.
const MAX_HEADERS: usize = 32;
/// What the connection decides by itself, whatever a server wishes.
const OF_THE_CONNECTION: [HeaderName; 7] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    header::EXPECT,
];

/// An answer as it comes. Fields that are not known are nothing to be afraid of: servers have many of their own.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    transfer: Option<String>,
    #[serde(default)]
    hash_algo: Option<String>,
    objects: Vec<WireObject>,
}

#[derive(Deserialize)]
struct WireObject {
    oid: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    actions: Option<WireActions>,
    #[serde(default)]
    error: Option<WireError>,
}

#[derive(Default, Deserialize)]
struct WireActions {
    download: Option<WireAction>,
    upload: Option<WireAction>,
    verify: Option<WireAction>,
}

#[derive(Deserialize)]
struct WireAction {
    href: String,
    #[serde(default)]
    header: Option<HashMap<String, String>>,
    #[serde(default)]
    expires_in: Option<i64>,
    #[serde(default)]
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

/// A request that the server asks for.
pub(crate) struct Action {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

/// What the server says of one content.
pub(crate) enum Verdict {
    Transfer(Box<Actions>),
    Error { status: u16, words: String },
}

#[derive(Default)]
pub(crate) struct Actions {
    pub(crate) download: Option<Action>,
    pub(crate) upload: Option<Action>,
    pub(crate) verify: Option<Action>,
}

impl Answer {
    /// What the server says of each of these contents, in their order; an answer about others, or not about all, is wrong.
    pub(crate) fn check(
        self,
        asked: &[LfsPointer],
        now: OffsetDateTime,
    ) -> Result<Vec<Verdict>, &'static str> {
        if self.transfer.is_some_and(|transfer| transfer != "basic") {
            return Err("it chose a transfer other than `basic`, which is the only one offered");
        }
        if self.hash_algo.is_some_and(|hash| hash != "sha256") {
            return Err("it names contents by a hash other than SHA-256");
        }
        let mut said = HashMap::<LfsId, WireObject>::new();
        for object in self.objects {
            let id = object
                .oid
                .parse()
                .map_err(|_| "it speaks of an object whose id is none")?;
            if said.insert(id, object).is_some() {
                return Err("it speaks of one object twice");
            }
        }
        let verdicts = asked.iter().map(|pointer| {
            let object = said
                .remove(&pointer.id)
                .ok_or("it is silent about an object that it was asked for")?;
            object.check(pointer, now)
        });
        let verdicts = verdicts.collect::<Result<Vec<_>, _>>()?;
        match said.is_empty() {
            true => Ok(verdicts),
            false => Err("it speaks of objects that it was not asked for"),
        }
    }
}

impl WireObject {
    fn check(self, asked: &LfsPointer, now: OffsetDateTime) -> Result<Verdict, &'static str> {
        if let Some(error) = self.error {
            return Ok(Verdict::Error {
                status: error.code,
                words: plain(&error.message),
            });
        }
        if self.size.is_some_and(|bytes| bytes != asked.bytes) {
            return Err("it gives an object another size than its pointer does");
        }
        let actions = self.actions.unwrap_or_default();
        let checked = |action: Option<WireAction>| action.map(|action| action.check(now)).transpose();
        Ok(Verdict::Transfer(Box::new(Actions {
            download: checked(actions.download)?,
            upload: checked(actions.upload)?,
            verify: checked(actions.verify)?,
        })))
    }
}

impl WireAction {
    fn check(self, now: OffsetDateTime) -> Result<Action, &'static str> {
        if self.is_over(now) {
            return Err("it gives an address that has expired already");
        }
        let url = Url::parse(&self.href).map_err(|_| "it gives an address that is none")?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || !matches!(url.scheme(), "http" | "https") {
            return Err("it gives an address with a user in it, or one that is not HTTP");
        }
        let mut headers = HeaderMap::new();
        for (name, value) in self.header.unwrap_or_default() {
            let name = HeaderName::try_from(name).map_err(|_| "it asks for a header whose name is none")?;
            let mut value =
                HeaderValue::try_from(value).map_err(|_| "it asks for a header that no request can carry")?;
            value.set_sensitive(true);
            if !OF_THE_CONNECTION.contains(&name) {
                headers.insert(name, value);
            }
        }
        match headers.len() <= MAX_HEADERS {
            true => Ok(Action { url, headers }),
            false => Err("it asks for more headers than a request may have"),
        }
    }

    /// `expires_in` counts before `expires_at`; 0, and the year 1 of programs that know no other way, stand for nothing said.
    fn is_over(&self, now: OffsetDateTime) -> bool {
        if let Some(seconds) = self.expires_in.filter(|seconds| *seconds != 0) {
            return seconds < 0;
        }
        let at = self
            .expires_at
            .as_deref()
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        at.is_some_and(|at| at.year() > 1 && at < now)
    }
}

/// A server's words in one line of bounded length, without characters that do something.
pub(crate) fn plain(words: &str) -> String {
    let cleaned = words
        .chars()
        .map(|c| if c.is_control() || is_hidden(c) { ' ' } else { c });
    let text: String = cleaned.take(MAX_WORDS).collect();
    match text.trim() {
        "" => "without a word".to_owned(),
        text => text.to_owned(),
    }
}

fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
