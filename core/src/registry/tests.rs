use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

/// A registry and the log that it has applied.
#[derive(Default)]
struct Log {
    registry: Registry,
    now_ms: u64,
}

impl Log {
    fn act(&mut self, act: Act) -> Result<Reply, Refusal> {
        let proposal = Proposal { at_ms: self.now_ms, origin: Origin::default(), act };
        let result = self.registry.apply(self.registry.revision() + 1, &proposal);
        self.registry.check();
        result
    }

    fn ask(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.act(Act::Command(command))
    }

    fn beat(&mut self, after_ms: u64, renewals: &[u64]) {
        self.now_ms += after_ms;
        self.act(Act::Beat { renewals: renewals.to_vec() }).unwrap();
    }

    fn put(&mut self, key: &'static str, previous: Option<u64>) -> Result<Reply, Refusal> {
        self.ask(Command::Put { key: b(key), value: b("v"), lease: None, previous, fence: None })
    }

    fn fenced(&mut self, token: u64) -> Result<Reply, Refusal> {
        let fence = Some(Fence { name: b("n"), token });
        self.ask(Command::Put { key: b("k"), value: b("v"), lease: None, previous: None, fence })
    }

    fn lease(&mut self, ttl_ms: u64, n: u8) -> u64 {
        match self.ask(Command::Grant { ttl_ms, node: node(n) }) {
            Ok(Reply::Granted { lease, .. }) => lease,
            other => panic!("no lease: {other:?}"),
        }
    }

    fn campaign(&mut self, lease: u64, priority: u8) -> Result<Reply, Refusal> {
        self.ask(Command::Campaign { name: b("n"), lease, priority, value: b("") })
    }

    fn release(&mut self, token: u64) -> Result<Reply, Refusal> {
        self.ask(Command::Release { name: b("n"), token })
    }

    fn holder(&self) -> Option<(u64, u64)> {
        self.registry.holder(&b("n")).map(|holder| (holder.lease, holder.token))
    }

    fn changes(&self, from: u64) -> Vec<Change> {
        let changes = self.registry.changes(from).expect("they are known");
        changes.flat_map(|(_, changes)| changes.to_vec()).collect()
    }
}

#[test]
fn keys_carry_their_revisions() {
    let mut log = Log::default();
    assert_eq!(log.put("k", Some(0)), Ok(Reply::Written { revision: 1, version: 1 }));
    assert_eq!(log.put("k", Some(0)), Err(Refusal::StaleRevision { current: 1 }));
    assert_eq!(log.put("k", Some(1)), Ok(Reply::Written { revision: 3, version: 2 }));
    assert_eq!(log.put("gone", Some(1)), Err(Refusal::StaleRevision { current: 0 }));
    let delete = |previous| Command::Delete { key: b("k"), previous, fence: None };
    assert_eq!(log.ask(delete(Some(1))), Err(Refusal::StaleRevision { current: 3 }));
    assert_eq!(log.ask(delete(Some(3))), Ok(Reply::Deleted { revision: 6, existed: true }));
    assert_eq!(log.ask(delete(None)), Ok(Reply::Deleted { revision: 7, existed: false }));
    assert_eq!(log.put("k", Some(0)), Ok(Reply::Written { revision: 8, version: 1 }));
}

#[test]
fn a_transaction_is_carried_out_whole_or_not_at_all() {
    let mut log = Log::default();
    log.put("a", None).unwrap();
    let is = |relation, subject| Compare { key: b("a"), subject, relation };
    let put = |key, lease| Op::Put { key: b(key), value: b("w"), lease };
    let txn = |compare, then, otherwise| Command::Txn { compare, then, otherwise, fence: None };
    let equal = vec![is(Relation::Equal, Subject::Value(b("v")))];
    let get = Op::Get { key: b("b") };
    let then = vec![put("b", None), Op::Delete { key: b("a") }, get.clone()];
    let reply = log.ask(txn(equal.clone(), then, vec![]));
    let Ok(Reply::Txn { revision: 2, held: true, outcomes }) = reply else { panic!("{reply:?}") };
    assert!(matches!(
        &outcomes[..],
        [Outcome::Put { version: 1 }, Outcome::Deleted { existed: true }, Outcome::Got(Some(_))]
    ));
    let reply = log.ask(txn(equal, vec![], vec![get]));
    assert!(matches!(reply, Ok(Reply::Txn { held: false, .. })), "a is gone");
    // The second step is refused, and the first has not happened.
    let before = log.registry.size();
    let refused = log.ask(txn(vec![], vec![put("c", None), put("d", Some(99))], vec![]));
    assert_eq!(refused, Err(Refusal::UnknownLease));
    assert_eq!(log.registry.size(), before);
    assert!(log.changes(4).is_empty());
    let twice = log.ask(txn(vec![], vec![put("c", None), Op::Delete { key: b("c") }], vec![]));
    assert_eq!(twice, Err(Refusal::DuplicateKey));
    let many = vec![is(Relation::Less, Subject::Version(2)); MAX_OPS + 1];
    assert_eq!(log.ask(txn(many, vec![], vec![])), Err(Refusal::TooManyOps));
}

