//! What goes wrong in meshes of stores, by name: each function is the scenario of its name.

mod disks;

use bytes::Bytes;
use quorate_core::store::Change;
use quorate_sim::{Action, Fault, Kind, Plan, Ratio, Regions, Rng, SimTime, Topology, ms, secs};

use crate::catalogue::{Named, scenarios};
use crate::lies::{Lie, voice as voice_of};
use crate::mesh::{Expect, Mesh, Op};
use disks::{bit_rot, deep_rot, lying_sync, misdirected, old_copy, wiped};

pub(crate) static SCENARIOS: [Named; 34] = scenarios! { "mesh", Mesh;
    swarm "everything at once, whatever the seed draws" ["acknowledged", "sync failed", "peer suspected"];
    offline_write "a write while another node is away" ["acknowledged", "in sync"];
    chain "A, B, C in a line: A and C never meet" ["acknowledged", "in sync"];
    halves "two halves are parted, both write, and are healed" ["peer closed", "peer declared dead", "in sync"];
    crash_in_sync "a node dies in the middle of taking in much" ["acknowledged", "in sync"];
    lost_pushes "most messages are lost; anti-entropy makes up for it" ["sync failed", "gap filled", "in sync"];
    lost_pages "pages of long transfers are lost, and what acknowledges them" ["transfer given up", "in sync"];
    split_brain "both sides of a partition write one key" ["peer closed", "in sync"];
    everybody "everybody writes one key at once" ["acknowledged"];
    long_absence "a node comes back after two hours" ["peer suspected", "in sync"];
    delete_in_partition "one side deletes what the other writes" ["peer closed", "in sync"];
    skewed_clocks "clocks far apart, drifting and jumping" ["entry parked", "entry released", "write refused: clock ahead"];
    equivocation "an author tells two stories" ["fork proven", "chain cut", "lied"];
    old_copy "a node is restored from an old copy of its disk" ["disk rewound", "write refused: catching up"];
    bit_rot "records of a node's log are damaged" ["damage found", "in sync"];
    flood "orphans and far-future entries by the thousand" ["lied", "entry parked", "entry refused"];
    removed_author "a removed member writes on, on both sides of a partition" ["chain cut", "peer refused"];
    broken_signature "a signature is broken in the middle of a linked run" ["lied", "entry refused"];
    invitations "a tree of guests of guests; one who invited others is lost" ["acknowledged", "members changed", "in sync"];
    joining "newcomers join while everybody writes, and die on the way" ["acknowledged", "in sync"];
    purge "removals of removers, in every order, and many changes at once" ["chain cut", "cut lifted", "members changed"];
    deep_rot "a record is damaged below thousands that stand on it" ["damage found", "in sync"];
    cite_nothing "an entry cites what was never written, by one who is not known everywhere" ["lied", "citation waived"];
    wiped "a member loses its disk, not its key, joins again, and dies on the way" ["disk rewound", "acknowledged", "in sync"];
    strangers "garbage, entries of strangers, entries of another store" ["lied", "disconnected", "entry refused"];
    forgery "entries in another's name, and runs with an entry exchanged" ["lied", "entry refused", "in sync"];
    told_twice "an author tells everybody another story once all have the first" ["lied", "fork proven", "chain cut"];
    unresponsive "a node answers pings and nothing else for twenty minutes" ["sync failed", "in sync"];
    many_chains "more authors than are told one by one, on both sides of a partition" ["acknowledged", "in sync"];
    two_histories "long stories of one author on two sides of a partition" ["lied", "fork proven", "chain cut"];
    two_removals "two remove a member at once, at two places of its chain" ["chain cut", "members changed"];
    continents "nodes on three continents, which are cut off one by one, and all the rest" ["acknowledged", "in sync"];
    lying_sync "a disk says that a sync is done, and the next crash shows that it was not" ["disk rewound", "write refused: catching up"];
    misdirected "records are written over others, and both are damaged" ["damage found", "in sync"];
};

/// When faults and operations begin: everyone has joined by then.
const BEGIN: SimTime = SimTime::secs(3);

/// A mesh whose founder has invited everyone.
fn mesh(nodes: usize, mut plan: Plan<Op>) -> (Mesh, Plan<Op>) {
    for guest in 1..nodes {
        plan = plan.op(SimTime::ms(20), 0, Op::Invite(guest));
    }
    plan.settle_us = secs(300);
    plan.poll_us = ms(100);
    (Mesh::new(nodes), plan)
}

