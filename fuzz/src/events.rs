//! Events of a worker: what our own types can say is relayed as what it is, and no other job's event is.

use mayfly_gateway::fuzzing::is_last_event;
use mayfly_protocol::{Event, JobId};
use serde_json::Value;

pub fn check(data: &[u8]) {
    let other: JobId = "01890000-0000-7000-8000-00000000ffff".parse().expect("an id");
    let ours: JobId = "01890000-0000-7000-8000-000000000000".parse().expect("an id");
    let _rubbish_or_not = is_last_event(data, &ours);
    let Ok(event) = serde_json::from_slice::<Event>(data) else {
        return;
    };
    let written = serde_json::to_vec(&event).expect("an event has text keys only");
    assert!(!written.contains(&b'\n') && !written.contains(&b'\r'));
    let read: Event = serde_json::from_slice(&written).expect("what is written is read");
    // A number with a fraction may be read as its neighbour; none of ours has one.
    if !has_fraction(&serde_json::to_value(&event).expect("it was written before")) {
        assert_eq!(serde_json::to_vec(&read).expect("it was written before"), written);
    }
    assert_eq!(is_last_event(&written, &event.job_id), Some(event.is_terminal()));
    if event.job_id != other {
        assert_eq!(is_last_event(&written, &other), None);
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}
