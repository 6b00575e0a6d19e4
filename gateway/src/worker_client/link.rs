//! One request on a connection of its own, and the answer to it.
//!
//! HTTP/1.1 is spoken by `ureq-proto`, which does no I/O and holds no buffers: a gateway has such a connection for each job that runs, and most of them wait
//! most of the time. What is read goes through the stack.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Buf, Bytes};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult, SendRequestResult};

use super::Socket;
use crate::retry::Outcome;

/// A head is no longer, of a request or an answer.
const MAX_HEAD: usize = 16 * 1024;
/// A request's head is seldom longer.
const USUAL_HEAD: usize = 512;
/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// The line before a chunk, or a trailer, is no longer.
const MAX_LINE: usize = 16 * 1024;

/// An answer's body ended before its time, or is not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut;

/// The body of an answer; dropped, its connection is closed.
pub(super) struct Body {
    socket: Socket,
    /// `None` where the answer has none.
    call: Option<Call<RecvBody>>,
    /// What was read and is not decoded yet.
    unread: Vec<u8>,
}

impl Body {
    /// The next piece, which is not empty; `None` at the end. Nothing is lost when the future is dropped.
    pub(super) async fn chunk(&mut self) -> Option<Result<Bytes, Cut>> {
        let Self { socket, call, unread } = self;
        let call = call.as_mut()?;
        loop {
            match decode(call, unread) {
                Ok(piece) if piece.is_empty() => {}
                decoded => return Some(decoded),
            }
            let ends_with_connection = call.body_mode() == BodyMode::CloseDelimited;
            if call.can_proceed() && !ends_with_connection {
                return None;
            }
            match read(socket, unread).await {
                Ok(1..) => {}
                Ok(0) if ends_with_connection => return None,
                Ok(0) | Err(_) => return Some(Err(Cut)),
            }
        }
    }

    /// All of it; `None` where it is longer, or breaks off.
    pub(super) async fn whole(&mut self, limit: usize) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.chunk().await {
            whole.extend_from_slice(&piece.ok()?);
            if whole.len() > limit {
                return None;
            }
        }
        Some(whole)
    }

    /// The connection for another request, where all of the body was read and the worker goes on listening.
    pub(super) fn into_line(self) -> Option<Socket> {
        let over = self.call?.proceed()?;
        let RecvBodyResult::Cleanup(over) = over else {
            return None;
        };
        let is_usable = self.unread.is_empty() && !over.must_close_connection();
        is_usable.then_some(self.socket)
    }
}

/// Takes what it can of the bytes.
fn decode(call: &mut Call<RecvBody>, unread: &mut Vec<u8>) -> Result<Bytes, Cut> {
    // What is decoded is never longer than what it was.
    let mut decoded = vec![0; unread.len()];
    let (mut taken, mut made) = (0, 0);
    loop {
        let (input, output) = call
            .read(&unread[taken..], &mut decoded[made..])
            .map_err(|_| Cut)?;
        if input == 0 {
            break;
        }
        (taken, made) = (taken + input, made + output);
    }
    unread.drain(..taken);
    if unread.len() > MAX_LINE {
        return Err(Cut);
    }
    if unread.is_empty() {
        // Nothing is held while nothing comes.
        *unread = Vec::new();
    }
    decoded.truncate(made);
    Ok(decoded.into())
}

/// Adds what comes to the bytes, and says how much that was; nothing at the end of the connection.
async fn read(socket: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut space = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *socket).poll_read(context, &mut space))?;
        unread.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    })
    .await
}