/// Everybody watches everything, whatever comes.
fn watched(nodes: usize, plan: Plan<Op>) -> Plan<Op> {
    (0..nodes).fold(plan, |plan, node| plan.op(at(4), node, Op::Watch))
}

fn put(key: &str, value: &str) -> Op {
    let (key, value) =
        (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    Op::Write(vec![Change::Put { key, value }])
}

fn at(seconds: u64) -> SimTime {
    SimTime::secs(seconds)
}

/// Everything at once.
#[must_use]
pub fn swarm(seed: u64) -> (Mesh, Plan<Op>) {
    let nodes = 3 + (seed % 3) as usize;
    let (mesh, plan) = mesh(nodes, Plan::new(at(25)));
    (mesh, plan.op(at(4), (seed % nodes as u64) as usize, Op::Watch))
}

fn offline_write(seed: u64) -> (Mesh, Plan<Op>) {
    let away = (seed % 3) as usize;
    let (mut mesh, plan) = mesh(3, Plan::calm(at(20)));
    mesh.ops = 30;
    (mesh, plan.fault(BEGIN, Fault::crash(away).lasting(secs(10))))
}

fn chain(_seed: u64) -> (Mesh, Plan<Op>) {
    let mut plan = Plan::new(at(20));
    plan.topology = Topology::Line;
    mesh(3, plan)
}

fn halves(_seed: u64) -> (Mesh, Plan<Op>) {
    let (mesh, plan) = mesh(5, Plan::calm(at(30)));
    (mesh, plan.fault(at(4), Fault::split(&[0, 1], &[2, 3, 4]).lasting(secs(20))))
}

fn crash_in_sync(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, plan) = mesh(3, Plan::calm(at(25)));
    mesh.ops = 10;
    let mut rng = Rng::stream(seed, "crash in sync", 0);
    let mut plan = plan
        .fault(BEGIN, Fault::crash(2).lasting(secs(4)))
        .op(at(4), 0, Op::Import(600))
        .op(at(5), 1, Op::Import(600));
    for _ in 0..4 {
        let when = SimTime::ms(7_000 + rng.below(4_000));
        plan = plan.fault(when, Fault::crash(rng.below(3) as usize).lasting(ms(300)));
    }
    (mesh, plan)
}

fn lost_pushes(_seed: u64) -> (Mesh, Plan<Op>) {
    let (mesh, mut plan) = mesh(4, Plan::new(at(20)));
    plan.swarm.on = Ratio::new(1, 4);
    plan.swarm.network.loss = Ratio::new(6, 10);
    (mesh, plan)
}

/// Two nodes, so that nobody else has what was lost.
fn lost_pages(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(2, Plan::calm(at(60)));
    mesh.ops = 10;
    plan.swarm.on = Ratio::new(9, 10);
    plan.swarm.network.loss = Ratio::new(6, 10);
    let mut rng = Rng::stream(seed, "lost pages", 0);
    for round in 0..4 {
        let (begin, count) = (4 + 12 * round, 1 + rng.below(2_500) as u32);
        plan = plan.fault(at(begin), Fault::split(&[0], &[1]).lasting(secs(2))).op(
            at(begin + 1),
            rng.below(2) as usize,
            Op::Import(count),
        );
    }
    (mesh, plan)
}

fn split_brain(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(25)));
    mesh.ops = 0;
    plan = plan.fault(at(4), Fault::split(&[0, 1], &[2, 3]).lasting(secs(12)));
    let mut rng = Rng::stream(seed, "split brain", 0);
    for n in 0..20 {
        let when = SimTime::ms(5_000 + rng.below(15_000));
        plan = plan.op(when, rng.below(4) as usize, put("one", &n.to_string()));
    }
    (mesh, plan)
}

fn everybody(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(5, Plan::new(at(15)));
    mesh.ops = 0;
    let mut rng = Rng::stream(seed, "everybody", 0);
    for round in 0..6 {
        for node in 0..5 {
            let when = SimTime::ms(4_000 + round * 1_500 + rng.below(3));
            plan = plan.op(when, node, put("one", &format!("{node} {round}")));
        }
    }
    (mesh, plan)
}

