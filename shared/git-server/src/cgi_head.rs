//! The head of a CGI answer (RFC 3875, section 6). Pure.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Status and headers as the program gave them.
#[derive(Debug)]
pub(crate) struct CgiHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// A line of the head is not a header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the head is not a header")]
pub(crate) struct InvalidHead(usize);

/// Where the body begins: after the first empty line, if that has arrived.
pub(crate) fn body_offset(bytes: &[u8]) -> Option<usize> {
    let ends = |end: &[u8]| {
        let found = bytes.windows(end.len()).position(|window| window == end);
        found.map(|at| at + end.len())
    };
    match (ends(b"\r\n\r\n"), ends(b"\n\n")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Reads the head; without a `Status` the status is 200. Headers that belong to the connection are left out.
pub(crate) fn parse(head: &[u8]) -> Result<CgiHead, InvalidHead> {
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let (name, value) = split_line(line).ok_or(InvalidHead(index + 1))?;
        if name == "status" {
            status = parse_status(&value).ok_or(InvalidHead(index + 1))?;
        } else if name != header::CONNECTION && name != header::TRANSFER_ENCODING {
            headers.append(name, value);
        }
    }
    Ok(CgiHead { status, headers })
}

fn split_line(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

fn parse_status(value: &HeaderValue) -> Option<StatusCode> {
    let digits = value.as_bytes().split(|byte| *byte == b' ').next()?;
    StatusCode::from_bytes(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let bytes = b"Status: 404 Not Found\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nbody\n\n";
        let offset = body_offset(bytes).unwrap();
        assert_eq!(&bytes[offset..], b"body\n\n");
        let head = parse(&bytes[..offset]).unwrap();
        assert_eq!(head.status, StatusCode::NOT_FOUND);
        assert_eq!(head.headers.len(), 1);
        assert_eq!(head.headers["content-type"], "text/plain");
    }

    #[test]
    fn a_head_with_plain_line_ends_and_without_status_is_read() {
        let bytes = b"Expires: 0\nA: b\n\n\r\n\r\n";
        assert_eq!(body_offset(bytes), Some(17));
        assert_eq!(parse(&bytes[..17]).unwrap().status, StatusCode::OK);
    }

    #[test]
    fn what_is_not_a_head_is_refused() {
        assert_eq!(body_offset(b"Status: 200 OK\r\n"), None);
        for (bad, line) in [
            (&b"A: b\r\nfatal"[..], 2),
            (b"a b: c", 1),
            (b"Status: OK", 1),
            (b"A: b\0", 1),
        ] {
            assert_eq!(parse(bad).err(), Some(InvalidHead(line)));
        }
    }
}
