//! How keys are written, which is all that the planner's tests need of enrolment.

pub mod hash;