fn long_absence(seed: u64) -> (Mesh, Plan<Op>) {
    let away = (seed % 3) as usize;
    let (mut mesh, mut plan) = mesh(3, Plan::calm(at(7_300)));
    mesh.ops = 40;
    plan.settle_us = secs(1_200);
    let absence = match seed % 2 {
        0 => Fault::crash(away).lasting(secs(7_200)),
        _ => {
            let others: Vec<usize> = (0..3).filter(|node| *node != away).collect();
            Fault::split(&[away], &others).lasting(secs(7_200))
        }
    };
    (mesh, plan.fault(BEGIN, absence))
}

fn delete_in_partition(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(25)));
    mesh.ops = 0;
    plan = plan.fault(at(6), Fault::split(&[0, 2], &[1, 3]).lasting(secs(12)));
    let mut rng = Rng::stream(seed, "delete", 0);
    let tags = Bytes::from_static(b"tags");
    for n in 0..4 {
        let name = format!("k{n}");
        let key = Bytes::from(name.clone());
        let member = Bytes::from(format!("m{n}"));
        let add = Change::SetAdd { key: tags.clone(), member };
        plan = plan.op(at(4), n, put(&name, "before"));
        plan = plan.op(at(4), n, Op::Write(vec![add.clone()]));
        let when = |rng: &mut Rng| SimTime::ms(7_000 + rng.below(9_000));
        let side = rng.below(2) as usize;
        let delete = Change::Delete { key };
        plan = plan.op(when(&mut rng), side, Op::Write(vec![delete]));
        plan = plan.op(when(&mut rng), 1 - side, put(&name, "meanwhile"));
        plan = plan.op(when(&mut rng), 1 - side, Op::Write(vec![add]));
        let delete = Change::Delete { key: tags.clone() };
        plan = plan.op(when(&mut rng), side, Op::Write(vec![delete]));
    }
    (mesh, plan)
}

fn skewed_clocks(seed: u64) -> (Mesh, Plan<Op>) {
    let (mesh, mut plan) = mesh(4, Plan::new(at(25)));
    plan.swarm.on = Ratio::new(3, 4);
    plan.swarm.wall_offset_us = 400_000_000;
    plan.swarm.jump_us = 900_000_000;
    plan.heal_clocks = true;
    // Jumps add up: a clock that is ahead by several of them has its entries parked for as long.
    plan.settle_us = secs(4 * 3_600);
    plan.poll_us = secs(1);
    let mut rng = Rng::stream(seed, "skew", 0);
    let by_us = rng.below(1_500_000_000) as i64;
    let node = rng.below(4) as usize;
    (mesh, plan.fault(at(5), Fault::WallJump { node, by_us }))
}

fn equivocation(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(5, Plan::new(at(20)));
    let mut rng = Rng::stream(seed, "equivocation", 0);
    let liar = 1 + rng.below(4) as usize;
    plan.swarm.on = Ratio::new(1, 4);
    plan.swarm = plan.swarm.without(Kind::Crash).without(Kind::FullDisk);
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    for _ in 0..3 {
        let when = SimTime::ms(5_000 + rng.below(12_000));
        plan = plan.op(when, liar, Op::Lie(Lie::Equivocate));
    }
    plan = watched(5, plan);
    (mesh, plan)
}

fn flood(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(20)));
    mesh.ops = 20;
    let liar = 1 + (seed % 3) as usize;
    mesh.liars.insert(liar);
    mesh.expect = Expect { cut: [liar].into(), parked: true, ..Expect::default() };
    for n in 0..4 {
        plan =
            plan.op(at(5 + 3 * n), liar, Op::Lie(Lie::Orphans(if n == 0 { 2_200 } else { 150 })));
        plan = plan.op(at(6 + 3 * n), liar, Op::Lie(Lie::Future(100)));
    }
    (mesh, plan)
}

fn removed_author(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, plan) = mesh(5, Plan::new(at(30)));
    let mut rng = Rng::stream(seed, "removed", 0);
    let out = 1 + rng.below(4) as usize;
    mesh.expect.cut.insert(out);
    // Mostly it is cut off from the founder, with a random part of the mesh; now and then it hears at
    // once.
    let with_founder = seed.is_multiple_of(4);
    let (side, rest): (Vec<usize>, Vec<usize>) = (0..5).partition(|node| match *node {
        0 => false,
        node if node == out => !with_founder,
        _ => rng.below(2) == 1,
    });
    let mut plan = plan.fault(at(6), Fault::split(&side, &rest).lasting(secs(15))).op(
        SimTime::ms(7_000 + rng.below(9_000)),
        0,
        Op::Remove(out),
    );
    for n in 0..12 {
        let when = SimTime::ms(5_000 + rng.below(20_000));
        plan = plan.op(when, out, put(&format!("k{}", n % 4), "still here"));
    }
    // It must have happened, whatever was lost on the way.
    plan.script.push((at(29), Action::Op { node: 0, op: Op::Remove(out) }));
    plan = watched(5, plan);
    (mesh, plan)
}

