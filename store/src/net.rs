//! The production network: [`tcp`] carries the frames that the simulator's fabric carries in most tests.

pub mod key;
pub mod tcp;
