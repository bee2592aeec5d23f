//! What goes wrong in a round: one thing, drawn from its seed, out of all that can.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use miroir_sim::dice::{Dice, Random as _};
use miroir_sim::seed::Seed;
use miroir_store::env::Peer;
use miroir_store::id::NodeId;
use miroir_store::migration::Stage;

use crate::cluster::cables::Direction;

/// Who suffers, by the part it plays in the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// A node that holds the shard before and after.
    Stays,
    Joins,
    Leaves,
    Coordinator,
    /// All nodes and the coordinator at once.
    Everybody,
}

/// Which frames a cut keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Both,
    FromIt,
    ToIt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// `kill -9` in a stage; started again a while later.
    Kill(Victim, Stage),
    /// SIGSTOP before the migration starts, SIGCONT when it cannot get any further.
    Stop(Victim),
    /// No room before the migration starts, and for a while.
    FullDisk(Victim),
    /// Cut off from all others in a stage, for a while.
    Cut(Victim, Way, Stage),
}

/// The stages in which something can begin to go wrong.
pub const STAGES: [Stage; 5] = [Stage::DualWrite, Stage::Drain, Stage::DeltaPass, Stage::Activate, Stage::Cleanup];

impl Trouble {
    /// Everything there is, in a fixed order.
    pub fn all() -> Vec<Trouble> {
        use Victim::{Coordinator, Everybody, Joins, Leaves, Stays};
        let kills = [Stays, Joins, Leaves, Coordinator, Everybody]
            .into_iter()
            .flat_map(|victim| STAGES.map(|stage| Trouble::Kill(victim, stage)));
        let stops = [Stays, Joins, Leaves, Coordinator].map(Trouble::Stop);
        let disks = [Stays, Joins, Leaves].map(Trouble::FullDisk);
        let cuts = [Stays, Joins, Leaves, Coordinator].into_iter().flat_map(|victim| {
            [Way::Both, Way::FromIt, Way::ToIt]
                .into_iter()
                .flat_map(move |way| STAGES.map(|stage| Trouble::Cut(victim, way, stage)))
        });
        kills.chain(stops).chain(disks).chain(cuts).collect()
    }

    /// The one of this seed. Half of the seeds are for kills, as they are what happens most.
    pub fn of(seed: Seed) -> Trouble {
        let mut stream = Dice::new(seed).stream("trouble", 0);
        let group = match stream.below(6) {
            0..=2 => |it: &Trouble| matches!(it, Trouble::Kill(..)),
            3 => |it: &Trouble| matches!(it, Trouble::Stop(_)),
            4 => |it: &Trouble| matches!(it, Trouble::FullDisk(_)),
            _ => |it: &Trouble| matches!(it, Trouble::Cut(..)),
        };
        let group: Vec<Trouble> = Trouble::all().into_iter().filter(group).collect();
        *stream.pick(&group)
    }

    /// What it is called where rounds are counted.
    pub const fn kind(self) -> &'static str {
        match self {
            Trouble::Kill(..) => "kill -9",
            Trouble::Stop(_) => "SIGSTOP",
            Trouble::FullDisk(_) => "full disk",
            Trouble::Cut(..) => "cut links",
        }
    }

    pub const fn victim(self) -> Victim {
        match self {
            Trouble::Kill(victim, _) | Trouble::Stop(victim) | Trouble::FullDisk(victim) | Trouble::Cut(victim, ..) => {
                victim
            }
        }
    }

    /// How long it lasts, at most.
    pub fn lasts(self, seed: Seed) -> Duration {
        let drawn = Dice::new(seed).stream("lasts", 0).range(200..=2_500);
        match self {
            // Through the whole migration, which can do without it.
            Trouble::Stop(Victim::Stays | Victim::Leaves) => Duration::from_secs(20),
            _ => Duration::from_millis(drawn),
        }
    }
}

/// The processes by the parts they play.
#[derive(Clone, Debug)]
pub struct Cast {
    pub stays: NodeId,
    pub joins: NodeId,
    pub leaves: NodeId,
    pub everybody: Vec<Peer>,
}

impl Cast {
    pub fn of(&self, victim: Victim) -> Vec<Peer> {
        match victim {
            Victim::Stays => vec![Peer::Node(self.stays)],
            Victim::Joins => vec![Peer::Node(self.joins)],
            Victim::Leaves => vec![Peer::Node(self.leaves)],
            Victim::Coordinator => vec![Peer::Coordinator],
            Victim::Everybody => self.everybody.clone(),
        }
    }

    /// The directions that are cut so that the victim is cut off.
    pub fn directions(&self, victim: Victim, way: Way) -> BTreeSet<Direction> {
        let mut directions = BTreeSet::new();
        for it in self.of(victim) {
            for other in self.everybody.iter().filter(|other| **other != it) {
                if way != Way::ToIt {
                    directions.insert((it, *other));
                }
                if way != Way::FromIt {
                    directions.insert((*other, it));
                }
            }
        }
        directions
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Victim::Stays => "the node that stays",
            Victim::Joins => "the node that joins",
            Victim::Leaves => "the node that leaves",
            Victim::Coordinator => "the coordinator",
            Victim::Everybody => "everybody",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Kill(victim, stage) => write!(f, "kill -9 {victim} in {stage}"),
            Trouble::Stop(victim) => write!(f, "SIGSTOP {victim}"),
            Trouble::FullDisk(victim) => write!(f, "fill the disk of {victim}"),
            Trouble::Cut(victim, Way::Both, stage) => write!(f, "cut {victim} off in {stage}"),
            Trouble::Cut(victim, Way::FromIt, stage) => write!(f, "cut what {victim} sends in {stage}"),
            Trouble::Cut(victim, Way::ToIt, stage) => write!(f, "cut what {victim} is sent in {stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_every_kind_of_trouble_and_each_is_one() {
        let all = Trouble::all();
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>().len(), all.len());
        let drawn: BTreeSet<Trouble> = (0..2_000).map(|seed| Trouble::of(Seed(seed))).collect();
        assert_eq!(drawn.len(), all.len(), "every one is drawn");
        assert_eq!(Trouble::of(Seed(7)), Trouble::of(Seed(7)));
    }

    #[test]
    fn a_cut_one_way_leaves_the_other_open() {
        let node = |n| Peer::Node(NodeId(n));
        let everybody = vec![Peer::Coordinator, node(1), node(2), node(3), node(4)];
        let cast = Cast { stays: NodeId(1), joins: NodeId(4), leaves: NodeId(3), everybody };
        let sent = cast.directions(Victim::Joins, Way::FromIt);
        assert!(sent.contains(&(node(4), node(1))) && !sent.contains(&(node(1), node(4))));
        assert_eq!(cast.directions(Victim::Joins, Way::Both).len(), 8);
        assert!(!cast.directions(Victim::Coordinator, Way::Both).contains(&(node(1), node(2))));
    }
}