fn broken_signature(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, plan) = mesh(5, Plan::calm(at(15)));
    mesh.ops = 20;
    let liar = 1 + (seed % 4) as usize;
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    (mesh, plan.op(at(5), liar, Op::Lie(Lie::BrokenSignature)))
}

fn strangers(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(20)));
    let liar = 1 + (seed % 3) as usize;
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    for (n, lie) in [Lie::Garbage, Lie::Strangers(200), Lie::OtherStore].into_iter().enumerate() {
        plan = plan.op(at(5 + 3 * n as u64), liar, Op::Lie(lie));
    }
    (mesh, plan)
}

/// Each node but the founder is invited by any that came before it. Then an inviter is lost: removed by
/// the founder, or gone, or proven a liar. Its guests stay.
fn invitations(seed: u64) -> (Mesh, Plan<Op>) {
    const NODES: usize = 6;
    let mut rng = Rng::stream(seed, "invitations", 0);
    let mut plan = Plan::calm(at(30));
    plan.settle_us = secs(300);
    plan.poll_us = ms(100);
    let mut mesh = Mesh::new(NODES);
    mesh.ops_from = at(8);
    let mut lost = 1;
    for guest in 1..NODES {
        let by = rng.below(guest as u64) as usize;
        lost = if by > 0 { by } else { lost };
        let when = SimTime::ms(20 + 1_400 * (guest as u64 - 1));
        plan = plan.op(when, by, Op::Invite(guest));
    }
    let when = SimTime::ms(12_000 + rng.below(8_000));
    let split = Fault::split(&[0, 1, 2], &[3, 4, 5]).lasting(secs(8));
    plan = plan.fault(SimTime::ms(10_000 + rng.below(10_000)), split);
    match seed % 3 {
        0 => {
            mesh.expect.cut.insert(lost);
            plan = plan.op(when, 0, Op::Remove(lost));
        }
        1 => plan = plan.fault(when, Fault::crash(lost).lasting(secs(100))),
        _ => {
            mesh.expect.cut.insert(lost);
            mesh.liars.insert(lost);
            plan = plan.op(when, lost, Op::Lie(Lie::Equivocate));
        }
    }
    (mesh, plan)
}

fn joining(seed: u64) -> (Mesh, Plan<Op>) {
    let mut rng = Rng::stream(seed, "joining", 0);
    let mut plan = Plan::calm(at(25)).op(SimTime::ms(20), 0, Op::Invite(1));
    plan.settle_us = secs(300);
    plan.poll_us = ms(100);
    let mut mesh = Mesh::new(4);
    mesh.ops = 30;
    for tenth in 0..160 {
        let when = SimTime::ms(3_000 + 100 * tenth);
        plan = plan.op(when, (tenth % 2) as usize, Op::Import(1 + rng.below(5) as u32));
    }
    for (guest, after_ms) in [(2, 5_000), (3, 9_000)] {
        let invited = after_ms + rng.below(3_000);
        let died = SimTime::ms(invited + rng.below(1_500));
        plan = plan
            .op(SimTime::ms(invited), rng.below(2) as usize, Op::Invite(guest))
            .fault(died, Fault::crash(guest).lasting(ms(200 + rng.below(2_000))));
    }
    (mesh, plan)
}

