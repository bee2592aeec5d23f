//! Scenarios in which processes talk over the transport that ships, and not frame by frame.

pub mod simulated_tcp;
