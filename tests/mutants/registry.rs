//! What policies are made of: how names and tags are matched.

pub mod pattern;
pub mod tags;
