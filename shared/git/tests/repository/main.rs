//! The repository half against the git program: the same trees, ids and packs, and hostile input.

mod support;

mod hostile_trees;
mod packs;
