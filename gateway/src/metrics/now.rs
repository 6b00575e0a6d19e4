//! The gauges: what the gateway holds at the moment that Prometheus asks.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, Opts};
use tokio::time::Instant;

use super::tenants::Tenants;
use crate::fleet::WorkerKind;
use crate::state::Gateway;

/// Every gauge, as it stands now.
pub(super) fn gather(gateway: &Gateway, tenants: &Tenants) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    families.extend(queue(gateway, tenants));
    families.extend(workers(gateway));
    families.extend(jobs(gateway));
    families.extend(process(gateway));
    families
}

fn vec(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect("a fixed, valid name")
}

fn one(name: &str, help: &str, value: f64) -> Vec<MetricFamily> {
    let gauge = Gauge::new(name, help).expect("a fixed, valid name");
    gauge.set(value);
    gauge.collect()
}

fn set(gauge: &GaugeVec, labels: &[&str], value: usize) {
    gauge.with_label_values(labels).set(value as f64);
}

/// What waits, by tenant: how much, and for how long.
fn queue(gateway: &Gateway, tenants: &Tenants) -> Vec<MetricFamily> {
    let length = vec(
        "mayfly_queue_jobs",
        "Jobs that wait, by the kind of worker and the tenant; `other` stands for the tenants beyond the first ones.",
        &["worker", "tenant"],
    );
    let age = vec(
        "mayfly_queue_oldest_seconds",
        "For how long the first of these has waited.",
        &["worker", "tenant"],
    );
    for kind in WorkerKind::ALL {
        let mut by_label: BTreeMap<String, (usize, Duration)> = tenants
            .labels()
            .into_iter()
            .map(|label| (label, (0, Duration::ZERO)))
            .collect();
        for waiting in gateway.dispatcher.waiting_by_tenant(*kind) {
            let entry = by_label.entry(tenants.label(&waiting.tenant)).or_default();
            entry.0 += waiting.jobs;
            entry.1 = entry.1.max(waiting.oldest);
        }
        for (tenant, (jobs, oldest)) in by_label {
            set(&length, &[kind.as_str(), &tenant], jobs);
            age.with_label_values(&[kind.as_str(), &tenant])
                .set(oldest.as_secs_f64());
        }
    }
    let capacity = gateway.config.queue_capacity as f64;
    let mut families = [length.collect(), age.collect()].concat();
    families.extend(one(
        "mayfly_queue_capacity_jobs",
        "Jobs that may wait for each kind of worker.",
        capacity,
    ));
    families
}

fn workers(gateway: &Gateway) -> Vec<MetricFamily> {
    let gauge = vec(
        "mayfly_workers",
        "Workers that the gateway knows, by kind and by what each is thought to do; `faulty` ones are not among the `set_aside`.",
        &["worker", "state"],
    );
    for kind in WorkerKind::ALL {
        let counts = gateway.dispatcher.counts(*kind);
        let kind = kind.as_str();
        set(&gauge, &[kind, "idle"], counts.idle);
        set(&gauge, &[kind, "busy"], counts.busy);
        set(
            &gauge,
            &[kind, "set_aside"],
            counts.set_aside.saturating_sub(counts.faulty),
        );
        set(&gauge, &[kind, "faulty"], counts.faulty);
        let others = counts.idle + counts.busy + counts.set_aside;
        set(&gauge, &[kind, "ending"], counts.known.saturating_sub(others));
    }
    gauge.collect()
}

fn jobs(gateway: &Gateway) -> Vec<MetricFamily> {
    let gauge = vec(
        "mayfly_jobs",
        "Jobs that have not ended, by state, and those that ended and are remembered.",
        &["state"],
    );
    let counts = gateway.jobs.counts();
    set(&gauge, &["queued"], counts.queued);
    set(&gauge, &["running"], counts.running);
    set(&gauge, &["finished"], counts.finished_kept);
    let mut families = gauge.collect();
    families.extend(one(
        "mayfly_event_streams",
        "Event streams that clients read now.",
        counts.open_streams as f64,
    ));
    families
}

fn process(gateway: &Gateway) -> Vec<MetricFamily> {
    let build = vec(
        "mayfly_build_info",
        "Always 1; the label says which version this is.",
        &["version"],
    );
    set(&build, &[env!("CARGO_PKG_VERSION")], 1);
    let mut families = build.collect();
    families.extend(one(
        "mayfly_held_body_bytes",
        "Bytes of requests that are held until their jobs end.",
        gateway.held_bytes.held() as f64,
    ));
    let uptime = Instant::now().into_std().duration_since(gateway.started);
    families.extend(one(
        "mayfly_uptime_seconds",
        "Since when this gateway runs.",
        uptime.as_secs_f64(),
    ));
    if let Some(exchange) = &gateway.exchange {
        families.extend(one(
            "mayfly_coordination_up",
            "1 while other gateways can be told of jobs, and asked.",
            f64::from(u8::from(exchange.is_available())),
        ));
    }
    let draining = f64::from(u8::from(gateway.draining.is_cancelled()));
    families.extend(one(
        "mayfly_shutting_down",
        "1 once the gateway was asked to end.",
        draining,
    ));
    families
}
