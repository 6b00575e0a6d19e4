//! Reads the answers that list refs, of protocol v0, v1 and v2. It does no I/O: packets in, refs out.

use mayfly_protocol::{BranchName, ObjectId};

use super::{Greeting, RemoteRefs};
use crate::remote::capability::Capabilities;
use crate::remote::packet::{Packet, text};
use crate::remote::{Remote, RemoteError, TransferLimits};

/// What the first answer of a remote holds.
#[derive(Debug)]
pub(crate) enum Advertisement {
    /// Only capabilities: refs are asked for next.
    V2(Capabilities),
    /// All there is to know.
    V0(Greeting),
}

/// Reads for one remote, which its errors name.
pub(crate) struct Reader<'a> {
    remote: &'a Remote,
    limits: &'a TransferLimits,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(remote: &'a Remote, limits: &'a TransferLimits) -> Self {
        Self { remote, limits }
    }

    /// Reads the answer to `GET info/refs` (gitprotocol-http(5), gitprotocol-pack(5), gitprotocol-v2(5)).
    pub(crate) fn advertisement(&self, packets: &[Packet]) -> Result<Advertisement, RemoteError> {
        let announced = skip_announcement(packets);
        let lines = self.lines(announced)?;
        if lines.is_empty() && announced.len() == packets.len() {
            return Err(self.wrong("its first answer is empty"));
        }
        match lines.split_first() {
            Some((&b"version 2", rest)) => self.v2_capabilities(rest).map(Advertisement::V2),
            Some((&b"version 1", rest)) => self.v0(rest).map(Advertisement::V0),
            _ => self.v0(&lines).map(Advertisement::V0),
        }
    }

    /// Reads the answer to `ls-refs`.
    pub(crate) fn v2_refs(&self, packets: &[Packet]) -> Result<RemoteRefs, RemoteError> {
        let mut found = Found::default();
        for line in self.lines(packets)? {
            let mut words = line.split(|&b| b == b' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else {
                return Err(self.wrong("a line of its list of refs is not a ref"));
            };
            let id = if id == b"unborn" { None } else { Some(self.id(id)?) };
            let target = words.find_map(|word| word.strip_prefix(b"symref-target:"));
            self.take(&mut found, id, name, target)?;
        }
        Ok(found.finish())
    }

    fn v2_capabilities(&self, lines: &[&[u8]]) -> Result<Capabilities, RemoteError> {
        let mut capabilities = Capabilities::default();
        for line in lines {
            capabilities.push_line(line);
        }
        self.check_format(&capabilities)?;
        if !capabilities.has("ls-refs") || !capabilities.has("fetch") {
            return Err(self.wrong("it offers protocol 2 without `ls-refs` or `fetch`"));
        }
        Ok(capabilities)
    }

    fn v0(&self, lines: &[&[u8]]) -> Result<Greeting, RemoteError> {
        let mut capabilities = Capabilities::default();
        let (mut found, mut shallow) = (Found::default(), Vec::new());
        for (index, line) in lines.iter().enumerate() {
            let (line, extra) = split_at_nul(line);
            if index == 0 {
                capabilities = Capabilities::from_line(extra);
                self.check_format(&capabilities)?;
            }
            match line.split_once_space() {
                Some((b"shallow", id)) => shallow.push(self.id(id)?),
                Some((id, name)) => self.take_v0(&mut found, &capabilities, id, name)?,
                None => return Err(self.wrong("a line of its list of refs is not a ref")),
            }
        }
        Ok(Greeting {
            is_v2: false,
            capabilities,
            refs: found.finish(),
            shallow,
        })
    }

    fn take_v0(
        &self,
        found: &mut Found,
        capabilities: &Capabilities,
        id: &[u8],
        name: &[u8],
    ) -> Result<(), RemoteError> {
        let id = self.id(id)?;
        if name == b"capabilities^{}" {
            return Ok(());
        }
        let target = match name {
            b"HEAD" => capabilities
                .values("symref")
                .find_map(|value| value.strip_prefix("HEAD:")),
            _ => None,
        };
        self.take(found, Some(id), name, target.map(str::as_bytes))
    }

    fn take(
        &self,
        found: &mut Found,
        id: Option<ObjectId>,
        name: &[u8],
        target: Option<&[u8]>,
    ) -> Result<(), RemoteError> {
        if name == b"HEAD" {
            found.head_id = id;
            found.refs.head = target.and_then(branch_of);
            return Ok(());
        }
        let (Some(id), Some(name)) = (id, kept_name(name)) else {
            return Ok(());
        };
        if found.refs.refs.len() >= self.limits.max_refs {
            return Err(RemoteError::RefsTooLarge {
                url: self.remote.url.clone(),
                limit: self.limits.max_refs as u64,
                unit: "branches and tags",
            });
        }
        found.refs.refs.insert(name.to_owned(), id);
        Ok(())
    }

    /// The lines up to the flush that ends the list.
    fn lines<'p>(&self, packets: &'p [Packet]) -> Result<Vec<&'p [u8]>, RemoteError> {
        let mut lines = Vec::with_capacity(packets.len());
        for packet in packets {
            match packet {
                Packet::Data(data) => lines.push(text(data)),
                Packet::Flush => return Ok(lines),
                Packet::Delimiter | Packet::ResponseEnd => break,
            }
        }
        Err(self.wrong("its list of refs has no end"))
    }

    fn check_format(&self, capabilities: &Capabilities) -> Result<(), RemoteError> {
        if capabilities.is_sha1() {
            return Ok(());
        }
        Err(RemoteError::Unsupported {
            url: self.remote.url.clone(),
            what: "has object ids other than SHA-1",
        })
    }

    fn id(&self, hex: &[u8]) -> Result<ObjectId, RemoteError> {
        std::str::from_utf8(hex)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.wrong("an object id is not 40 hexadecimal digits"))
    }

    fn wrong(&self, what: &'static str) -> RemoteError {
        RemoteError::Protocol {
            url: self.remote.url.clone(),
            what,
        }
    }
}

