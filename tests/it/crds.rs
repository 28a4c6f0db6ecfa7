//! The kinds against the real API server: it takes them, it takes the examples, and it refuses whatever breaks a rule,
//! with words that say what to do.

mod apply_facts;
mod bounds;
mod definitions;
mod full;
mod readable;
mod refusal;
mod rules;
mod schema;
mod shown;
