//! Tranche rolls new container images out to fleets of devices in batches, watches every batch, and stops or goes back
//! by itself when a batch goes wrong.
//!
//! ```text
//!   registry ──push──▶ manage ──creates──▶ ImageRollout ◀──spec── people, Git
//!                         ▲                     │  ▲
//!                  registry (pure)        watch │  │ status: the record and the lock
//!                                               ▼  │
//!                       plan (pure) ◀──────▶ controller ──apply──▶ Device.spec.images
//!                          ▲                    ▲                        │ watch
//!                       gate│                   │ DevicePresence         ▼
//!                          └──────────────── gateway ◀──poll, report── devices
//! ```
//!
//! Kubernetes is the database, the lock and the API. Devices are not its nodes: they sit behind NAT, run a container
//! engine, and poll.
//!
//! # Layers
//!
//! | module | what it decides | may use |
//! | --- | --- | --- |
//! | [`api`] | the shape of objects, and what the API server refuses by itself | nothing |
//! | [`registry`] | what a delivery means, and which rollouts it should make | `api` |
//! | [`plan`] | everything about rollouts: who is released, who failed, what is waited for | `api`, the patterns of `registry` |
//! | [`enrol`] | who may enrol as which device, and whose key counts | `api` |
//! | [`verbs`] | what a person's word changes in a rollout, and whether it fits | `api`, the names of `registry`, whom `plan` claims and lets open |
//! | [`resolver`] | nothing: asks with the Secrets that a policy names | `oci` |
//! | [`record`] | what it means that a rollout is there already | `registry`, `resolver` |
//! | [`controller`] | nothing: gathers, asks the planner, writes | `plan` |
//! | [`gateway`] | what a device is told at this moment, by the planner's [`plan::gate`] | `plan`, `enrol` |
//! | [`oci`] | what a registry may be asked and where it may be; what it says of images | `api` |
//! | [`probe`] | what a look at a device says of it, and where looks may go; when they are taken | `api`, the address rules of `oci` |
//! | [`manage`] | who may deliver; what people are shown and do over HTTP, with their own rights | `registry`, `plan`, `verbs` |
//! | [`simulate`] | how devices behave, for trials | `api` |
//! | [`cli`] | what runs in a process | all of these |
//!
//! The first four are pure: no client, clock, chance or environment. A test fails on an import that goes the wrong
//! way.
//!
//! # Why it is made like this
//!
//! **Why is the planner a pure function?** Because then everything that matters for safety can be run a million times
//! in tests, and `tranche plan` can show a person what would happen to objects in a file: it is the same code.
//!
//! **Why is the status written before devices?** It is the record of what was decided and, by its resourceVersion, the
//! lock. A batch is on record as open before a device in it is told; of two controllers only one gets to act.
//!
//! **Why does the gateway ask the rollout at every poll, when the device's entry already says what to run?** So that a
//! stop is one write, whatever the size of the fleet, and is obeyed at each device's next poll.
//!
//! **Why is `Healthy` not stored?** Because it is seen: the device reports the image running. Storing it would cost a
//! write per device and could be wrong a moment later. `Failed` is stored, because it is final.
//!
//! **Why an object for presence?** Who was seen when changes with each poll. Written to devices it would be thousands of
//! writes a minute for a fleet in which nothing happens; in shards it is one write for a thousand devices. It also says
//! how far the knowledge reaches, so that a gateway that is down is not taken for devices that are.
//!
//! **What must never happen** is listed in `tests/it/invariants.rs`, and checked there on every history by code that is
//! not the planner.

pub mod api;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod enrol;
pub mod gateway;
pub mod kubeclient;
pub mod manage;
pub mod metrics;
pub mod oci;
pub mod ops;
pub mod plan;
pub mod probe;
pub mod problem;
pub mod record;
pub mod registry;
pub mod resolver;
pub mod server;
pub mod shutdown;
pub mod simulate;
pub mod telemetry;
pub mod verbs;
