//! Writes the request for a pack, of protocol v2 and v0. It does no I/O.

use bytes::Bytes;
use mayfly_protocol::ObjectId;

use super::FetchRequest;
use super::goal::Goal;
use crate::refs::Greeting;
use crate::remote::packet::PacketWriter;
use crate::remote::{AGENT, Remote, RemoteError};

/// Everything is said in one request: the wants, the haves, and `done`, so that the pack is the answer.
pub(crate) fn encode(
    remote: &Remote,
    greeting: &Greeting,
    request: &FetchRequest,
    goal: &Goal,
) -> Result<Bytes, RemoteError> {
    let is_shallow = request.depth.is_some() || !request.shallow.is_empty();
    let unsupported = |what| {
        let url = remote.url.clone();
        Err(RemoteError::Unsupported { url, what })
    };
    let capabilities = &greeting.capabilities;
    let can_be_shallow = match greeting.is_v2 {
        true => capabilities.command_has("fetch", "shallow"),
        false => capabilities.has("shallow"),
    };
    if is_shallow && !can_be_shallow {
        return unsupported("cannot serve a part of the history (no `shallow`)");
    }
    if greeting.is_v2 {
        return Ok(encode_v2(greeting, request, goal));
    }
    if !capabilities.has("side-band-64k") {
        return unsupported("has no `side-band-64k`");
    }
    Ok(encode_v0(greeting, request, goal))
}

/// Source: gitprotocol-v2(5), "fetch".
fn encode_v2(greeting: &Greeting, request: &FetchRequest, goal: &Goal) -> Bytes {
    let mut out = PacketWriter::default();
    out.line("command=fetch").line(AGENT);
    if greeting.capabilities.has("object-format") {
        out.line("object-format=sha1");
    }
    out.delimiter().line("ofs-delta");
    for want in &goal.wants {
        out.line(&format!("want {want}"));
    }
    shallow_lines(&mut out, request);
    haves(&mut out, &request.have);
    out.line("done").flush().take()
}

/// Source: gitprotocol-pack(5), "Packfile Negotiation".
fn encode_v0(greeting: &Greeting, request: &FetchRequest, goal: &Goal) -> Bytes {
    let mut out = PacketWriter::default();
    let mut features = vec!["side-band-64k"];
    features.extend(
        ["ofs-delta"]
            .iter()
            .filter(|name| greeting.capabilities.has(name)),
    );
    if greeting.capabilities.has("object-format") {
        features.push("object-format=sha1");
    }
    if greeting.capabilities.has("agent") {
        features.push(AGENT);
    }
    for (index, want) in goal.wants.iter().enumerate() {
        match index {
            0 => out.line(&format!("want {want} {}", features.join(" "))),
            _ => out.line(&format!("want {want}")),
        };
    }
    shallow_lines(&mut out, request);
    out.flush();
    haves(&mut out, &request.have);
    out.line("done").take()
}

fn shallow_lines(out: &mut PacketWriter, request: &FetchRequest) {
    for commit in &request.shallow {
        out.line(&format!("shallow {commit}"));
    }
    if let Some(depth) = request.depth {
        out.line(&format!("deepen {depth}"));
    }
}

fn haves(out: &mut PacketWriter, have: &[ObjectId]) {
    for commit in have {
        out.line(&format!("have {commit}"));
    }
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::ErrorCode;

    use super::*;
    use crate::refs::RemoteRefs;
    use crate::remote::capability::Capabilities;

    fn greeting(is_v2: bool, line: &str) -> Greeting {
        let mut capabilities = Capabilities::from_line(line.as_bytes());
        if is_v2 {
            capabilities = Capabilities::default();
            line.lines()
                .for_each(|line| capabilities.push_line(line.as_bytes()));
        }
        Greeting {
            is_v2,
            capabilities,
            refs: RemoteRefs::default(),
            shallow: Vec::new(),
        }
    }

    fn write(greeting: &Greeting, request: &FetchRequest) -> Result<String, RemoteError> {
        let remote = Remote {
            url: "https://host/r".parse().unwrap(),
            credential: None,
        };
        let goal = Goal {
            branch: "main".parse().unwrap(),
            tip: None,
            wants: vec![ObjectId::from_bytes([1; 20]), ObjectId::from_bytes([2; 20])],
        };
        let bytes = encode(&remote, greeting, request, &goal)?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn shallow_request() -> FetchRequest {
        FetchRequest {
            depth: std::num::NonZeroU32::new(3),
            have: vec![ObjectId::from_bytes([3; 20])],
            shallow: vec![ObjectId::from_bytes([4; 20])],
            ..FetchRequest::default()
        }
    }

    #[test]
    fn v2_asks_for_no_thin_pack_no_tags_and_no_other_places() {
        let offer = "fetch=shallow filter packfile-uris sideband-all\nobject-format=sha1\nbundle-uri";
        let text = write(&greeting(true, offer), &shallow_request()).unwrap();
        for part in [
            "0012command=fetch\n",
            "0001000eofs-delta\n",
            "000ddeepen 3\n",
            "0009done\n0000",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        for word in ["thin-pack", "include-tag", "uri", "sideband-all", "filter"] {
            assert!(!text.contains(word), "{word}");
        }
    }

    #[test]
    fn v0_says_its_features_with_the_first_want_only() {
        let offer = "side-band-64k thin-pack ofs-delta shallow include-tag multi_ack agent=x";
        let text = write(&greeting(false, offer), &shallow_request()).unwrap();
        assert_eq!(text.matches("side-band-64k ofs-delta agent=mayfly/").count(), 1);
        assert!(
            text.ends_with("0009done\n") && text.contains("deepen 3\n0000"),
            "{text}"
        );
        assert!(!text.contains("thin-pack") && !text.contains("multi_ack"));
    }

    #[test]
    fn what_a_server_cannot_do_is_not_asked() {
        for (server, request) in [
            (greeting(true, "fetch"), shallow_request()),
            (greeting(false, "side-band-64k"), shallow_request()),
            (greeting(false, "shallow"), FetchRequest::default()),
        ] {
            let error = write(&server, &request).unwrap_err();
            assert_eq!(error.code(), ErrorCode::UnsupportedRepository);
        }
    }
}
