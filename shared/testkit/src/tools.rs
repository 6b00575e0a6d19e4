//! Where the programs are that `.ci/tools.sh` installs.

use std::path::PathBuf;

use crate::child_server::tools_folder;

/// The path of an installed program, such as `prometheus/promtool`; panics where it is missing.
#[track_caller]
pub fn path(program: &str) -> PathBuf {
    let path = tools_folder().join(program);
    assert!(
        path.exists(),
        "{} is missing; run .ci/tools.sh, which installs what the tests need",
        path.display()
    );
    path
}
