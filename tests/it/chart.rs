//! The Helm chart: what it renders, that a real API server takes it, and that its roles grant what is used and no more.

mod helm;
mod installed;
mod rendered;
pub mod rights;
