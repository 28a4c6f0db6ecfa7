//! Who may enrol as which device, and whose key counts. Pure.
//!
//! Decides on what was read: a provisioning key's Secret, the `Device` of that UUID, the request. Reads, writes and draws
//! nothing; the gateway does, on the revision that the decision was made on, and so needs no memory of its own: all of
//! an enrolment's state is in the `Device`.
//!
//! # The two phases
//!
//! A device makes its own UUID and key. It *registers* with a provisioning key, which creates its `Device` with the hash of
//! the device's key and a challenge; then it *exchanges* keys, by a signature over the challenge where it registered a
//! public key, and by its own key otherwise. Only then it is told anything.
//!
//! # Whose UUID it is
//!
//! A UUID that is known is given to nobody else: only to whoever proves with the key that is on record (an agent that
//! repeats itself), or once, after a person's release (`spec.auth.reenrol`), to a holder of a provisioning key of the
//! device's fleet. A release is known by its time, and counts while the device hasn't enrolled since; so it is used up for
//! good, though whoever declares it goes on declaring it. What the device runs is never touched by it.

pub mod device;
pub mod exchange;
pub mod hash;
pub mod key;
pub mod proof;
pub mod registration;
pub mod rotation;
pub mod terms;