#[test]
fn what_hangs_on_a_lease_goes_with_it() {
    let mut log = Log::default();
    let lease = log.lease(1_000, 1);
    let put =
        |lease| Command::Put { key: b("k"), value: b("v"), lease, previous: None, fence: None };
    log.ask(put(Some(lease))).unwrap();
    log.campaign(lease, 0).unwrap();
    log.beat(999, &[]);
    assert_eq!(log.registry.leases(), 1, "never before its time");
    log.beat(0, &[lease]);
    log.beat(999, &[]);
    assert_eq!(log.registry.leases(), 1, "renewed");
    log.beat(1, &[]);
    assert_eq!((log.registry.leases(), log.registry.size()), (0, (0, 0)));
    assert_eq!(log.holder(), None);
    assert_eq!(log.ask(put(Some(lease))), Err(Refusal::UnknownLease));
    assert_eq!(log.ask(Command::Revoke { lease }), Err(Refusal::UnknownLease));
    // What was put again without the lease stays.
    let lease = log.lease(1_000, 1);
    log.ask(put(Some(lease))).unwrap();
    log.ask(put(None)).unwrap();
    log.ask(Command::Revoke { lease }).unwrap();
    assert_eq!(log.registry.size().0, 1);
}

#[test]
fn a_name_is_handed_on_by_priority_then_age_and_taken_from_nobody() {
    let mut log = Log::default();
    let leases: Vec<u64> = (1..=4).map(|n| log.lease(60_000, n)).collect();
    assert_eq!(log.campaign(leases[0], 1), Ok(Reply::Held { token: 5 }));
    assert_eq!(log.campaign(leases[0], 1), Ok(Reply::Held { token: 5 }), "asked again");
    let queued = |revision, before| Ok(Reply::Queued { revision, before, token: 5 });
    assert_eq!(log.campaign(leases[1], 1), queued(7, 0));
    assert_eq!(log.campaign(leases[2], 9), queued(8, 0));
    assert_eq!(log.campaign(leases[3], 1), queued(9, 2));
    assert_eq!(log.release(4), Err(Refusal::StaleToken { current: Some(5) }));
    assert_eq!(log.holder(), Some((leases[0], 5)));
    log.release(5).unwrap();
    assert_eq!(log.holder(), Some((leases[2], 11)));
    assert_eq!(log.release(5), Err(Refusal::StaleToken { current: Some(11) }));
    let withdraw = |lease| Command::Withdraw { name: b("n"), lease };
    assert_eq!(log.ask(withdraw(leases[2])), Err(Refusal::Holds { token: 11 }));
    assert_eq!(log.ask(withdraw(leases[0])), Err(Refusal::NotACandidate));
    log.ask(withdraw(leases[1])).unwrap();
    log.release(11).unwrap();
    assert_eq!(log.holder(), Some((leases[3], 16)));
    log.release(16).unwrap();
    assert_eq!(log.release(16), Err(Refusal::UnknownName));
}

#[test]
fn a_write_under_an_old_grant_is_refused() {
    let mut log = Log::default();
    let first = log.lease(1_000, 1);
    let second = log.lease(60_000, 2);
    log.campaign(first, 0).unwrap();
    log.campaign(second, 0).unwrap();
    assert_eq!(log.fenced(3), Ok(Reply::Written { revision: 5, version: 1 }));
    // The very entry whose clock ends the lease does not pass any more.
    log.now_ms += 1_000;
    assert_eq!(log.fenced(3), Err(Refusal::StaleToken { current: None }));
    assert_eq!(log.holder(), Some((second, 6)));
    assert_eq!(log.fenced(3), Err(Refusal::StaleToken { current: Some(6) }));
    assert_eq!(log.fenced(6), Ok(Reply::Written { revision: 8, version: 2 }));
}