/// The refs as they are found, and the commit of HEAD, which may tell its branch.
#[derive(Default)]
struct Found {
    refs: RemoteRefs,
    head_id: Option<ObjectId>,
}

impl Found {
    fn finish(mut self) -> RemoteRefs {
        if self.refs.head.is_none()
            && let Some(id) = self.head_id
        {
            self.refs.head = guess_head(&self.refs, id);
        }
        self.refs
    }
}

/// The branch that git, too, would take HEAD for.
fn guess_head(refs: &RemoteRefs, id: ObjectId) -> Option<BranchName> {
    let usual = ["main", "master"].into_iter();
    usual
        .chain(refs.branch_names())
        .filter_map(|name| name.parse::<BranchName>().ok())
        .find(|name| refs.branch(name) == Some(id))
}

fn branch_of(full: &[u8]) -> Option<BranchName> {
    BranchName::from_ref(std::str::from_utf8(full).ok()?)
}

/// The name, if it is that of a branch or a tag, and by git's rules.
fn kept_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let short = name
        .strip_prefix("refs/heads/")
        .or_else(|| name.strip_prefix("refs/tags/"))?;
    short.parse::<BranchName>().is_ok().then_some(name)
}

/// Over HTTP, v0 begins with `# service=…` and a flush; v2 may.
fn skip_announcement(packets: &[Packet]) -> &[Packet] {
    match packets {
        [Packet::Data(line), Packet::Flush, rest @ ..] if line.starts_with(b"# service=") => rest,
        _ => packets,
    }
}

