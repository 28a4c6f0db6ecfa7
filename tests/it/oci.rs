//! The client of registries: with the real registry, and with servers that do what no registry should.

mod fake;
mod hostile;
mod limits;
mod real;