#[test]
fn stepping_down_is_asked_for_and_then_enforced() {
    let mut log = Log::default();
    let leases: Vec<u64> = (1..=3).map(|n| log.lease(1_000, n)).collect();
    leases.iter().for_each(|lease| drop(log.campaign(*lease, 0).unwrap()));
    let down = |to| Command::StepDown { name: b("n"), to };
    assert_eq!(log.ask(down(Some(node(9)))), Err(Refusal::NoSuchCandidate));
    let within = |revision, within_ms| Ok(Reply::SteppingDown { revision, token: 4, within_ms });
    assert_eq!(log.ask(down(Some(node(3)))), within(8, 1_000));
    assert!(matches!(
        &log.changes(8)[..],
        [Change::Name { holder: Some(Holder { stepping_down: Some(_), token: 4, .. }), .. }]
    ));
    assert_eq!(log.fenced(4), Ok(Reply::Written { revision: 9, version: 1 }), "it still holds");
    log.beat(500, &leases);
    assert_eq!(log.ask(down(Some(node(3)))), within(11, 500), "no more time than at first");
    let Ok(Reply::Renewed { stepping_down, .. }) = log.registry.renewed(leases[0]) else {
        panic!()
    };
    assert_eq!(stepping_down, [4]);
    log.beat(499, &leases);
    assert_eq!(log.holder(), Some((leases[0], 4)));
    log.beat(1, &[]);
    assert_eq!(log.holder(), Some((leases[2], 13)), "to whom it was to go");
    assert_eq!(log.registry.leases(), 3, "the lease itself goes on");
    let unknown = Command::StepDown { name: b("m"), to: None };
    assert_eq!(log.ask(unknown), Err(Refusal::UnknownName));
}

#[test]
fn one_entry_grants_a_name_but_once() {
    let mut log = Log::default();
    let first = log.lease(1_000, 1);
    let others: Vec<u64> = (2..=4).map(|n| log.lease(60_000, n)).collect();
    log.campaign(first, 0).unwrap();
    others.iter().for_each(|lease| drop(log.campaign(*lease, 0).unwrap()));
    // The entry that ends the first lease also revokes that of the next.
    log.now_ms += 1_000;
    log.ask(Command::Revoke { lease: others[0] }).unwrap();
    let at = log.registry.revision();
    assert_eq!(log.holder(), Some((others[1], at)));
    assert_eq!(log.changes(at).len(), 1, "nobody in between");
}

#[test]
fn a_watch_begins_where_it_is_told_or_hears_that_it_cannot() {
    let mut log = Log::default();
    for _ in 0..MAX_HISTORY {
        log.registry.history.push(log.registry.revision + 1, vec![Change::Deleted { key: b("k") }]);
        log.registry.pass(log.registry.revision + 1);
    }
    assert_eq!(log.registry.oldest(), 1);
    log.put("a", None).unwrap();
    assert_eq!(log.registry.oldest(), 2);
    assert_eq!(log.registry.changes(1).err(), Some(2));
    assert_eq!(log.changes(2).len(), MAX_HISTORY);
    assert!(log.registry.changes(u64::MAX).is_ok_and(|mut changes| changes.next().is_none()));
}

