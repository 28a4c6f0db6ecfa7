//! The one integration-test binary.

mod gateway;
