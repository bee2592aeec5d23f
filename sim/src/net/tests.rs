use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use super::*;
use crate::dice::Random;
use crate::plan::LinkPlan;
use crate::seed::Seed;
use crate::time::{MILLIS, ManualTime};
use crate::trace::Mode;

struct Scene {
    fabric: Fabric,
    time: ManualTime,
    trace: Trace,
    a: Incarnation,
    b: Incarnation,
}

/// Two processes, both up, and the given network.
fn scene(seed: u64, plan: NetworkPlan) -> Scene {
    let (timers, time) = Timers::manual();
    let trace = Trace::new(Mode::Full);
    let [a, b] = ["a", "b"].map(|name| Incarnation { process: trace.register(0, name), number: 1 });
    let fabric = Fabric::new(timers, trace.clone(), Dice::new(Seed(seed)), &plan);
    fabric.up(a);
    fabric.up(b);
    Scene { fabric, time, trace, a, b }
}

impl Scene {
    fn send(&self, frame: &[u8]) {
        self.fabric.endpoint(self.a).send(self.b.process, frame.to_vec());
    }

    fn deliver_until(&self, now: Nanos) {
        self.time.set(now);
        self.fabric.deliver_due(now);
    }

    fn received(&self) -> Vec<Vec<u8>> {
        match poll(self.fabric.endpoint(self.b).recv(0)) {
            Poll::Ready(frames) => frames.into_iter().map(|(_, frame)| frame).collect(),
            Poll::Pending => panic!("the time is over, so it is ready"),
        }
    }
}

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_frame_arrives_after_its_latency() {
    let it = scene(1, NetworkPlan::default());
    it.send(b"hello");
    let deadline = it.fabric.next_deadline().expect("one in flight");
    assert!(deadline >= 100 * MICROS);
    it.deliver_until(deadline - 1);
    assert_eq!(it.received(), Vec::<Vec<u8>>::new());
    it.deliver_until(deadline);
    assert_eq!(it.received(), [b"hello"]);
    assert!(it.trace.lines()[2].contains("a -> b         send #0, 5 bytes"), "{:?}", it.trace.lines());
}

#[test]
fn a_receiver_waits_for_a_frame_or_its_timeout() {
    let it = scene(1, NetworkPlan::default());
    let endpoint = it.fabric.endpoint(it.b);
    let mut receive = pin!(endpoint.recv(MILLIS));
    let mut context = Context::from_waker(Waker::noop());
    assert!(receive.as_mut().poll(&mut context).is_pending());
    it.time.set(MILLIS);
    assert_eq!(receive.as_mut().poll(&mut context), Poll::Ready(vec![]));
    assert!(poll(endpoint.recv(Nanos::MAX)).is_pending());
}

#[test]
fn ratios_are_kept_and_counted() {
    let plan = NetworkPlan {
        loss: Ratio::of(1, 10),
        duplicate: Ratio::of(1, 20),
        reorder: Ratio::of(1, 5),
        ..NetworkPlan::default()
    };
    let it = scene(1, NetworkPlan { reorder_max_us: 50_000, ..plan });
    let lost = Arc::new(Mutex::new(0));
    let count = lost.clone();
    it.fabric.on_drop(move |dropped| {
        assert_eq!((dropped.why, dropped.frame.len()), (Why::Loss, 4));
        *lock(&count) += 1;
    });
    for number in 0..10_000_u32 {
        it.send(&number.to_be_bytes());
    }
    it.deliver_until(crate::time::SECONDS);
    let received = it.received();
    let lost = *lock(&lost);
    let twice = it.fabric.counts()["duplicate"];
    assert!((850..1150).contains(&lost), "{lost}");
    assert!((350..650).contains(&twice), "{twice}");
    assert_eq!(received.len() as u64, 10_000 - lost + twice);
    assert_eq!(it.fabric.counts()["drop"], lost);
    assert!(received.windows(2).any(|pair| pair[0] > pair[1]), "some were overtaken");
}

