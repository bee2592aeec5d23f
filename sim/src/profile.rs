//! How rough a world is: ranges that a seed draws its network, its disks and its faults from.
//!
//! A profile is `calm`, `usual`, `storm`, or a TOML file of the same form as those three (`sim/profiles/*.toml`). A range is `[low, high]`, both
//! included; what a file leaves out is as in `calm`. A chance is drawn in steps of one in a thousand.
//!
//! ```toml
//! [network]
//! loss = ["0/1000", "20/1000"]
//!
//! [faults]
//! per_second = 4
//! min_ms = 5
//! max_ms = 500
//! hurt_at_most = 1           # or: lifted = "why"; with neither, a minority of the nodes
//! weights = { crash = 4, clog = 1, wipe = 1 }
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dice::{Dice, Random, Stream};
use crate::fault::{Intensity, Kind, draw_faults};
use crate::plan::{Budget, DiskPlan, NetworkPlan, PlanError, SimPlan};
use crate::ratio::Ratio;
use crate::time::Nanos;

/// Both ends included.
type Range = [u64; 2];

/// A profile, as in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// How messages travel.
    pub network: NetworkRanges,
    /// How disks behave.
    pub disk: DiskRanges,
    /// What goes wrong, and how often.
    pub faults: FaultRanges,
}

/// See [`NetworkPlan`] for the fields; `latency_above_us` is what the mean is above the minimum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct NetworkRanges {
    pub latency_min_us: Range,
    pub latency_above_us: Range,
    pub tail: [Ratio; 2],
    pub tail_mean_us: Range,
    pub loss: [Ratio; 2],
    pub duplicate: [Ratio; 2],
    pub reorder: [Ratio; 2],
    pub reorder_max_us: Range,
    pub bandwidth_mbit: Range,
}

/// See [`DiskPlan`] for the fields; `sync_above_us` is what the mean is above the minimum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct DiskRanges {
    pub write_us: Range,
    pub sync_min_us: Range,
    pub sync_above_us: Range,
    pub stall: [Ratio; 2],
    pub stall_mean_ms: Range,
}

/// Planned faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultRanges {
    /// At most so many per simulated second.
    pub per_second: u64,
    /// The shortest, in milliseconds.
    pub min_ms: u64,
    /// The longest, in milliseconds.
    pub max_ms: u64,
    /// Nodes that may be hurt at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hurt_at_most: Option<usize>,
    /// All may be, for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted: Option<String>,
    /// How likely each kind is beside the others; without any, [`Kind::COMMON`] in equal parts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Kind, u64>,
}

impl Default for NetworkRanges {
    fn default() -> Self {
        let never = [Ratio::ZERO; 2];
        NetworkRanges {
            latency_min_us: [100, 400],
            latency_above_us: [100, 900],
            tail: never,
            tail_mean_us: [0, 0],
            loss: never,
            duplicate: never,
            reorder: never,
            reorder_max_us: [0, 0],
            bandwidth_mbit: [0, 0],
        }
    }
}

impl Default for DiskRanges {
    fn default() -> Self {
        DiskRanges {
            write_us: [5, 5],
            sync_min_us: [50, 200],
            sync_above_us: [50, 400],
            stall: [Ratio::ZERO; 2],
            stall_mean_ms: [0, 0],
        }
    }
}

impl Default for FaultRanges {
    fn default() -> Self {
        FaultRanges {
            per_second: 0,
            min_ms: 20,
            max_ms: 800,
            hurt_at_most: None,
            lifted: None,
            weights: BTreeMap::new(),
        }
    }
}

impl Profile {
    /// The profiles that have a name, with their files.
    pub const NAMED: [(&'static str, &'static str); 3] = [
        ("calm", include_str!("../profiles/calm.toml")),
        ("usual", include_str!("../profiles/usual.toml")),
        ("storm", include_str!("../profiles/storm.toml")),
    ];

    /// The profile of this name.
    pub fn named(name: &str) -> Option<Profile> {
        let (name, text) = Profile::NAMED.into_iter().find(|&(known, _)| known == name)?;
        Some(Profile::read(name, text).expect("the profiles that come along are good"))
    }

