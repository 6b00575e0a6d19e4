//! What a role gives up when it starts, since nobody else takes it away: `docker stack deploy` leaves out `security_opt` without a word.

use anyhow::Context as _;
use nix::sys::prctl;

/// From now on nothing that this process starts may gain privileges (`PR_SET_NO_NEW_PRIVS`), and no other process of the same user may
/// read its memory, its environment or its open files, nor does a crash write them to the disk (`PR_SET_DUMPABLE`, prctl(2)).
pub(crate) fn confine() -> anyhow::Result<()> {
    prctl::set_no_new_privs().context("the process cannot give up gaining privileges")?;
    prctl::set_dumpable(false).context("the process cannot shut its memory to others")
}
