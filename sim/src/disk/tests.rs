use std::io;

use super::*;
use crate::ratio::Ratio;
use crate::seed::Seed;
use crate::trace::Mode;

fn disk(seed: u64, plan: DiskPlan) -> SimDisk {
    let (timers, _) = Timers::manual();
    let trace = Trace::new(Mode::Full);
    let process = trace.register(0, "n1");
    SimDisk::new(process, timers, trace, Dice::new(Seed(seed)), &plan)
}

fn contents(file: &SimFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().expect("alive") as usize];
    file.read_at(0, &mut bytes).expect("alive");
    bytes
}

fn over(result: io::Result<()>) -> bool {
    result.expect_err("this life is over").to_string().contains("crashed")
}

#[test]
fn reads_see_writes_before_they_are_durable() {
    let disk = disk(1, DiskPlan::default());
    let file = disk.mount().open("data").expect("opens");
    file.write_at(2, b"abc").expect("writes");
    assert_eq!(contents(&file), b"\0\0abc");
    assert_eq!(disk.durable()["data"], b"");
    file.sync().expect("syncs");
    file.set_len(3).expect("cuts");
    file.set_len(4).expect("extends");
    assert_eq!(contents(&file), b"\0\0a\0");
    assert_eq!(disk.durable()["data"], b"\0\0abc");
    assert_eq!(file.read_at(3, &mut [0; 2]).expect_err("past the end").kind(), io::ErrorKind::UnexpectedEof);
    let mount = disk.mount();
    assert_eq!(mount.list().expect("lists"), ["data"]);
    mount.remove("data").expect("removes");
    assert_eq!(file.len().expect_err("gone").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let disk = disk(seed, DiskPlan::default());
        let file = disk.mount().open("data").expect("opens");
        file.write_at(0, &[1; 2048]).expect("writes");
        file.sync().expect("syncs");
        file.write_at(0, &[2; 1024]).expect("writes");
        file.write_at(1024, &[3; 1024]).expect("writes");
        file.set_len(4096).expect("extends");
        let report = disk.crash();
        assert_eq!(report.survived + report.torn + report.lost, 3);
        assert!(over(file.write_at(0, b"x")) && over(file.sync()), "an old handle");
        let file = disk.mount().open("data").expect("opens again");
        let bytes = contents(&file);
        assert_eq!(disk.durable()["data"], bytes);
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|&byte| byte == sector[0])), "torn at sectors only");
        assert!([1, 2].contains(&sectors[0]) && [1, 3].contains(&sectors[2]), "{sectors:?}");
        seen.insert(sectors);
    }
    let whole: [&[u8]; 4] = [&[1, 1, 1, 1], &[2, 2, 3, 3], &[2, 2, 1, 1], &[1, 1, 3, 3]];
    let extended = |sectors: &[u8]| [sectors, &[0, 0, 0, 0]].concat();
    for sectors in whole {
        assert!(seen.contains(sectors) && seen.contains(&extended(sectors)), "{sectors:?} of {seen:?}");
    }
    assert!(seen.contains(&[1, 2, 1, 1][..]) && seen.contains(&[1, 1, 3, 1][..]), "torn: {seen:?}");
}

#[test]
fn nothing_unsynced_survives_if_the_plan_says_so() {
    for seed in 0..50 {
        let disk = disk(seed, DiskPlan { survive: Ratio::ZERO, ..DiskPlan::default() });
        let file = disk.mount().open("data").expect("opens");
        file.write_at(0, b"lost").expect("writes");
        assert_eq!(disk.crash(), CrashReport { survived: 0, torn: 0, lost: 1 });
        assert_eq!(disk.durable()["data"], b"");
    }
}

#[test]
fn an_armed_crash_goes_off_in_the_planned_operation() {
    let disk = disk(1, DiskPlan::default());
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    disk.on_crash(Arc::new(move |process| {
        assert_eq!(process, ProcessId(0));
        *lock(&count) += 1;
    }));
    let mount = disk.mount();
    let file = mount.open("data").expect("opens");
    disk.crash_after(3);
    file.write_at(0, b"one").expect("first");
    file.sync().expect("second");
    file.read_at(0, &mut [0; 3]).expect("reads are not counted");
    assert!(over(file.write_at(0, b"two")), "third");
    assert_eq!(*lock(&told), 1);
    assert!(over(file.sync()) && over(mount.open("other").map(drop)), "nothing works until the process is dead");
    assert!(disk.mount().list().is_err());
    let report = disk.crash();
    assert_eq!(report.survived + report.torn + report.lost, 1);
    let after = disk.durable()["data"].clone();
    assert!(after == b"one" || after == b"two", "{after:?}");
    disk.mount().open("data").and_then(|file| file.sync()).expect("works again");
    disk.crash_after(1);
    disk.disarm();
    disk.mount().open("data").and_then(|file| file.sync()).expect("disarmed");
}

