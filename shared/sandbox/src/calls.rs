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
/// What is spoken: the internet, and the kernel's own answers about addresses. Sockets in the file system are beyond Landlock's older versions.
const FAMILIES: [i32; 3] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Puts the filters in force for this thread and those that it makes from now on.
pub(crate) fn restrict() -> Result<(), CallsError> {
    seccompiler::apply_filter(&program(refused()?, libc::EPERM)?)?;
    // Its arguments are out of a filter's sight. The C library takes `clone` where it does not exist.
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
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
    Ok(rules)
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
