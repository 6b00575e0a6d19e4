//! From the operating system's signals to one shutdown token.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A token that is cancelled by SIGTERM or SIGINT.
pub(crate) fn shutdown_token(tasks: &TaskTracker) -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancelled = token.clone();
    mayfly_telemetry::task::spawn(tasks, async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Cancels the token when standard input ends: whoever started this process holds the other end, and is gone.
pub(crate) fn cancel_with_parent(tasks: &TaskTracker, token: CancellationToken) {
    mayfly_telemetry::task::spawn(tasks, async move {
        let mut input = tokio::io::stdin();
        let mut rest = [0; 64];
        while matches!(input.read(&mut rest).await, Ok(bytes) if bytes > 0) {}
        tracing::info!("the process that started this one is gone: shutting down");
        token.cancel();
    });
}
