//! Where store and simulator meet: the adapter, the scenarios, and the worker that runs one seed of one of them.
//!
//! Nothing that is under test lives here. A [`catalog::Scenario`] turns a seed into a [`plan::Plan`] and directs a
//! [`cluster::Cluster`]; [`run::run`] takes it through its phases and judges it.

pub mod burst;
#[cfg(madsim)]
pub mod catalog;
pub mod describe;
pub mod ledger;
pub mod nearest;
pub mod plan;
pub mod scan;
pub mod script;
pub mod settings;

#[cfg(madsim)]
pub mod audit;
#[cfg(madsim)]
pub mod canary;
#[cfg(madsim)]
pub mod cluster;
#[cfg(madsim)]
pub mod cutover;
#[cfg(madsim)]
pub mod dump;
#[cfg(madsim)]
pub mod env;
#[cfg(madsim)]
pub mod judge;
#[cfg(madsim)]
pub mod prediction;
#[cfg(madsim)]
pub mod report;
#[cfg(madsim)]
pub mod run;
#[cfg(madsim)]
pub mod service;
#[cfg(madsim)]
pub mod steady;
#[cfg(madsim)]
pub mod transport;
#[cfg(madsim)]
pub mod worker;
#[cfg(madsim)]
pub mod workload;
