//! Questions to `/proc`: who runs, and whose child it is.

use std::collections::BTreeMap;

/// Whether the process runs. One that has ended and was not waited for yet (a zombie) does not.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// The children of a process that are in the process table, zombies left out.
pub fn children_of(pid: u32) -> Vec<u32> {
    let running = table();
    let children = running.iter().filter(|(_, stat)| stat.parent == pid);
    children.map(|(id, _)| *id).collect()
}

/// The children of a process, their children, and so on.
pub fn descendants_of(pid: u32) -> Vec<u32> {
    let running = table();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let children = running.iter().filter(|(_, stat)| stat.parent == parent);
        family.extend(children.map(|(id, _)| *id));
        next += 1;
    }
    family.split_off(1)
}

/// The processes of a process group, zombies left out.
pub fn members_of_group(group: u32) -> Vec<u32> {
    let running = table();
    let members = running.iter().filter(|(_, stat)| stat.group == group);
    members.map(|(id, _)| *id).collect()
}

/// Each process that runs.
fn table() -> BTreeMap<u32, Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let with_stat = ids.filter_map(|id| stat(id).map(|stat| (id, stat)));
    with_stat.filter(|(_, stat)| stat.state != 'Z').collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    group: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `<pid> (<name>) <state> <parent> <group> …` of proc(5); the name may hold spaces and brackets.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    Some(Stat {
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
        group: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_mislead() {
        let stat = parse_stat("12 (a) Z 9 (b) S 7 8 12 0 -1");
        assert_eq!(
            stat,
            Some(Stat {
                state: 'S',
                parent: 7,
                group: 8,
            })
        );
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn this_process_is_a_child_that_runs() {
        let own = std::process::id();
        assert!(is_alive(own));
        assert!(children_of(std::os::unix::process::parent_id()).contains(&own));
        assert!(descendants_of(std::os::unix::process::parent_id()).contains(&own));
        // Ids end at 2^22 (proc(5), `pid_max`).
        assert!(!is_alive(1 << 30));
    }
}
