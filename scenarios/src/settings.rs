//! `--set key=value`: changes single values of a drawn plan.

use std::fmt::Write as _;

use miroir_sim::Ratio;

use crate::nearest::nearest;
use crate::plan::{Plan, Shape};

/// One key: what it takes, and how it is set.
struct Key {
    name: &'static str,
    allowed: &'static str,
    what: &'static str,
    set: fn(&mut Plan, &str) -> Result<(), String>,
}

struct ShapeKey {
    name: &'static str,
    allowed: &'static str,
    what: &'static str,
    set: fn(&mut Shape, &str) -> Result<(), String>,
}

fn number(text: &str, low: u64, high: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        _ => Err(format!("`{text}` is not a number from {low} to {high}")),
    }
}

fn ratio(text: &str) -> Result<Ratio, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn switch(text: &str, on: &str, off: &str) -> Result<bool, String> {
    if text == on {
        Ok(true)
    } else if text == off {
        Ok(false)
    } else {
        Err(format!("`{text}` is neither {on} nor {off}"))
    }
}

macro_rules! set_number {
    ($field:expr, $low:literal, $high:literal) => {
        |plan, text| {
            let field: fn(&mut Plan, u64) = $field;
            field(plan, number(text, $low, $high)?);
            Ok(())
        }
    };
}

fn set_operations(plan: &mut Plan, count: u64) {
    let before = u64::from(plan.workload.operations.max(1));
    plan.workload.operations = count as u32;
    for migration in &mut plan.migrations {
        migration.after_operations = (u64::from(migration.after_operations) * count / before) as u32;
    }
}

/// What has to be known before a plan is drawn.
const SHAPE_KEYS: &[ShapeKey] = &[
    ShapeKey {
        name: "replication",
        allowed: "1|3",
        what: "replicas per shard",
        set: |shape, text| {
            let n = number(text, 1, 3)?;
            if n == 2 {
                return Err("replication is 1 or 3".to_owned());
            }
            shape.replication = Some(n as u32);
            Ok(())
        },
    },
    ShapeKey {
        name: "nodes",
        allowed: "2..9",
        what: "nodes of the cluster; more than the replication, or that much",
        set: |shape, text| {
            shape.nodes = Some(number(text, 2, 9)? as u32);
            Ok(())
        },
    },
    ShapeKey {
        name: "clients",
        allowed: "1..64",
        what: "clients",
        set: |shape, text| {
            shape.clients = Some(number(text, 1, 64)? as u32);
            Ok(())
        },
    },
];

