//! A filter of system calls: what a process never does that starts no other and looks at none.
//!
//! It lists what is refused, and not what is allowed: libraries change their calls from version to version, and a call that is missing from a
//! list of allowed ones would end jobs. A container's own profile may allow less.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filter is not in force.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    /// It cannot be made for this processor.
    #[error("no filter can be made for this processor")]
    Made(#[from] BackendError),
    /// The kernel does not take it.
    #[error("the kernel does not take the filter")]
    Taken(#[from] seccompiler::Error),
}

/// Refused whatever their arguments are.
const REFUSED: &[i64] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Memory, files and handles of other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Work that the kernel does past this filter, and programs of its own.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    // Keys of the kernel, which know users and no containers.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Namespaces, mounts and roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_quotactl,
];
/// Processes; aarch64 has only `clone` for them.
#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[];
/// A kernel for x86-64 may speak the ABI x32 beside its own: the same calls, with this bit in their numbers (Linux, `arch/x86/include/uapi/asm/unistd.h`).
#[cfg(target_arch = "x86_64")]
const X32: Option<i64> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<i64> = None;
/// Refused calls that have other numbers there: `execve`, `ptrace`, `kexec_load`, `process_vm_readv`, `process_vm_writev` and `execveat`
/// (`arch/x86/entry/syscalls/syscall_64.tbl`).
const X32_REFUSED: [i64; 6] = [520, 521, 528, 539, 540, 545];
/// What is spoken: the internet, and the kernel's own answers about addresses. Sockets in the file system are beyond Landlock's older versions.
const FAMILIES: [i32; 3] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Puts the filters in force for this thread and those that it makes from now on.
pub(crate) fn restrict() -> Result<(), CallsError> {
    seccompiler::apply_filter(&program(refused()?, libc::EPERM)?)?;
    // Its arguments are out of a filter's sight. The C library takes `clone` where it does not exist.
    let mut clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    also_x32(&mut clone3);
    seccompiler::apply_filter(&program(clone3, libc::ENOSYS)?)?;
    Ok(())
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

fn refused() -> Result<Rules, BackendError> {
    let always = REFUSED.iter().chain(FORKS).map(|call| (*call, Vec::new()));
    let mut rules: Rules = always.collect();
    rules.insert(libc::SYS_clone, vec![process()?]);
    rules.insert(libc::SYS_socket, vec![other_family()?]);
    if X32.is_some() {
        rules.extend(X32_REFUSED.map(|call| (call, Vec::new())));
    }
    also_x32(&mut rules);
    Ok(rules)
}

/// The same for the numbers of x32, where there may be such.
fn also_x32(rules: &mut Rules) {
    let Some(bit) = X32 else { return };
    let same: Vec<_> = rules
        .iter()
        .map(|(call, rule)| (call | bit, rule.clone()))
        .collect();
    rules.extend(same);
}

/// A clone that is no thread.
fn process() -> Result<SeccompRule, BackendError> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let is_process = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?;
    SeccompRule::new(vec![is_process])
}

fn other_family() -> Result<SeccompRule, BackendError> {
    let is_not = |family: i32| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    SeccompRule::new(FAMILIES.into_iter().map(is_not).collect::<Result<_, _>>()?)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_refused_by_the_numbers_of_x32_too() {
        let rules = refused().unwrap();
        let (native, x32): (Vec<i64>, Vec<i64>) = rules.keys().partition(|call| **call < 0x4000_0000);
        assert_eq!(native.len(), x32.len());
        for call in [libc::SYS_socket, libc::SYS_bpf, 520, 521, 539, 540, 545] {
            assert_eq!(rules[&(call | 0x4000_0000)], rules[&call], "{call}");
        }
    }
}
