//! Scenario 1. The link to the joining node loses some of the clients' writes after their pages were copied. The
//! delta pass finds what is missing and ships it before the cutover; nobody ever reads an old value.

use crate::catalog::{Scenario, Windows};
use crate::cutover::migrations;

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/with_anti_entropy",
    promise: "anti-entropy on, delta pass on, dual-writes lost: no loss window, no pause in writes",
    marks: &["delta pass shipped a missed document", "a migration ended while faults could happen"],
    windows: Windows::None,
    gate_overridden: false,
    converges: true,
    shape: |_| {},
    plan: |_, _| {},
    course: migrations,
};