/// 0 invited 1 and 2, 1 invited 3 and 4, 2 invited 5. On one side of a partition 1 removes its guests;
/// on the other 0 removes 1, and so gives back what 1 took. Equals try as well, and may not.
fn purge(seed: u64) -> (Mesh, Plan<Op>) {
    let mut rng = Rng::stream(seed, "purge", 0);
    let mut mesh = Mesh::new(6);
    mesh.ops_from = at(6);
    mesh.expect.cut = (1..6).collect();
    let invite = |guests: &[usize]| {
        let guests = guests.iter().map(|guest| mesh.invitation(*guest)).collect();
        Op::Write(guests)
    };
    let mut plan = Plan::calm(at(40))
        .op(SimTime::ms(20), 0, invite(&[1, 2]))
        .op(SimTime::ms(2_500), 1, invite(&[3, 4]))
        .op(SimTime::ms(2_500), 2, invite(&[5]));
    plan.settle_us = secs(300);
    plan.poll_us = ms(100);
    plan = plan.fault(at(8), Fault::split(&[0, 2, 5], &[1, 3, 4]).lasting(secs(14)));
    let during = |rng: &mut Rng| SimTime::ms(9_000 + rng.below(12_000));
    let after = |rng: &mut Rng| SimTime::ms(24_000 + rng.below(10_000));
    plan = plan
        .op(during(&mut rng), 1, Op::Remove(3))
        .op(during(&mut rng), 0, Op::Remove(1))
        .op(during(&mut rng), 2, Op::Remove(5))
        .op(during(&mut rng), 4, Op::Remove(3))
        .op(after(&mut rng), 3, Op::Remove(3))
        .op(after(&mut rng), 0, Op::Remove(rng.below(5) as usize + 1));
    let put = Change::Put { key: Bytes::from_static(b"k1"), value: Bytes::from_static(b"last") };
    let farewell = Op::Write(vec![put, mesh.removal(4), mesh.removal(5)]);
    (mesh, plan.op(after(&mut rng), rng.below(2) as usize * 2, farewell))
}

/// The last node is invited on one side of a partition, and cited on the other, where it is unknown.
fn cite_nothing(seed: u64) -> (Mesh, Plan<Op>) {
    let mut plan = Plan::calm(at(700));
    for guest in 1..4 {
        plan = plan.op(SimTime::ms(20), 0, Op::Invite(guest));
    }
    // What waits for nothing is let go when its time is up.
    plan.settle_us = secs(1_500);
    plan.poll_us = secs(1);
    let mut mesh = Mesh::new(5);
    mesh.ops = 30;
    let liar = 2 + (seed % 2) as usize;
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    plan = plan.fault(at(4), Fault::split(&[0, 1, 4], &[2, 3]).lasting(secs(10))).op(
        at(5),
        0,
        Op::Invite(4),
    );
    let mut rng = Rng::stream(seed, "cite nothing", 0);
    let when = SimTime::ms(6_000 + rng.below(14_000));
    plan = plan.op(when, liar, Op::Lie(Lie::CiteNothing));
    // By now it has been let go, and it stays so.
    let when = SimTime::ms(660_000 + rng.below(10_000));
    (mesh, plan.fault(when, Fault::crash(rng.below(5) as usize).lasting(secs(1))))
}

fn forgery(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(25)));
    mesh.ops = 30;
    let mut rng = Rng::stream(seed, "forgery", 0);
    let liar = 1 + rng.below(3) as usize;
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    for n in 0..8 {
        let lie = if n % 2 == 0 { Lie::Forge } else { Lie::Substitute };
        plan = plan.op(SimTime::ms(4_000 + 2_000 * n + rng.below(2_000)), liar, Op::Lie(lie));
    }
    (mesh, plan)
}

/// Nobody holds the second story, so only those who were told of it know.
fn told_twice(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, plan) = mesh(4, Plan::calm(at(20)));
    mesh.ops = 20;
    let mut rng = Rng::stream(seed, "told twice", 0);
    let liar = 1 + rng.below(3) as usize;
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    mesh.expect.forked = Some(liar);
    (mesh, plan.op(SimTime::ms(5_000 + rng.below(8_000)), liar, Op::Lie(Lie::Retell)))
}

/// Sync with the deaf node fails again and again, from both ends. Once it hears again it must not have
/// to wait for what grew meanwhile.
fn unresponsive(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(3, Plan::calm(at(1_300)));
    mesh.ops = 0;
    let mut rng = Rng::stream(seed, "unresponsive", 0);
    let deaf = 1 + rng.below(2) as usize;
    plan = plan.op(at(5), deaf, Op::Deaf(true)).op(at(1_200), deaf, Op::Deaf(false));
    for n in 0..30 {
        let node = rng.below(3) as usize;
        plan = plan.op(at(10 + rng.below(900)), node, put(&format!("k{}", n % 8), "meanwhile"));
    }
    (mesh, plan)
}

