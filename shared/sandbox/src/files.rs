//! Landlock: which files, ports and processes are in reach.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _,
    RulesetError, Scope, make_bitflags,
};

use crate::Bounds;

/// Below this version a file cannot be renamed from one folder of the process's own to another.
const LEAST: ABI = ABI::V2;
/// The newest version whose restrictions are asked for. Those that the kernel does not know are left out.
const NEWEST: ABI = ABI::V6;

/// Landlock does not hold.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The kernel has no Landlock, or one that is too old, or a container's filter refuses it.
    #[error("the kernel offers no Landlock of version {} or newer (Linux 5.19), or a filter of system calls hides it", LEAST as i32)]
    Unsupported,
    /// A folder of the process's own cannot be named.
    #[error("`{}` cannot be opened", path.display())]
    Own {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: PathFdError,
    },
    /// The kernel refuses the rules.
    #[error("the kernel does not take the rules")]
    Rules(#[from] RulesetError),
}

/// Restricts this thread and those that it makes from now on; says by which version.
pub(crate) fn restrict(bounds: &Bounds) -> Result<i32, FilesError> {
    let ruleset = ruleset().map_err(|_| FilesError::Unsupported)?;
    let mut ruleset = ruleset.add_rule(NetPort::new(bounds.port, AccessNet::BindTcp))?;
    for path in &bounds.own {
        ruleset = with(ruleset, path, changing())?;
    }
    for path in &bounds.emptied {
        ruleset = with(ruleset, path, AccessFs::RemoveDir.into())?;
    }
    for path in &bounds.readable {
        // What is not there needs no rule.
        if let Ok(place) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(place, reading(path)))?;
        }
    }
    match ruleset.restrict_self()?.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok((effective_abi as i32).min(NEWEST as i32)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Err(FilesError::Unsupported),
    }
}

/// What is refused unless a rule allows it.
fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()
}

fn with(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, FilesError> {
    let place = PathFd::new(path).map_err(|source| FilesError::Own {
        path: path.to_owned(),
        source,
    })?;
    Ok(ruleset.add_rule(PathBeneath::new(place, access))?)
}

/// Ordinary files and folders; no links, devices, pipes and sockets.
fn changing() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
    })
}

/// A rule on a file may not speak of folders.
fn reading(path: &Path) -> BitFlags<AccessFs> {
    match path.is_dir() {
        true => AccessFs::ReadFile | AccessFs::ReadDir,
        false => AccessFs::ReadFile.into(),
    }
}