/// Everything else.
const KEYS: &[Key] = &[
    Key {
        name: "shards",
        allowed: "1..64",
        what: "shards of the cluster",
        set: set_number!(|plan, n| plan.cluster.shards = n as u32, 1, 64),
    },
    Key {
        name: "anti_entropy",
        allowed: "on|off",
        what: "whether anti-entropy runs",
        set: |plan, text| {
            plan.cluster.anti_entropy = switch(text, "on", "off")?;
            Ok(())
        },
    },
    Key {
        name: "anti_entropy.period_ms",
        allowed: "20..60000",
        what: "between the starts of two passes over a shard",
        set: set_number!(|plan, n| plan.cluster.anti_entropy_period_ms = n, 20, 60_000),
    },
    Key {
        name: "delta",
        allowed: "on|skipped",
        what: "the delta pass of every migration",
        set: |plan, text| {
            let skip = !switch(text, "on", "skipped")?;
            plan.migrations.iter_mut().for_each(|migration| migration.skip_delta = skip);
            Ok(())
        },
    },
    Key {
        name: "verify",
        allowed: "on|off",
        what: "whether what reconciling has shipped is verified",
        set: |plan, text| {
            plan.cluster.skip_verify = !switch(text, "on", "off")?;
            Ok(())
        },
    },
    Key {
        name: "collect_every_ms",
        allowed: "1..60000",
        what: "between two attempts to forget the tombstones of a shard",
        set: set_number!(|plan, n| plan.timing.collect_every_ms = n, 1, 60_000),
    },
    Key {
        name: "operations",
        allowed: "1..2000000",
        what: "operations over all clients; migrations start after the same share of them",
        set: set_number!(set_operations, 1, 2_000_000),
    },
    Key {
        name: "documents",
        allowed: "1..1000000",
        what: "different documents",
        set: set_number!(|plan, n| plan.workload.documents = n as u32, 1, 1_000_000),
    },
    Key {
        name: "value_bytes",
        allowed: "16..65536",
        what: "size of a document's body",
        set: set_number!(|plan, n| plan.workload.value_bytes = n as u32, 16, 65_536),
    },
    Key {
        name: "reads",
        allowed: "a ratio such as 3/10",
        what: "share of operations that are reads",
        set: |plan, text| {
            plan.workload.reads = ratio(text)?;
            Ok(())
        },
    },
    Key {
        name: "deletes",
        allowed: "a ratio such as 1/10",
        what: "share of operations that are deletes",
        set: |plan, text| {
            plan.workload.deletes = ratio(text)?;
            Ok(())
        },
    },
    Key {
        name: "network.loss",
        allowed: "a ratio such as 1/100",
        what: "chance that a message is lost, on every link without a loss of its own",
        set: |plan, text| {
            plan.sim.network.loss = ratio(text)?;
            Ok(())
        },
    },
    Key {
        name: "network.joiner_loss",
        allowed: "a ratio such as 1/100",
        what: "chance that a client's message to a joining node is lost",
        set: |plan, text| {
            let loss = ratio(text)?;
            plan.lossy_links(loss);
            Ok(())
        },
    },
    Key {
        name: "network.duplicate",
        allowed: "a ratio such as 1/100",
        what: "chance that a message arrives twice",
        set: |plan, text| {
            plan.sim.network.duplicate = ratio(text)?;
            Ok(())
        },
    },
    Key {
        name: "network.reorder",
        allowed: "a ratio such as 1/100",
        what: "chance that a message is held back and overtaken",
        set: |plan, text| {
            plan.sim.network.reorder = ratio(text)?;
            Ok(())
        },
    },
    Key {
        name: "network.latency_mean_us",
        allowed: "1..1000000",
        what: "mean latency of a message; the least is a third of it",
        set: |plan, text| {
            let mean = number(text, 1, 1_000_000)?;
            plan.sim.network.latency_mean_us = mean;
            plan.sim.network.latency_min_us = mean / 3;
            Ok(())
        },
    },
    Key {
        name: "drain_timeout_ms",
        allowed: "1..60000",
        what: "from Joint until a majority of the old replicas has installed it",
        set: set_number!(|plan, n| plan.timing.drain_timeout_ms = n, 1, 60_000),
    },
    Key {
        name: "joint_timeout_ms",
        allowed: "1..60000",
        what: "from Joint until Activate",
        set: set_number!(|plan, n| plan.timing.joint_timeout_ms = n, 1, 60_000),
    },
    Key {
        name: "limit_ms",
        allowed: "1..36000000",
        what: "the run fails if it takes more simulated time than this",
        set: set_number!(|plan, n| plan.timing.limit_ms = n, 1, 36_000_000),
    },
    Key {
        name: "faults",
        allowed: "drawn|none",
        what: "planned crashes, pauses, partitions and disk errors",
        set: |plan, text| {
            if !switch(text, "drawn", "none")? {
                plan.sim.faults.clear();
            }
            Ok(())
        },
    },
];

/// Takes the settings that shape a plan; the rest is for [`apply`]. The first wrong one is the error.
pub fn shape<'a>(settings: &'a [String], shape: &mut Shape) -> Result<Vec<&'a str>, String> {
    let mut rest = Vec::new();
    for setting in settings {
        let (name, value) = split(setting)?;
        match SHAPE_KEYS.iter().find(|key| key.name == name) {
            Some(key) => (key.set)(shape, value).map_err(|problem| wrong(name, &problem, key.allowed))?,
            None => rest.push(setting.as_str()),
        }
    }
    Ok(rest)
}

/// Applies one `key=value` to a drawn plan.
pub fn apply(plan: &mut Plan, setting: &str) -> Result<(), String> {
    let (name, value) = split(setting)?;
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        let names: Vec<&str> = SHAPE_KEYS.iter().map(|key| key.name).chain(KEYS.iter().map(|key| key.name)).collect();
        let nearest = nearest(name, &names);
        return Err(format!("there is no key `{name}`; did you mean `{nearest}`? `--set help` lists the keys"));
    };
    (key.set)(plan, value).map_err(|problem| wrong(name, &problem, key.allowed))
}

fn split(setting: &str) -> Result<(&str, &str), String> {
    setting
        .split_once('=')
        .ok_or_else(|| format!("`--set {setting}` is not of the form key=value; `--set help` lists the keys"))
}

fn wrong(name: &str, problem: &str, allowed: &str) -> String {
    format!("`--set {name}`: {problem}; allowed: {allowed}")
}

/// Every key with what it takes.
pub fn help() -> String {
    let mut text = String::from("Keys for --set key=value (later ones win):\n");
    let shapes = SHAPE_KEYS.iter().map(|key| (key.name, key.allowed, key.what));
    for (name, allowed, what) in shapes.chain(KEYS.iter().map(|key| (key.name, key.allowed, key.what))) {
        writeln!(text, "  {name:<26} {allowed:<28} {what}").expect("a String takes everything");
    }
    text
}