#[test]
fn lists_come_in_pages() {
    let mut log = Log::default();
    for key in ["a", "p1", "p2", "p3", "q"] {
        log.put(key, None).unwrap();
    }
    let list = |after, limit| Query::List { prefix: b("p"), after, limit, keys_only: true };
    let keys = |reply| match reply {
        Ok(Reply::Items { items, more, .. }) => {
            (items.into_iter().map(|item: Item| item.key).collect::<Vec<_>>(), more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(keys(log.registry.query(&list(None, 2))), (vec![b("p1"), b("p2")], true));
    assert_eq!(keys(log.registry.query(&list(Some(b("p2")), 2))), (vec![b("p3")], false));
    assert_eq!(keys(log.registry.query(&list(Some(b("p9")), 2))), (vec![], false));
}

#[test]
fn bytes_that_are_no_snapshot_are_an_error() {
    let mut log = Log::default();
    let lease = log.lease(1_000, 1);
    log.campaign(lease, 0).unwrap();
    log.put("k", None).unwrap();
    let bytes = log.registry.encode();
    assert_eq!(Registry::decode(&bytes), Ok(log.registry.clone()));
    assert_eq!(Registry::decode(&[2]), Err(SnapshotError::Version(2)));
    for cut in 0..bytes.len() {
        assert!(Registry::decode(&bytes[..cut]).is_err());
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = Registry::decode(&bytes);
    }
}

fn commands() -> impl Strategy<Value = Command> {
    let key = || prop::sample::select(vec![b("a"), b("b"), b("ab"), b("")]);
    let name = || prop::sample::select(vec![b("x"), b("y")]);
    // Ids and tokens are revisions: small numbers meet them often.
    let id = || 0..60_u64;
    let fence = || {
        prop::option::weighted(0.3, (name(), id()).prop_map(|(name, token)| Fence { name, token }))
    };
    let op = move || {
        prop_oneof![
            (key(), prop::option::of(id())).prop_map(|(key, lease)| Op::Put {
                key,
                value: b("w"),
                lease
            }),
            key().prop_map(|key| Op::Delete { key }),
            key().prop_map(|key| Op::Get { key }),
        ]
    };
    let compare = (key(), id()).prop_map(|(key, than)| Compare {
        key,
        subject: Subject::ModRevision(than),
        relation: Relation::Less,
    });
    let nodes = || prop::option::of((1..4_u8).prop_map(node));
    prop_oneof![
        4 => (key(), prop::option::of(id()), prop::option::weighted(0.2, id()), fence()).prop_map(
            |(key, lease, previous, fence)| Command::Put { key, value: b("v"), lease, previous, fence }
        ),
        1 => (key(), prop::option::weighted(0.2, id()), fence())
            .prop_map(|(key, previous, fence)| Command::Delete { key, previous, fence }),
        2 => (
            prop::collection::vec(compare, 0..3),
            prop::collection::vec(op(), 0..4),
            prop::collection::vec(op(), 0..4),
            fence()
        )
            .prop_map(|(compare, then, otherwise, fence)| Command::Txn {
                compare,
                then,
                otherwise,
                fence
            }),
        4 => (400..3_000_u64, 1..4_u8)
            .prop_map(|(ttl_ms, n)| Command::Grant { ttl_ms, node: node(n) }),
        1 => id().prop_map(|lease| Command::Revoke { lease }),
        6 => (name(), id(), 0..3_u8).prop_map(|(name, lease, priority)| Command::Campaign {
            name,
            lease,
            priority,
            value: b("who"),
        }),
        1 => (name(), id()).prop_map(|(name, lease)| Command::Withdraw { name, lease }),
        2 => (name(), id()).prop_map(|(name, token)| Command::Release { name, token }),
        1 => (name(), nodes()).prop_map(|(name, to)| Command::StepDown { name, to }),
    ]
}

fn acts() -> impl Strategy<Value = (u64, Act)> {
    let act = prop_oneof![
        6 => commands().prop_map(Act::Command),
        1 => prop::collection::vec(0..60_u64, 0..4).prop_map(|renewals| Act::Beat { renewals }),
    ];
    (0..400_u64, act)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is asked for: the registry is sound, its snapshot is the registry, tokens rise, no
    /// lease ends before its deadline, and no name has a holder without a living lease.
    #[test]
    fn whatever_is_asked_for((acts, cut) in (prop::collection::vec(acts(), 1..120), 0..120_usize)) {
        let mut log = Log::default();
        let mut copy = None;
        let mut tokens: BTreeMap<Bytes, u64> = BTreeMap::new();
        for (at, (after_ms, act)) in acts.into_iter().enumerate() {
            log.now_ms += after_ms;
            if at == cut {
                copy = Some(Registry::decode(&log.registry.encode()).expect("it was just encoded"));
            }
            let before = log.registry.clone();
            let result = log.act(act.clone());
            let revision = log.registry.revision();
            if let Some(copy) = &mut copy {
                let proposal = Proposal { at_ms: log.now_ms, origin: Origin::default(), act: act.clone() };
                prop_assert_eq!(copy.apply(revision, &proposal), result);
                prop_assert_eq!(&*copy, &log.registry);
            }
            for (name, Name { holder, .. }) in &log.registry.names {
                let token = holder.as_ref().map_or(0, |holder| holder.token);
                let last = tokens.entry(name.clone()).or_default();
                prop_assert!(token >= *last, "a token goes back");
                let same = |name: &Name| name.holder.as_ref().map(|holder| holder.lease)
                    == holder.as_ref().map(|holder| holder.lease);
                let kept = before.names.get(name).is_some_and(same);
                prop_assert!(token > *last || kept, "one token, two holders");
                *last = token;
            }
            let revoked = |id: &u64| matches!(&act, Act::Command(Command::Revoke { lease }) if lease == id);
            for (id, lease) in &before.leases {
                let ended = log.registry.leases.get(id).is_none();
                let early = lease.deadline_ms > log.registry.clock_ms();
                prop_assert!(!ended || !early || revoked(id), "a lease ends before its time");
            }
        }
        let again = Registry::decode(&log.registry.encode()).expect("it was just encoded");
        prop_assert_eq!(again.encode(), log.registry.encode());
    }
}
