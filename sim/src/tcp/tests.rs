use super::*;
use crate::plan::{NetworkPlan, SimPlan};
use crate::ratio::Ratio;
use crate::seed::Seed;
use crate::time::{MILLIS, SECONDS};
use crate::trace::{Mode, Trace};
use crate::world::{Restart, Setup, World};

fn rough() -> NetworkPlan {
    NetworkPlan {
        loss: Ratio::of(1, 20),
        duplicate: Ratio::of(1, 20),
        reorder: Ratio::of(1, 5),
        reorder_max_us: 20_000,
        ..NetworkPlan::default()
    }
}

/// A world on this network with `server`, which sends back what it is sent, and the story of its only client.
fn run<F: Future<Output = ()> + 'static>(
    network: NetworkPlan,
    story: impl Fn(World, Tcp, ProcessId) -> F + Send + Sync + 'static,
) -> Trace {
    let plan = SimPlan { network, ..SimPlan::default() };
    let setup = Setup { seed: Seed(7), plan, trace: Trace::new(Mode::Short), limit: 120 * SECONDS };
    let ended = World::run(setup, |world| async move {
        let serving = world.clone();
        let server = world.process("server", move |life| {
            let tcp = Tcp::new(serving.endpoint(life), serving.timers().clone());
            serving.spawn(tcp.serve());
            echo(tcp)
        });
        let (client, done) = (world.register("client"), Arc::new(Mutex::new(false)));
        let (its, told) = (world.clone(), done.clone());
        world.start(client, move |life| {
            let tcp = Tcp::new(its.endpoint(life), its.timers().clone());
            its.spawn(tcp.serve());
            let (story, told) = (story(its.clone(), tcp, server), told.clone());
            async move {
                story.await;
                *lock(&told) = true;
            }
        });
        world.set_restart(client, Restart::Never);
        while !*lock(&done) {
            world.sleep(MILLIS).await;
        }
    });
    ended.result.expect("the story ends well");
    ended.trace
}

async fn echo(tcp: Tcp) {
    let listener = tcp.listen();
    loop {
        let (stream, _) = listener.accept().await;
        let mut bytes = [0; 3_000];
        while let Ok(count @ 1..) = read(&stream, &mut bytes).await {
            if write_all(&stream, &bytes[..count]).await.is_err() {
                break;
            }
        }
    }
}

async fn read(stream: &Stream, into: &mut [u8]) -> io::Result<usize> {
    poll_fn(|context| stream.poll_read(context, into)).await
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|context| stream.poll_write(context, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

async fn read_all(stream: &Stream, count: usize) -> io::Result<Vec<u8>> {
    let (mut all, mut some) = (Vec::new(), [0; 777]);
    while all.len() < count {
        match read(stream, &mut some).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => all.extend(&some[..read]),
        }
    }
    Ok(all)
}

/// Says something and hears it again.
async fn converse(stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    write_all(stream, bytes).await?;
    assert!(read_all(stream, bytes.len()).await? == bytes, "what is echoed is what was said");
    Ok(())
}

#[test]
fn bytes_arrive_in_order_over_a_network_that_keeps_none_and_twice_the_same() {
    let story = |world: World, tcp: Tcp, server| async move {
        let stream = tcp.connect(server).await.expect("it listens");
        for round in 1..40_u32 {
            let bytes: Vec<u8> = (0..round * 400).map(|n| (n * round % 251) as u8).collect();
            converse(&stream, &bytes).await.expect("no end");
        }
        let lost = world.fabric().counts()["drop"];
        assert!(lost > 20, "{lost} segments were lost");
    };
    assert_eq!(run(rough(), story).hash(), run(rough(), story).hash());
}

#[test]
fn whoever_listens_not_refuses() {
    run(NetworkPlan::default(), |_, tcp, _| async move {
        let nobody = tcp.connect(tcp.life().process).await.expect_err("it does not listen itself");
        assert_eq!(nobody.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_cut_link_delays_and_breaks_nothing() {
    run(NetworkPlan::default(), |world, tcp, server| async move {
        let stream = tcp.connect(server).await.expect("it listens");
        let me = tcp.life().process;
        world.fabric().cut(me, server);
        write_all(&stream, b"in the dark").await.expect("nobody has told it");
        world.sleep(700 * MILLIS).await;
        world.fabric().mend(me, server);
        assert_eq!(read_all(&stream, 11).await.expect("no end"), b"in the dark");
        assert!(world.now() > 700 * MILLIS);
    });
}

#[test]
fn the_next_life_knows_no_connection_of_the_last() {
    run(NetworkPlan::default(), |world, tcp, server| async move {
        let stream = tcp.connect(server).await.expect("it listens");
        converse(&stream, b"one").await.expect("it lives");
        world.crash(server);
        write_all(&stream, b"two").await.expect("nobody has told it");
        world.sleep(300 * MILLIS).await;
        world.restart(server);
        let reset = read_all(&stream, 3).await.expect_err("somebody else is there");
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        let stream = tcp.connect(server).await.expect("it listens again");
        converse(&stream, b"three").await.expect("it lives");
    });
}

#[test]
fn a_paused_reader_holds_its_writer_back() {
    run(NetworkPlan::default(), |world, tcp, server| async move {
        let stream = tcp.connect(server).await.expect("it listens");
        converse(&stream, b"one").await.expect("it lives");
        world.pause(server);
        let mut taken = 0;
        let end = world.now() + 100 * MILLIS;
        while world.now() < end {
            let bytes = [7; 1_000];
            let attempt = poll_fn(|context| Poll::Ready(stream.poll_write(context, &bytes))).await;
            if let Poll::Ready(count) = attempt {
                taken += count.expect("no end");
            }
            world.sleep(MILLIS).await;
        }
        assert_eq!(taken, 2 * BUFFER_BYTES, "what the reader's side has room for, and the writer's");
        world.resume(server);
        assert_eq!(read_all(&stream, taken).await.expect("no end").len(), taken);
    });
}

#[test]
fn what_was_written_arrives_though_its_writer_has_gone() {
    run(rough(), |world, tcp, server| async move {
        for _ in 0..20 {
            let stream = tcp.connect(server).await.expect("it listens");
            write_all(&stream, &[1; 5_000]).await.expect("room");
        }
        // Whoever reads no more resets what comes back; afterwards nothing is left.
        world.sleep(20 * SECONDS).await;
        assert!(lock(&tcp.0.state).connections.is_empty(), "{tcp:?}");
    });
}
