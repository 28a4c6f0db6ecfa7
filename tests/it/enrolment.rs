//! Enrolment of real agents' requests at the real binary, on a real control plane and with the chart's rights: who comes
//! in, who doesn't, and what is never told.

mod agent;
mod certificates;
mod door;
mod generations;
mod hostile;
mod limits;
mod ownership;
mod page;
