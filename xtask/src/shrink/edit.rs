//! What a plan is made of, for those who make it smaller: its sizes, its script, its names.

use std::collections::{BTreeMap, BTreeSet};

use miroir_scenarios::plan::Plan;
use miroir_scenarios::script::Scripted;
use miroir_sim::ratio::Ratio;

/// How large a plan is, in the words of its report.
pub fn sizes(plan: &Plan) -> [(&'static str, u64); 7] {
    let script = &plan.workload.script;
    let distinct = |of: fn(&Scripted) -> u64, drawn: u32| match script.is_empty() {
        true => u64::from(drawn),
        false => script.iter().map(of).collect::<BTreeSet<u64>>().len() as u64,
    };
    [
        ("faults", plan.sim.faults.len() as u64),
        ("operations", if script.is_empty() { u64::from(plan.workload.operations) } else { script.len() as u64 }),
        ("documents", distinct(|it| it.document, plan.workload.documents)),
        ("clients", distinct(|it| u64::from(it.client), plan.workload.clients)),
        ("migrations", plan.migrations.len() as u64),
        ("nodes", u64::from(plan.cluster.nodes)),
        ("shards", u64::from(plan.cluster.shards)),
    ]
}

/// Whether a plan has less in it than another. Frames lost by chance count as one thing for each link that loses them.
pub fn is_smaller(one: &Plan, other: &Plan) -> bool {
    let weight = |plan: &Plan| {
        let links = plan.sim.network.links.len() as u64 + u64::from(plan.sim.network.loss != Ratio::ZERO);
        sizes(plan).iter().map(|(_, size)| size).sum::<u64>() + links
    };
    weight(one) < weight(other)
}

/// The numbers of the documents in a text: `d000017`.
pub fn mentioned(text: &str) -> BTreeSet<u64> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let numbers = words.filter_map(|word| word.strip_prefix('d').filter(|digits| digits.len() == 6));
    numbers.filter_map(|digits| digits.parse().ok()).collect()
}

pub fn with_script(plan: &Plan, script: &[Scripted]) -> Plan {
    let mut plan = plan.clone();
    // An empty script would mean a drawn load.
    if !script.is_empty() || plan.workload.script.is_empty() {
        plan.workload.script = script.to_vec();
        plan.workload.operations = script.len().max(1) as u32;
    } else {
        plan.workload.clients = 0;
    }
    plan
}

/// Gives processes other names, wherever the simulator's part of the plan mentions them.
pub fn rename(plan: &mut Plan, names: &BTreeMap<String, String>) {
    fn walk(value: &mut toml::Value, names: &BTreeMap<String, String>) {
        match value {
            toml::Value::String(text) => {
                if let Some(new) = names.get(text) {
                    text.clone_from(new);
                }
            }
            toml::Value::Array(items) => items.iter_mut().for_each(|item| walk(item, names)),
            toml::Value::Table(fields) => fields.iter_mut().for_each(|(_, field)| walk(field, names)),
            _ => {}
        }
    }
    if let Ok(mut value) = toml::Value::try_from(&plan.sim) {
        walk(&mut value, names);
        if let Ok(sim) = value.try_into() {
            plan.sim = sim;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::plan;

    #[test]
    fn documents_are_found_in_words() {
        let text = "transient window of d000012 (shard 1) version 278:d00001; d000007: wiped, deadbeef";
        assert_eq!(mentioned(text), [7, 12].into());
    }

    #[test]
    fn a_script_is_never_cut_down_to_a_drawn_load() {
        let mut given = plan();
        assert!(with_script(&given, &[]).check().is_ok());
        given.workload.script = vec!["1 ms client-2 put 3".parse().unwrap(), "2 ms client-1 get 3".parse().unwrap()];
        assert!(with_script(&given, &[]).check().is_err(), "no candidate");
        let one = with_script(&given, &given.workload.script[..1]);
        assert_eq!(sizes(&one)[1..4], [("operations", 1), ("documents", 1), ("clients", 1)]);
    }

    #[test]
    fn chance_counts_as_something_to_leave_out() {
        let given = plan();
        let mut calm = given.clone();
        calm.sim.network.loss = Ratio::ZERO;
        let mut lossy = calm.clone();
        lossy.sim.network.loss = Ratio::of(1, 20);
        assert!(is_smaller(&calm, &lossy) && !is_smaller(&lossy, &calm) && !is_smaller(&calm, &calm));
    }

    #[test]
    fn a_renamed_client_is_renamed_everywhere() {
        let mut plan = plan();
        plan.lossy_links(Ratio::of(1, 20));
        rename(&mut plan, &[("client-8".to_owned(), "client-1".to_owned())].into());
        assert!(plan.sim.network.links.iter().all(|link| link.from != "client-8"));
    }
}