#[test]
fn a_failed_sync_makes_nothing_durable() {
    let disk = disk(1, DiskPlan::default());
    let file = disk.mount().open("data").expect("opens");
    file.write_at(0, b"abc").expect("writes");
    disk.fail_next_sync();
    assert!(file.sync().expect_err("fails once").to_string().contains("injected"));
    assert_eq!(disk.durable()["data"], b"");
    file.sync().expect("then works");
    assert_eq!(disk.durable()["data"], b"abc");
}

#[test]
fn a_full_disk_takes_only_what_fits() {
    let disk = disk(1, DiskPlan { capacity: 10, ..DiskPlan::default() });
    let mount = disk.mount();
    let (one, two) = (mount.open("one").expect("opens"), mount.open("two").expect("opens"));
    one.write_at(0, &[1; 8]).expect("fits");
    assert_eq!(two.write_at(0, &[1; 3]).expect_err("two left").kind(), io::ErrorKind::StorageFull);
    two.write_at(0, &[1; 2]).expect("fits");
    one.write_at(0, &[2; 8]).expect("overwriting needs no room");
    one.set_len(0).expect("cuts");
    disk.set_full(true);
    assert_eq!(one.set_len(1).expect_err("full").kind(), io::ErrorKind::StorageFull);
    disk.heal();
    one.set_len(1).expect("healed");
}

#[test]
fn a_wiped_disk_is_another_one() {
    let disk = disk(1, DiskPlan::default());
    let before = disk.disk_id();
    let file = disk.mount().open("data").expect("opens");
    file.write_at(0, b"abc").and_then(|()| file.sync()).expect("durable");
    disk.wipe();
    assert!(over(file.sync()));
    assert_eq!(disk.mount().list().expect("lists"), Vec::<String>::new());
    assert_ne!(disk.disk_id(), before);
    assert_eq!(disk.mount().disk_id().expect("alive"), disk.disk_id());
}

#[test]
fn a_flipped_bit_is_one_bit() {
    let disk = disk(1, DiskPlan::default());
    assert!(!disk.flip_bit(), "there is nothing to flip");
    let file = disk.mount().open("data").expect("opens");
    file.write_at(0, &[0; 100]).and_then(|()| file.sync()).expect("durable");
    assert!(disk.flip_bit());
    let ones: u32 = contents(&file).iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(ones, 1);
    assert_eq!(disk.durable()["data"], contents(&file));
}

#[test]
fn latency_is_summed_up_and_taken_once() {
    let plan = DiskPlan { write_us: 10, sync_min_us: 100, sync_mean_us: 100, ..DiskPlan::default() };
    let disk = disk(1, plan);
    let mount = disk.mount();
    let file = mount.open("data").expect("opens");
    file.write_at(0, b"abc").and_then(|()| file.sync()).expect("durable");
    assert_eq!(mount.take_latency(), 110 * MICROS);
    assert_eq!(mount.take_latency(), 0);
    assert_eq!(disk.long_waits(), []);
}

#[test]
fn long_waits_are_remembered_until_the_process_dies() {
    let disk = disk(1, DiskPlan { stall: Ratio::of(1, 10), stall_mean_ms: 50, ..DiskPlan::default() });
    let mount = disk.mount();
    let file = mount.open("data").expect("opens");
    for _ in 0..100 {
        file.sync().expect("syncs");
    }
    let stalls = mount.take_latency();
    assert!(stalls > 20 * MILLIS, "{stalls}");
    assert_eq!(disk.long_waits(), [(0, stalls)]);
    disk.crash();
    assert_eq!(disk.long_waits(), [(0, 0)]);
}

#[test]
fn the_trace_holds_every_write_and_the_toll_of_a_crash() {
    let disk = disk(1, DiskPlan::default());
    let file = disk.mount().open("data").expect("opens");
    file.write_at(0, b"abc").and_then(|()| file.set_len(9)).and_then(|()| file.sync()).expect("durable");
    file.write_at(0, b"x").expect("writes");
    disk.crash();
    let lines = disk.0.trace.lines();
    for (line, part) in lines[2..].iter().zip([
        "write data 3 bytes at 0",
        "set length of data to 9",
        "sync data",
        "write data 1",
        "of the",
    ]) {
        assert!(line.contains(part), "{line} is about {part}");
    }
    assert_eq!(lines.len(), 7);
}
