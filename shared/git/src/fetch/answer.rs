//! Reads what stands before the pack in the answer to a fetch: changes of the boundary, and acknowledgements, which say nothing new.

use mayfly_protocol::CommitId;

use crate::remote::RemoteError;
use crate::remote::packet::{Packet, Packets, text};

/// How the boundary changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShallowUpdate {
    /// Commits that come without their parents.
    pub(crate) shallow: Vec<CommitId>,
    /// Commits whose parents come, and which were on the boundary.
    pub(crate) unshallow: Vec<CommitId>,
}

impl ShallowUpdate {
    /// Takes a line of the boundary; false if it is none.
    fn take(&mut self, line: &[u8]) -> bool {
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        let (list, id) = match line.split_once(' ') {
            Some(("shallow", id)) => (&mut self.shallow, id),
            Some(("unshallow", id)) => (&mut self.unshallow, id),
            _ => return false,
        };
        id.parse().map(|id| list.push(id)).is_ok()
    }
}

/// Protocol v2: sections, of which `packfile` is the last (gitprotocol-v2(5), "fetch").
pub(crate) async fn read_v2(packets: &mut Packets) -> Result<ShallowUpdate, RemoteError> {
    let mut update = ShallowUpdate::default();
    let mut in_boundary = false;
    loop {
        let Some(packet) = packets.next().await? else {
            return Err(packets.wrong("its answer ends before the pack"));
        };
        match packet {
            Packet::Data(line) => match text(&line) {
                b"packfile" => return Ok(update),
                b"shallow-info" => in_boundary = true,
                line if in_boundary && !update.take(line) => {
                    return Err(packets.wrong("a line of the boundary is not a commit"));
                }
                _ => {}
            },
            Packet::Delimiter => in_boundary = false,
            Packet::Flush | Packet::ResponseEnd => return Err(packets.wrong("it sends no pack")),
        }
    }
}

/// Protocol v0: with a depth the boundary, up to a flush; then one `ACK` or `NAK` (gitprotocol-pack(5)).
pub(crate) async fn read_v0(packets: &mut Packets, has_depth: bool) -> Result<ShallowUpdate, RemoteError> {
    let mut update = ShallowUpdate::default();
    let mut in_boundary = has_depth;
    loop {
        let Some(packet) = packets.next().await? else {
            return Err(packets.wrong("its answer ends before the pack"));
        };
        match packet {
            Packet::Data(line) if in_boundary => {
                if !update.take(text(&line)) {
                    return Err(packets.wrong("a line of the boundary is not a commit"));
                }
            }
            Packet::Flush if in_boundary => in_boundary = false,
            Packet::Data(line) if is_acknowledgement(text(&line)) => return Ok(update),
            _ => return Err(packets.wrong("neither `ACK` nor `NAK` stands before the pack")),
        }
    }
}

fn is_acknowledgement(line: &[u8]) -> bool {
    line == b"NAK" || line.starts_with(b"ACK ")
}