#[test]
fn the_fate_of_a_frame_depends_on_its_ordinal_alone() {
    let plan = NetworkPlan { loss: Ratio::of(1, 3), ..NetworkPlan::default() };
    let fates = |other_traffic: bool| {
        let it = scene(5, plan.clone());
        for number in 0..200_u8 {
            if other_traffic {
                it.fabric.endpoint(it.b).send(it.a.process, vec![0; usize::from(number)]);
            }
            it.send(&[number]);
        }
        it.deliver_until(crate::time::SECONDS);
        it.received()
    };
    let quiet = fates(false);
    assert!(quiet.len() > 100);
    assert_eq!(quiet, fates(true));
}

#[test]
fn a_cut_loses_what_is_sent_and_what_is_in_flight() {
    let it = scene(1, NetworkPlan::default());
    let (a, b) = (it.a.process, it.b.process);
    it.send(b"in flight");
    it.fabric.partition(&[a], &[b]);
    it.send(b"during");
    assert!(it.fabric.is_cut(a, b) && it.fabric.is_cut(b, a));
    it.fabric.mend_partition(&[a], &[b]);
    it.send(b"after");
    it.deliver_until(MILLIS * 100);
    assert_eq!(it.received(), [b"after"]);
    assert_eq!(it.fabric.counts()["drop_cut"], 2);
    it.fabric.cut(a, b);
    it.fabric.cut(a, b);
    it.fabric.mend(a, b);
    assert!(it.fabric.is_cut(a, b) && !it.fabric.is_cut(b, a), "cuts are counted, and directed");
}

#[test]
fn frames_for_the_dead_are_lost_and_the_dead_send_nothing() {
    let it = scene(1, NetworkPlan::default());
    it.send(b"waiting in the inbox");
    it.deliver_until(100 * MILLIS);
    it.send(b"arrives at nobody");
    it.fabric.down(it.b.process);
    it.deliver_until(200 * MILLIS);
    it.send(b"reaches the next life");
    let reborn = Incarnation { number: 2, ..it.b };
    it.fabric.up(reborn);
    it.deliver_until(300 * MILLIS);
    assert!(poll(it.fabric.endpoint(it.b).recv(0)).is_pending(), "a dead life receives nothing, not even a timeout");
    let Poll::Ready(frames) = poll(it.fabric.endpoint(reborn).recv(0)) else { panic!("ready") };
    assert_eq!(frames, [(it.a.process, b"reaches the next life".to_vec())]);
    it.fabric.endpoint(it.b).send(it.a.process, b"a ghost".to_vec());
    it.deliver_until(400 * MILLIS);
    assert_eq!((it.fabric.counts()["drop_down"], it.fabric.counts()["drop_stale"]), (2, 1));
    assert!(it.trace.lines().iter().any(|line| line.contains("(b is down)")));
}

#[test]
fn links_can_differ_and_get_worse_for_a_while() {
    let it = scene(1, NetworkPlan::default());
    let (a, b) = (it.a.process, it.b.process);
    let all = LinkPlan { loss: Some(Ratio::ONE), ..LinkPlan::default() };
    it.fabric.set_link(a, b, Some(it.fabric.default_profile().overridden(&all)));
    it.send(b"lost");
    it.fabric.set_link(a, b, None);
    it.fabric.worsen(a, b, 7, Ratio::ZERO, 80 * MILLIS, 0, 0);
    it.fabric.worsen(a, b, 8, Ratio::ONE, 0, 0, 0);
    it.send(b"lost too");
    it.fabric.relieve(a, b, 8);
    it.send(b"late");
    it.deliver_until(80 * MILLIS);
    assert_eq!(it.received(), Vec::<Vec<u8>>::new());
    it.deliver_until(120 * MILLIS);
    assert_eq!(it.received(), [b"late"]);
    it.fabric.worsen(a, b, 9, Ratio::ONE, 0, 0, 0);
    it.fabric.heal();
    it.send(b"healed");
    it.deliver_until(200 * MILLIS);
    assert_eq!(it.received(), [b"healed"]);
}

#[test]
fn a_fault_may_want_one_frame_only() {
    let it = scene(1, NetworkPlan::default());
    let (a, b) = (it.a.process, it.b.process);
    it.fabric.worsen(a, b, 7, Ratio::ONE, 0, 0, 1);
    it.fabric.worsen(a, b, 8, Ratio::ONE, 0, 0, 1);
    for frame in [b"one", b"two", b"3rd"] {
        it.send(frame);
    }
    it.deliver_until(80 * MILLIS);
    assert_eq!(it.received(), [b"3rd"], "one frame for each");
}

