//! HTTP headers of our own, between client, gateway and worker.

/// The id of the job: in every answer that begins a stream, and from the gateway to a worker.
pub const JOB_ID: &str = "x-job-id";
/// From the gateway to a worker: which attempt at the job this is, from 1.
pub const ATTEMPT: &str = "x-job-attempt";
/// From the gateway to a worker: how many events the job's stream has before the worker's first.
pub const EVENTS_BEFORE: &str = "x-job-events-before";
/// From the gateway to a worker: when the job was accepted (RFC 3339), which is the time that its commits carry.
pub const ACCEPTED_AT: &str = "x-job-accepted-at";
/// From the gateway to a worker: the tenant whose job this is.
pub const TENANT: &str = "x-tenant-id";
/// From clients to the gateway, and from there to a worker: the trace that the job belongs to (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
