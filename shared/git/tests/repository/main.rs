//! The repository half against the git program: the same trees, ids and packs, and hostile input.

#[cfg(test)]
mod checkout;
#[cfg(test)]
mod checkout_refused;
#[cfg(test)]
mod diffs;
#[cfg(test)]
mod files;
#[cfg(test)]
mod folding;
#[cfg(test)]
mod history;
#[cfg(test)]
mod hostile_trees;
#[cfg(test)]
mod merges;
#[cfg(test)]
mod pack_limits;
#[cfg(test)]
mod pack_reading;
#[cfg(test)]
mod packs;
#[cfg(test)]
mod patches;
#[cfg(test)]
mod patches_damaged;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod support;