#[test]
fn a_trusted_process_is_out_of_reach_of_faults() {
    let it = scene(1, NetworkPlan { loss: Ratio::ONE, ..NetworkPlan::default() });
    it.fabric.trust(it.a.process);
    it.fabric.partition(&[it.a.process], &[it.b.process]);
    it.send(b"through");
    it.deliver_until(MILLIS);
    assert_eq!(it.received(), [b"through"]);
}

#[test]
fn bandwidth_queues_frames() {
    let it =
        scene(1, NetworkPlan { latency_min_us: 0, latency_mean_us: 0, bandwidth_mbit: 8, ..NetworkPlan::default() });
    for _ in 0..10 {
        it.send(&[0; 1000]); // a millisecond each
    }
    it.deliver_until(5 * MILLIS);
    assert_eq!(it.received().len(), 5);
}

#[test]
fn the_observer_may_use_the_fabric() {
    let it = scene(1, NetworkPlan { loss: Ratio::ONE, ..NetworkPlan::default() });
    let fabric = it.fabric.clone();
    it.fabric.on_drop(move |_| assert_eq!(fabric.in_flight(), 0));
    it.send(b"x");
    it.send(b"y");
    assert_eq!(it.fabric.counts()["drop"], 2);
}

#[test]
fn latencies_have_the_planned_mean() {
    let plan = NetworkPlan { tail: Ratio::of(1, 10), tail_mean_us: 10_000, ..NetworkPlan::default() };
    let mut link = Link::new(Dice::new(Seed(3)).stream("net", 0));
    let profile = LinkProfile::from_plan(&plan);
    let mut latencies: Vec<Nanos> = (0..20_000)
        .map(|_| match link.decide(&profile, 0, 100) {
            Fate::Arrives { at, .. } => at,
            Fate::Lost => panic!("nothing is lost"),
        })
        .collect();
    latencies.sort_unstable();
    let mean = latencies.iter().sum::<Nanos>() / 20_000;
    assert!((1_400 * MICROS..1_600 * MICROS).contains(&mean), "500 us and a tenth of 10 ms: {mean}");
    assert!(latencies[0] >= 100 * MICROS && latencies[19_900] > 20 * MILLIS);
    assert_ne!(Dice::new(Seed(3)).stream("net", 0).next_u64(), 0);
}

#[test]
fn a_clog_holds_and_then_lets_go_in_order() {
    let it = scene(1, NetworkPlan::default());
    let (a, b) = (it.a.process, it.b.process);
    it.send(b"in flight");
    it.fabric.clog(a, b);
    it.deliver_until(50 * MILLIS);
    it.send(b"sent into it");
    it.deliver_until(100 * MILLIS);
    assert_eq!((it.received(), it.fabric.in_flight()), (vec![], 2));
    it.fabric.endpoint(it.b).send(a, b"the other way".to_vec());
    it.deliver_until(150 * MILLIS);
    assert_eq!(it.fabric.in_flight(), 2, "directed");
    it.fabric.unclog(a, b);
    it.deliver_until(150 * MILLIS);
    assert_eq!(it.received(), [&b"in flight"[..], b"sent into it"]);
    it.fabric.clog(a, b);
    it.send(b"cut while it waits");
    it.deliver_until(200 * MILLIS);
    it.fabric.partition(&[a], &[b]);
    it.fabric.mend_partition(&[a], &[b]);
    it.fabric.heal();
    it.deliver_until(200 * MILLIS);
    assert_eq!((it.received(), it.fabric.counts()["drop_cut"]), (vec![], 1));
}

#[test]
fn a_narrow_link_queues() {
    let it = scene(1, NetworkPlan { latency_min_us: 0, latency_mean_us: 0, ..NetworkPlan::default() });
    it.fabric.worsen(it.a.process, it.b.process, 1, Ratio::ZERO, 0, 8, 0);
    for _ in 0..10 {
        it.send(&[0; 1000]); // a millisecond each
    }
    it.deliver_until(5 * MILLIS);
    assert_eq!(it.received().len(), 5);
}