fn split_at_nul(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&b| b == 0) {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

trait SplitOnceSpace {
    fn split_once_space(&self) -> Option<(&[u8], &[u8])>;
}

impl SplitOnceSpace for [u8] {
    fn split_once_space(&self) -> Option<(&[u8], &[u8])> {
        let at = self.iter().position(|&b| b == b' ')?;
        Some((&self[..at], &self[at + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::ErrorCode;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn remote() -> Remote {
        Remote {
            url: "https://host/r".parse().unwrap(),
            credential: None,
        }
    }

    fn packets(lines: &[&str]) -> Vec<Packet> {
        lines
            .iter()
            .map(|line| match *line {
                "FLUSH" => Packet::Flush,
                data => Packet::Data(data.as_bytes().to_vec().into()),
            })
            .collect()
    }

    fn v0(lines: &[&str]) -> Result<Greeting, RemoteError> {
        match Reader::new(&remote(), &TransferLimits::default()).advertisement(&packets(lines))? {
            Advertisement::V0(greeting) => Ok(greeting),
            Advertisement::V2(_) => panic!("v2"),
        }
    }

    fn v2(lines: &[&str]) -> Result<RemoteRefs, RemoteError> {
        Reader::new(&remote(), &TransferLimits::default()).v2_refs(&packets(lines))
    }

    fn names(refs: &RemoteRefs) -> Vec<&str> {
        refs.refs.keys().map(String::as_str).collect()
    }

    #[test]
    fn v0_lists_everything_at_once() {
        let first = format!("{A} HEAD\0side-band-64k symref=HEAD:refs/heads/trunk agent=git/2\n");
        let rest: Vec<String> = [
            "refs/heads/trunk",
            "refs/heads/x/y",
            "refs/tags/v1",
            "refs/tags/v1^{}",
            "refs/pull/1/head",
            "refs/heads/../../etc",
            "refs/heads/-x",
            "refs/notes/x",
        ]
        .iter()
        .map(|name| format!("{A} {name}\n"))
        .collect();
        let mut lines = vec!["# service=git-upload-pack\n", "FLUSH", &first];
        lines.extend(rest.iter().map(String::as_str));
        let shallow = format!("shallow {B}");
        lines.extend([shallow.as_str(), "FLUSH"]);
        let greeting = v0(&lines).unwrap();
        assert!(greeting.capabilities.has("side-band-64k"));
        assert_eq!(greeting.refs.head.as_ref().unwrap().as_str(), "trunk");
        assert_eq!(
            names(&greeting.refs),
            ["refs/heads/trunk", "refs/heads/x/y", "refs/tags/v1"]
        );
        assert_eq!(greeting.refs.branch_names().collect::<Vec<_>>(), ["trunk", "x/y"]);
        assert_eq!(greeting.shallow, [B.parse().unwrap()]);
    }

    #[test]
    fn an_empty_v0_repository_lists_nothing() {
        let zero = format!("{} capabilities^{{}}\0side-band-64k", "0".repeat(40));
        let greeting = v0(&["version 1", &zero, "FLUSH"]).unwrap();
        assert_eq!(greeting.refs, RemoteRefs::default());
    }

    #[test]
    fn without_a_symref_the_branch_of_head_is_guessed() {
        let first = format!("{B} HEAD\0x");
        let (a, b) = (format!("{A} refs/heads/main"), format!("{B} refs/heads/other"));
        let greeting = v0(&[&first, &a, &b, "FLUSH"]).unwrap();
        assert_eq!(greeting.refs.head.unwrap().as_str(), "other");
    }

    #[test]
    fn v2_lists_refs_with_their_attributes() {
        let head = format!("{A} HEAD symref-target:refs/heads/trunk peeled:{B} new-thing\n");
        let branch = format!("{A} refs/heads/trunk\n");
        let refs = v2(&[&head, &branch, "FLUSH"]).unwrap();
        assert_eq!(refs.head.unwrap().as_str(), "trunk");
        let unborn = v2(&["unborn HEAD symref-target:refs/heads/main\n", "FLUSH"]).unwrap();
        assert_eq!(unborn.head.unwrap().as_str(), "main");
        assert!(unborn.refs.is_empty());
    }

    #[test]
    fn lies_are_refused() {
        let upper = format!("{} refs/heads/x", A.to_uppercase());
        for bad in [
            &["nonsense", "FLUSH"][..],
            &[&upper, "FLUSH"],
            &["x refs/heads/x", "FLUSH"],
            &[],
            &[&upper],
        ] {
            assert_eq!(v2(bad).unwrap_err().code(), ErrorCode::RemoteProtocol, "{bad:?}");
            assert_eq!(v0(bad).unwrap_err().code(), ErrorCode::RemoteProtocol, "{bad:?}");
        }
        let first = format!("{A} HEAD\0object-format=sha256");
        assert_eq!(
            v0(&[&first, "FLUSH"]).unwrap_err().code(),
            ErrorCode::UnsupportedRepository
        );
        let limits = TransferLimits {
            max_refs: 0,
            ..TransferLimits::default()
        };
        let many = packets(&[&format!("{A} refs/heads/x"), "FLUSH"]);
        let error = Reader::new(&remote(), &limits).v2_refs(&many).unwrap_err();
        assert_eq!(error.code(), ErrorCode::RepositoryTooLarge);
    }
}
