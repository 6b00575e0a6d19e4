//! The one source of chance: what spreads pauses, and nothing that has to be secret.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A number from 0 to 1; each hasher of the standard library has keys of its own.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}