/// Sends a request, and waits for the head of its answer.
///
/// A request of which no byte was taken is as good as not sent; of any other nobody knows, unless an answer of some kind came.
pub(super) async fn send(socket: Socket, request: Request<Bytes>) -> Result<(Response<()>, Body), Outcome> {
    let (head, body, mut call) = written(request).map_err(super::unsendable)?;
    let length = head.len() + body.len();
    let mut rest = head.chain(body);
    let (mut reader, mut writer) = tokio::io::split(socket);
    let mut unread = Vec::new();
    let (mut is_sent, mut broken) = (false, None);
    // A worker may answer before it has read all, and then close.
    let response = loop {
        tokio::select! {
            biased;
            sent = send_some(&mut writer, &mut rest), if !is_sent && broken.is_none() => match sent {
                Ok(all) => is_sent = all,
                Err(error) => broken = Some(error),
            },
            came = read(&mut reader, &mut unread) => {
                let ended = match came {
                    Ok(1..) => None,
                    Ok(0) => Some(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    Err(error) => Some(error),
                };
                if let Some(error) = ended {
                    let error = broken.unwrap_or(error);
                    return Err(no_answer(&error, rest.remaining() == length, &unread));
                }
                if let Some(response) = head_of(&mut call, &mut unread)? {
                    break response;
                }
            }
        }
    };
    if !is_sent && response.status().is_success() {
        return Err(Outcome::NotAStream(
            "an answer before it had the whole job".to_owned(),
        ));
    }
    let call = match call.proceed() {
        Some(RecvResponseResult::RecvBody(call)) => Some(call),
        Some(RecvResponseResult::Redirect(_) | RecvResponseResult::Cleanup(_)) | None => None,
    };
    let socket = reader.unsplit(writer);
    Ok((response, Body { socket, call, unread }))
}

/// Sends what the connection takes; true once it has all.
async fn send_some(writer: &mut (impl AsyncWrite + Unpin), rest: &mut impl Buf) -> io::Result<bool> {
    if !rest.has_remaining() {
        // TLS may hold some of it.
        writer.flush().await?;
        return Ok(true);
    }
    match writer.write_buf(rest).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(false),
    }
}

fn no_answer(error: &io::Error, is_unsent: bool, unread: &[u8]) -> Outcome {
    match (is_unsent, unread.is_empty()) {
        (true, _) => Outcome::Unreachable("the connection closed before the request was sent".to_owned()),
        (false, true) => Outcome::NoAnswer(error.to_string()),
        (false, false) => Outcome::NotAStream("something that breaks off".to_owned()),
    }
}

/// The head of an answer, taken from what was read, once all of it is there.
fn head_of(call: &mut Call<RecvResponse>, unread: &mut Vec<u8>) -> Result<Option<Response<()>>, Outcome> {
    let not_http = |_| Outcome::NotAStream("something that is not HTTP".to_owned());
    loop {
        let (taken, response) = call.try_response(unread, false).map_err(not_http)?;
        unread.drain(..taken);
        if response.is_some() {
            return Ok(response);
        }
        if unread.len() > MAX_HEAD {
            return Err(Outcome::NotAStream("a head without an end".to_owned()));
        }
        // An informational one may come before.
        if taken == 0 {
            return Ok(None);
        }
    }
}

/// A request as it is sent: its head, its body, and who reads the answer.
fn written(request: Request<Bytes>) -> Result<(Bytes, Bytes, Call<RecvResponse>), Unwritable> {
    let (mut parts, body) = request.into_parts();
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let (head, _) = head_and_call(Request::from_parts(parts, ()))?;
    // An answer is read alike whatever was asked, except after HEAD and CONNECT; and whoever reads it keeps the request with all its headers.
    let (_, call) = head_and_call(Request::new(()))?;
    match call {
        SendRequestResult::RecvResponse(call) => Ok((head.into(), body, call)),
        SendRequestResult::SendBody(_) | SendRequestResult::Await100(_) => Err(Unwritable),
    }
}

fn head_and_call(request: Request<()>) -> Result<(Vec<u8>, SendRequestResult), Unwritable> {
    let mut call = Call::new(request).map_err(|_| Unwritable)?.proceed();
    let mut head = Vec::new();
    let mut length = 0;
    while !call.can_proceed() {
        // What is touched here is touched by every connection, so it grows as it must.
        if head.len() >= MAX_HEAD {
            return Err(Unwritable);
        }
        head.resize((head.len() * 2).max(USUAL_HEAD), 0);
        length += match call.write(&mut head[length..]) {
            Ok(written) => written,
            Err(ureq_proto::Error::OutputOverflow) => 0,
            Err(_) => return Err(Unwritable),
        };
    }
    head.truncate(length);
    let call = call.proceed().map_err(|_| Unwritable)?;
    Ok((head, call.ok_or(Unwritable)?))
}

/// A request is no HTTP, or its head is too long.
struct Unwritable;

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
