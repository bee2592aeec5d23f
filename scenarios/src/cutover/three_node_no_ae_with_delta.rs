//! Scenario 14. As scenario 13, and nobody runs anti-entropy: four delta passes side by side have to find everything. So
//! they have there: a shard with one replica has nobody to be compared with, except when its migration left the delta pass
//! out. What differs is what an operator is told, and what is allowed.

use crate::catalog::{Scenario, Windows};
use crate::cutover::three_node_cluster::{MARKS, course, plan, shape};

pub const SCENARIO: Scenario = Scenario {
    id: "cutover/three_node_no_ae_with_delta",
    promise: "as three_node_cluster with anti-entropy off: no loss window",
    marks: MARKS,
    windows: Windows::None,
    gate_overridden: false,
    converges: false,
    shape,
    plan: |it, dice| {
        plan(it, dice);
        it.cluster.anti_entropy = false;
    },
    course,
};
