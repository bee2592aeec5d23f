//! Judges of a run: each looks at one promise, and says what broke it in words.
//!
//! [`durable`] is omniscient and sees every replica; [`linearizable`] sees only what the clients saw; [`converged`] looks at the end;
//! [`progress`] looks for time in which nothing succeeded; [`set`] is for systems that only grow.

pub mod converged;
pub mod durable;
pub mod linearizable;
pub mod progress;
pub mod set;
