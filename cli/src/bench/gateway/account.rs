//! What a side uses while it runs: processor time and memory of a process with all that it has started, from `/proc`.

use std::fs::read_to_string;

use crate::bench::measure::Parts;

/// Clock ticks a second in `/proc`; Linux has shown 100 to programs on every architecture since version 2.6 (proc_pid_stat(5), time(7)).
const TICKS: f64 = 100.0;

/// What was used so far, and is held now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    /// Seconds, user and system.
    pub(super) cpu: f64,
    pub(super) anon_kib: u64,
    pub(super) resident_kib: u64,
}

/// The account of a process and its descendants; what has ended is not in it.
pub(super) fn of_tree(process: u32) -> Account {
    let mut sum = of_one(process);
    for child in children(process) {
        let child = of_tree(child);
        sum.cpu += child.cpu;
        sum.anon_kib += child.anon_kib;
        sum.resident_kib += child.resident_kib;
    }
    sum
}

fn of_one(process: u32) -> Account {
    let stat = read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let parts = Parts::of(process).unwrap_or_default();
    Account {
        cpu: cpu(&stat).unwrap_or_default(),
        anon_kib: parts.anon_kib,
        resident_kib: parts.anon_kib + parts.file_kib + parts.shared_kib,
    }
}

/// Fields 14 and 15 of proc_pid_stat(5); the name before them may have blanks.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn children(process: u32) -> Vec<u32> {
    let list = read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_blanks() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(cpu("7 (ended"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let account = of_tree(std::process::id());
        assert!(account.anon_kib > 0 && account.resident_kib > account.anon_kib);
    }
}