/// Frontiers of more chains than are told whole are coded in cells; more that differ than one batch of
/// cells tells.
fn many_chains(seed: u64) -> (Mesh, Plan<Op>) {
    const VOICES: u8 = 60;
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(20)));
    mesh.ops = 20;
    let mut rng = Rng::stream(seed, "many chains", 0);
    for voices in (0..VOICES).collect::<Vec<u8>>().chunks(20) {
        let invite = |voice: &u8| Change::Invite { node: voice_of(*voice).id() };
        plan = plan.op(at(2), 0, Op::Write(voices.iter().map(invite).collect()));
    }
    let (left, right) = if seed.is_multiple_of(2) { (0..1, 1..4) } else { (0..2, 2..4) };
    let sides: [Vec<usize>; 2] = [left.collect(), right.collect()];
    plan = plan.fault(at(7), Fault::split(&sides[0], &sides[1]).lasting(secs(6)));
    let sung = |voices: u64, seq| Op::Lie(Lie::Chorus { voices: voices as u8, seq });
    plan =
        plan.op(at(4), 0, sung(VOICES.into(), 1)).op(SimTime::ms(4_500), 1, sung(VOICES.into(), 1));
    let mut voices = u64::from(VOICES);
    for seq in 2..5 {
        // Somebody hears it at once, or nobody ever does: who tells it does not keep it.
        let node = if sides[0].len() == 1 { 1 + rng.below(3) } else { rng.below(4) } as usize;
        let when = 8_000 + 1_000 * seq + rng.below(500);
        // Nobody sings a place whose predecessor nobody has.
        voices = voices.min(20 + rng.below(VOICES.into()));
        plan = plan.op(SimTime::ms(when), node, sung(voices, seq));
    }
    (mesh, plan)
}

/// An author tells long stories to each side of a partition, hears nothing of what comes of them, and is
/// gone once they have arrived: what it has on the way dies with it, and a story that nobody heard
/// makes no fork. When the sides meet, nobody says anything new: only sync can tell that they differ,
/// and a hunt where.
fn two_histories(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(90)));
    mesh.ops = 0;
    let mut rng = Rng::stream(seed, "two histories", 0);
    let liar = 1 + rng.below(3) as usize;
    mesh.liars.insert(liar);
    mesh.expect.cut.insert(liar);
    mesh.expect.forked = Some(liar);
    mesh.expect.forked_by = Some(at(85));
    // Every second one of the others is told the same.
    let others: Vec<usize> = (0..4).filter(|node| *node != liar).collect();
    let sides = [vec![others[0], others[2]], vec![others[1]]];
    plan = plan
        .op(at(4), liar, Op::Import(1 + rng.below(60) as u32))
        .fault(at(8), Fault::split(&sides[0], &sides[1]).lasting(secs(8)))
        .op(SimTime::ms(9_990), liar, Op::Deaf(true))
        .op(at(10), liar, Op::Lie(Lie::Stories(2 + rng.below(40))))
        .fault(SimTime::ms(10_400), Fault::crash(liar));
    (mesh, plan)
}

/// Two who may remove a member do so on two sides of a partition, and it writes on: what counts of it
/// ends at the lower place.
fn two_removals(seed: u64) -> (Mesh, Plan<Op>) {
    let mut rng = Rng::stream(seed, "two removals", 0);
    let mut plan = Plan::calm(at(30));
    plan.settle_us = secs(300);
    plan.poll_us = ms(100);
    let mut mesh = Mesh::new(4);
    mesh.ops = 0;
    mesh.expect.cut.insert(3);
    for (when, by, guest) in [(20, 0, 1), (20, 0, 2), (1_500, 1, 3)] {
        plan = plan.op(SimTime::ms(when), by, Op::Invite(guest));
    }
    plan = plan
        .fault(at(6), Fault::split(&[0, 2], &[1, 3]).lasting(secs(12)))
        .op(SimTime::ms(7_000 + rng.below(3_000)), 0, Op::Remove(3))
        .op(SimTime::ms(11_000 + rng.below(6_000)), 1, Op::Remove(3));
    for n in 0..20 {
        let when = SimTime::ms(4_000 + rng.below(14_000));
        let node = if n % 2 == 0 { 3 } else { rng.below(3) as usize };
        plan = plan.op(when, node, put(&format!("k{}", n % 5), "still here"));
    }
    (mesh, plan)
}

/// Everything at once, and far apart.
fn continents(seed: u64) -> (Mesh, Plan<Op>) {
    let nodes = 3 + (seed % 4) as usize;
    let mut plan = Plan::new(at(25));
    plan.regions = Some(Regions::three_continents(nodes));
    mesh(nodes, plan)
}