    /// Reads a profile from the text of `file`; the error names file, line and field, and what is allowed.
    pub fn read(file: &str, text: &str) -> Result<Profile, String> {
        let wrong = |error: PlanError| error.in_file(file, text);
        let profile: Profile = toml::from_str(text).map_err(|error| wrong(PlanError::malformed(text, &error)))?;
        profile.check().map_err(wrong)?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), PlanError> {
        let Profile { network, disk, faults } = self;
        let problem = |field: &str, problem: String| Err(PlanError::Field { field: field.to_owned(), problem });
        for (field, [low, high]) in [
            ("network.latency_min_us", network.latency_min_us),
            ("network.latency_above_us", network.latency_above_us),
            ("network.tail_mean_us", network.tail_mean_us),
            ("network.reorder_max_us", network.reorder_max_us),
            ("network.bandwidth_mbit", network.bandwidth_mbit),
            ("disk.write_us", disk.write_us),
            ("disk.sync_min_us", disk.sync_min_us),
            ("disk.sync_above_us", disk.sync_above_us),
            ("disk.stall_mean_ms", disk.stall_mean_ms),
        ] {
            if low > high {
                return problem(field, format!("[{low}, {high}] runs backwards; write [low, high]"));
            }
            if high > 3_600_000_000 {
                return problem(field, format!("{high} is above 3600000000"));
            }
        }
        for (field, [low, high]) in [
            ("network.tail", network.tail),
            ("network.loss", network.loss),
            ("network.duplicate", network.duplicate),
            ("network.reorder", network.reorder),
            ("disk.stall", disk.stall),
        ] {
            if low.max(high) != high {
                return problem(field, format!("[\"{low}\", \"{high}\"] runs backwards; write [low, high]"));
            }
        }
        if faults.per_second > 1_000 {
            return problem("faults.per_second", format!("{} is above 1000", faults.per_second));
        }
        if faults.min_ms == 0 || faults.min_ms > faults.max_ms {
            let text = format!("{} is outside 1 to max_ms = {}", faults.min_ms, faults.max_ms);
            return problem("faults.min_ms", text);
        }
        if faults.hurt_at_most.is_some() && faults.lifted.is_some() {
            return problem("faults.lifted", "stands beside hurt_at_most; it is one or the other".to_owned());
        }
        if faults.lifted.as_ref().is_some_and(|why| why.trim().is_empty()) {
            return problem("faults.lifted", "is empty; say why".to_owned());
        }
        Ok(())
    }

    /// How much goes wrong among so many nodes.
    pub fn intensity(&self, nodes: usize) -> Intensity {
        let FaultRanges { per_second, min_ms, max_ms, hurt_at_most, ref lifted, ref weights } = self.faults;
        let usual = Intensity::usual();
        Intensity {
            per_second,
            min_ms,
            max_ms,
            budget: if lifted.is_some() { Some(nodes) } else { hurt_at_most },
            weights: if weights.is_empty() { usual.weights } else { weights.clone() },
        }
    }

    /// The world of one seed: a plan whose faults happen to `nodes` and end before `horizon`. A lifted budget is carried into the plan.
    pub fn draw(&self, dice: &Dice, nodes: &[&str], horizon: Nanos) -> SimPlan {
        let faults = match self.faults.per_second {
            0 => Vec::new(),
            _ => draw_faults(dice, nodes, horizon, &self.intensity(nodes.len())),
        };
        let budget = match (&self.faults.lifted, self.faults.hurt_at_most) {
            (Some(why), _) => Budget::Lifted(why.clone()),
            (None, most) => Budget::AtMost(most.unwrap_or(nodes.len().saturating_sub(1) / 2)),
        };
        SimPlan {
            network: self.network.draw(&mut dice.stream("profile", 0)),
            disk: self.disk.draw(&mut dice.stream("profile", 1)),
            budget: Some(budget),
            faults,
        }
    }
}

fn number(stream: &mut Stream, [low, high]: Range) -> u64 {
    stream.range(low..=high)
}

/// In steps of a thousandth; a range that is a point is that point.
fn chance(stream: &mut Stream, [low, high]: [Ratio; 2]) -> Ratio {
    let step = stream.range(0..=1_000_000);
    if low == high {
        return low;
    }
    let (low, high) = (low.ppm(), high.ppm());
    Ratio::of(((low + (high - low) * step / 1_000_000) / 1_000) as u32, 1_000)
}

impl NetworkRanges {
    fn draw(&self, stream: &mut Stream) -> NetworkPlan {
        let latency_min_us = number(stream, self.latency_min_us);
        NetworkPlan {
            latency_min_us,
            latency_mean_us: latency_min_us + number(stream, self.latency_above_us),
            tail: chance(stream, self.tail),
            tail_mean_us: number(stream, self.tail_mean_us),
            loss: chance(stream, self.loss),
            duplicate: chance(stream, self.duplicate),
            reorder: chance(stream, self.reorder),
            reorder_max_us: number(stream, self.reorder_max_us),
            bandwidth_mbit: number(stream, self.bandwidth_mbit),
            links: Vec::new(),
        }
    }
}

impl DiskRanges {
    fn draw(&self, stream: &mut Stream) -> DiskPlan {
        let sync_min_us = number(stream, self.sync_min_us);
        DiskPlan {
            write_us: number(stream, self.write_us),
            sync_min_us,
            sync_mean_us: sync_min_us + number(stream, self.sync_above_us),
            stall: chance(stream, self.stall),
            stall_mean_ms: number(stream, self.stall_mean_ms),
            ..DiskPlan::default()
        }
    }
}

#[cfg(test)]
mod tests;
