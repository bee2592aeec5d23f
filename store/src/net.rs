//! The production network: [`tcp`] carries the frames that the simulator's fabric carries in tests.

pub mod key;
pub mod tcp;
