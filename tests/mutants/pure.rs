//! What mutants leave alone: the kinds, and how names and tags are matched.

pub mod api;
pub mod registry;
