//! Hosts over loopback: who gets a link, who loses it and why, and that others do not notice.

mod support;

use std::time::Duration;

use quorate_runtime_tokio::frame::MAX_FRAME_BYTES;
use quorate_runtime_tokio::handle::Metrics;
use quorate_runtime_tokio::host::{MAX_HANDSHAKES_PER_SOURCE, Settings};
use quorate_runtime_tokio::link::CloseReason;
use quorate_runtime_tokio::tls::TlsError;
use support::{Command, Event, Node, hung, identity, listening, memory, stranger};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const KEEP: [u8; 4] = [0; 4];

async fn pair() -> (Node, Node) {
    let mut a = Node::start(1, memory(), listening()).await;
    let mut b = Node::start(2, memory(), listening()).await;
    b.dial(a.addr(), Some(a.id)).await;
    a.until(Event::Up(b.id)).await;
    b.until(Event::Up(a.id)).await;
    (a, b)
}

/// Reads until the other side hangs up.
async fn hangs_up(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut sink = Vec::new();
    // However it ends, it ends.
    let _ = hung(stream.read_to_end(&mut sink)).await;
}

#[tokio::test]
async fn two_machines_talk() {
    let (mut a, mut b) = pair().await;
    a.hears(&b, "from b").await;
    b.hears(&a, "from a").await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!(metrics.opened, 1);
    assert!(!metrics.links[&b.id].dialled);
    // The empty frame that keeps the connection came before it was a link.
    assert_eq!(metrics.peers[&b.id].bytes_in, 4 + 6);

    b.running.stop().await.unwrap();
    a.until(Event::Down(b.id)).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!(metrics.closed[&CloseReason::PeerClosed], 1);
    assert!(metrics.links.is_empty());
    assert_eq!(metrics.peers[&b.id].bytes_in, 10, "remembered");
    a.running.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_a_stop_arrives() {
    let (mut a, b) = pair().await;
    for n in 0..100 {
        b.command(Command::Send(a.id, format!("{n}"))).await;
    }
    b.handle.query(|_, _| ()).await.unwrap();
    b.running.stop().await.unwrap();
    for n in 0..100 {
        assert_eq!(a.event().await, Event::Received(b.id, format!("{n}")));
    }
    assert_eq!(a.event().await, Event::Down(b.id));
}

#[tokio::test]
async fn a_message_to_oneself_arrives() {
    let mut a = Node::start(1, memory(), Settings::default()).await;
    let id = a.id;
    a.command(Command::Send(id, "note".into())).await;
    a.until(Event::Received(id, "note".into())).await;
}

#[tokio::test]
async fn alarms_ring() {
    let mut a = Node::start(1, memory(), Settings::default()).await;
    for ms in [0, 3] {
        a.command(Command::Alarm(ms)).await;
        a.until(Event::Ticked).await;
    }
}

#[tokio::test]
async fn the_wrong_key_is_refused() {
    let (near, far) = tokio::io::duplex(4096);
    let server = identity(1);
    let (a, wrong) = (server.id(), identity(9).id());
    let accepting = tokio::spawn(async move { server.accept(far).await.map(|(peer, _)| peer) });
    let refused = identity(2).dial(near, Some(wrong)).await;
    assert!(
        matches!(&refused, Err(TlsError::WrongPeer { expected, found })
            if (*expected, *found) == (wrong, a)),
        "{refused:?}"
    );
    assert!(matches!(accepting.await.unwrap(), Err(TlsError::Handshake(_))));

    let a = Node::start(1, memory(), listening()).await;
    let b = Node::start(2, memory(), Settings::default()).await;
    b.dial(a.addr(), Some(wrong)).await;
    let metrics = b.until_counted(|m| m.closed.contains_key(&CloseReason::WrongPeer)).await;
    assert_eq!(metrics.opened, 0);
    a.until_counted(|m| m.closed.contains_key(&CloseReason::HandshakeFailed)).await;
}

#[tokio::test]
async fn a_handshake_names_both_ends() {
    let (near, far) = tokio::io::duplex(4096);
    let accepting =
        tokio::spawn(async move { identity(1).accept(far).await.map(|(peer, _)| peer) });
    let (peer, _stream) = identity(2).dial(near, Some(identity(1).id())).await.unwrap();
    assert_eq!(peer, identity(1).id());
    assert_eq!(accepting.await.unwrap().unwrap(), identity(2).id());
}

#[tokio::test]
async fn an_identity_is_its_seeds_public_key() {
    // RFC 8032, 7.1, test 1.
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    let id = quorate_runtime_tokio::tls::Identity::from_seed(&seed).unwrap().id();
    let expected = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(id.to_string(), expected);
}

#[tokio::test]
async fn bad_frames_close_their_link_and_no_other() {
    let (mut a, b) = pair().await;
    let huge = (MAX_FRAME_BYTES as u32 + 1).to_le_bytes();
    let cases: [(&[u8], CloseReason); 2] =
        [(&huge, CloseReason::Oversized), (&[2, 0, 0, 0, 0xff, 0xfe], CloseReason::Undecodable)];
    for (n, (bytes, reason)) in cases.into_iter().enumerate() {
        let mut bad = stranger(10 + n as u8, &a.addr()).await;
        bad.write_all(&KEEP).await.unwrap();
        bad.write_all(bytes).await.unwrap();
        bad.flush().await.unwrap();
        hangs_up(&mut bad).await;
        let metrics = a.until_counted(|m| m.closed.contains_key(&reason)).await;
        assert_eq!(metrics.closed[&reason], 1);
        a.hears(&b, "still here").await;
    }
    let mut cut = stranger(20, &a.addr()).await;
    cut.write_all(&[0, 0, 0, 0, 9, 0]).await.unwrap();
    cut.shutdown().await.unwrap();
    a.until_counted(|m| m.closed.contains_key(&CloseReason::Truncated)).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!(metrics.links.keys().collect::<Vec<_>>(), [&b.id]);
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_is_hung_up_on() {
    let (mut a, b) = pair().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64]] {
        let mut bad = TcpStream::connect(a.addr()).await.unwrap();
        bad.write_all(garbage).await.unwrap();
        hangs_up(&mut bad).await;
    }
    a.until_counted(|m| m.closed.get(&CloseReason::HandshakeFailed) == Some(&2)).await;
    // A handshake, but something else than the frame that keeps the connection.
    let mut bad = stranger(3, &a.addr()).await;
    bad.write_all(b"what").await.unwrap();
    bad.flush().await.unwrap();
    hangs_up(&mut bad).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!((metrics.opened, metrics.closed[&CloseReason::HandshakeFailed]), (1, 3));
    a.hears(&b, "still here").await;
}

#[tokio::test]
async fn a_peer_the_edge_bars_gets_no_link() {
    let a = Node::start(1, memory(), listening()).await;
    let barred = identity(3).id();
    a.handle.with_edge(move |edge, _| edge.barred = Some(barred)).await.unwrap();
    let mut stream = stranger(3, &a.addr()).await;
    stream.write_all(&KEEP).await.unwrap();
    stream.flush().await.unwrap();
    hangs_up(&mut stream).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!((metrics.opened, metrics.closed[&CloseReason::NotAdmitted]), (0, 1));
}

#[tokio::test]
async fn silence_is_dropped_after_the_handshakes_time() {
    let settings = Settings { handshake_timeout: Duration::from_millis(500), ..listening() };
    let a = Node::start(1, memory(), settings).await;
    let mut silent = TcpStream::connect(a.addr()).await.unwrap();
    hangs_up(&mut silent).await;
    let mut undecided = stranger(3, &a.addr()).await;
    hangs_up(&mut undecided).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!(metrics.closed[&CloseReason::HandshakeTimeout], 2);
    assert_eq!(metrics.opened, 0);
}

#[tokio::test]
async fn links_are_bounded() {
    let mut a = Node::start(1, memory(), Settings { max_connections: 1, ..listening() }).await;
    let b = Node::start(2, memory(), Settings::default()).await;
    b.dial(a.addr(), None).await;
    a.until(Event::Up(b.id)).await;
    let mut late = stranger(3, &a.addr()).await;
    late.write_all(&KEEP).await.unwrap();
    late.flush().await.unwrap();
    hangs_up(&mut late).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!(metrics.closed[&CloseReason::TooManyConnections], 1);
    a.hears(&b, "still here").await;
}

/// Nothing here times out: only by another's giving way does anyone get in.
fn patient() -> Settings {
    Settings { handshake_timeout: Duration::from_secs(3_600), ..listening() }
}

#[tokio::test]
async fn idle_strangers_lock_nobody_out() {
    let mut a = Node::start(1, memory(), patient()).await;
    let mut idle = Vec::new();
    for n in 0..80 {
        let mut stream = TcpStream::connect(a.addr()).await.unwrap();
        if n % 2 == 0 {
            // The beginning of a handshake record of 512 bytes.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
        }
        idle.push(stream);
    }
    let b = Node::start(2, memory(), patient()).await;
    b.dial(a.addr(), Some(a.id)).await;
    a.until(Event::Up(b.id)).await;

    let gave_way = 80 + 1 - MAX_HANDSHAKES_PER_SOURCE;
    let closed = a.handle.metrics().await.unwrap().closed;
    assert_eq!(closed, [(CloseReason::TooManyFromSource, gave_way as u64)].into());
    for stream in &mut idle[..gave_way] {
        hangs_up(stream).await;
    }
    let closed = b.handle.metrics().await.unwrap().closed;
    assert!(closed.is_empty(), "the first dial got through: {closed:?}");
}

/// Only here does a machine have more than one address to call from.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_elsewhere_does_not_touch_a_newcomer() {
    let mut a = Node::start(1, memory(), patient()).await;
    let to: std::net::SocketAddr = a.addr().parse().unwrap();
    let flood = tokio::spawn(async move {
        let mut last = std::collections::VecDeque::new();
        loop {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            // It may find no port for a moment.
            last.extend(socket.connect(to).await.ok());
            if last.len() > 100 {
                last.pop_front();
            }
        }
    });
    a.until_counted(|m| m.closed.contains_key(&CloseReason::TooManyFromSource)).await;
    let b = Node::start(2, memory(), patient()).await;
    b.dial(a.addr(), Some(a.id)).await;
    a.until(Event::Up(b.id)).await;
    let closed = b.handle.metrics().await.unwrap().closed;
    assert!(closed.is_empty(), "the first dial got through: {closed:?}");
    flood.abort();
}

#[tokio::test]
async fn a_peer_that_shows_no_life_is_dropped() {
    let pulse = |listen: Settings| Settings {
        keepalive: Duration::from_millis(20),
        idle_timeout: Duration::from_millis(1_000),
        ..listen
    };
    let mut a = Node::start(1, memory(), pulse(listening())).await;
    let b = Node::start(2, memory(), pulse(Settings::default())).await;
    b.dial(a.addr(), Some(a.id)).await;
    let mut dead = stranger(3, &a.addr()).await;
    dead.write_all(&KEEP).await.unwrap();
    dead.flush().await.unwrap();
    a.until(Event::Down(identity(3).id())).await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!(metrics.closed[&CloseReason::Idle], 1);
    a.hears(&b, "alive").await;
}

#[tokio::test]
async fn a_slow_receiver_loses_its_link() {
    let settings = Settings { link_queue_bytes: 3 << 20, ..listening() };
    let mut a = Node::start(1, memory(), settings).await;
    let mut b = Node::start(2, memory(), Settings::default()).await;
    b.dial(a.addr(), Some(a.id)).await;
    let slow_id = identity(3).id();
    let mut slow = stranger(3, &a.addr()).await;
    slow.write_all(&KEEP).await.unwrap();
    slow.flush().await.unwrap();
    a.until(Event::Up(slow_id)).await;
    // It never reads: sooner or later the system's buffers are full, then the queue.
    let mut sent = 0;
    while !a.handle.metrics().await.unwrap().closed.contains_key(&CloseReason::SlowReceiver) {
        a.command(Command::Send(slow_id, "x".repeat(1 << 20))).await;
        sent += 1;
        assert!(sent < 1_000, "a gigabyte went nowhere");
    }
    a.until(Event::Down(slow_id)).await;
    b.hears(&a, "still here").await;
    drop(slow);
}

#[tokio::test]
async fn a_message_too_large_is_counted_and_costs_no_link() {
    let (mut a, b) = pair().await;
    b.command(Command::Send(a.id, "x".repeat(MAX_FRAME_BYTES + 1))).await;
    a.hears(&b, &"y".repeat(MAX_FRAME_BYTES)).await;
    assert_eq!(b.handle.metrics().await.unwrap().oversized, 1);
}

#[tokio::test]
async fn simultaneous_dials_leave_one_link() {
    for round in 0..20 {
        let (first, second) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        let mut a = Node::start(first, memory(), listening()).await;
        let mut b = Node::start(second, memory(), listening()).await;
        tokio::join!(a.dial(b.addr(), None), b.dial(a.addr(), None));
        // Each dial has ended one way or another once nothing is left but the one link.
        let settled = |m: &Metrics| {
            let lost: u64 = m.closed.values().sum();
            m.links.len() == 1 && lost + 1 >= m.opened
        };
        loop {
            let at_a = a.until_counted(settled).await;
            let at_b = b.until_counted(settled).await;
            if at_a.links[&b.id].dialled != at_b.links[&a.id].dialled {
                break;
            }
        }
        a.hears(&b, "to a").await;
        b.hears(&a, "to b").await;
        let (at_a, at_b) = (a.handle.metrics().await.unwrap(), b.handle.metrics().await.unwrap());
        assert!(at_a.opened <= 2 && at_b.opened <= 2, "flapping: {at_a:?} {at_b:?}");
    }
}

/// The host has dialled a peer and keeps that link; the peer's own connection crosses it.
async fn crossing(host_seed: u8, peer_seed: u8) -> CloseReason {
    let peer = identity(peer_seed);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host = Node::start(host_seed, memory(), listening()).await;
    host.dial(listener.local_addr().unwrap().to_string(), Some(peer.id())).await;
    let (stream, _) = listener.accept().await.unwrap();
    let (_, mut dialled_by_host) = peer.accept(stream).await.unwrap();
    let mut kept = [9; 4];
    dialled_by_host.read_exact(&mut kept).await.unwrap();
    assert_eq!(kept, KEEP);
    host.until(Event::Up(peer.id())).await;

    let mut dialled_by_peer = stranger(peer_seed, &host.addr()).await;
    dialled_by_peer.write_all(&KEEP).await.unwrap();
    dialled_by_peer.flush().await.unwrap();
    let settled = host.until_counted(|m| m.closed.values().sum::<u64>() == 1).await;
    assert_eq!(settled.links.len(), 1);
    let reason = *settled.closed.keys().next().unwrap();
    let kept_the_peers = reason == CloseReason::Replaced;
    assert_eq!(settled.links[&peer.id()].dialled, !kept_the_peers);
    hangs_up(if kept_the_peers { &mut dialled_by_host } else { &mut dialled_by_peer }).await;
    reason
}

#[tokio::test]
async fn crossing_connections_are_settled_by_id() {
    let (small, large) = if identity(1).id() < identity(2).id() { (1, 2) } else { (2, 1) };
    assert_eq!(crossing(small, large).await, CloseReason::Duplicate);
    assert_eq!(crossing(large, small).await, CloseReason::Replaced);
}

#[tokio::test]
async fn a_second_address_of_a_linked_peer_disturbs_nothing() {
    let (mut a, b) = pair().await;
    let port = a.addr().rsplit_once(':').unwrap().1.to_owned();
    b.dial(format!("localhost:{port}"), None).await;
    b.until_counted(|m| m.closed.contains_key(&CloseReason::Duplicate)).await;
    a.until_counted(|m| m.closed.contains_key(&CloseReason::PeerClosed)).await;
    a.hears(&b, "still here").await;
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!((metrics.opened, metrics.links.len()), (1, 1));
}

#[tokio::test]
async fn a_lost_link_is_dialled_again() {
    let (mut a, mut b) = pair().await;
    let peer = b.id;
    a.handle.with_edge(move |_, actions| actions.disconnect(peer, "test")).await.unwrap();
    assert_eq!(a.event().await, Event::Down(b.id));
    assert_eq!(a.event().await, Event::Up(b.id));
    assert_eq!(b.event().await, Event::Down(a.id));
    assert_eq!(b.event().await, Event::Up(a.id));
    assert_eq!(a.handle.metrics().await.unwrap().closed[&CloseReason::Disconnected], 1);
    a.hears(&b, "again").await;
}

#[tokio::test]
async fn our_own_address_becomes_no_link() {
    let a = Node::start(1, memory(), listening()).await;
    a.dial(a.addr(), None).await;
    // Both ends of the connection are ours, and each sees it.
    let metrics = a.until_counted(|m| m.closed.values().sum::<u64>() >= 2).await;
    assert_eq!(metrics.closed.keys().collect::<Vec<_>>(), [&CloseReason::SelfConnection]);
    assert_eq!(metrics.opened, 0);
}

#[tokio::test]
async fn another_with_our_key_is_refused_at_both_ends() {
    let a = Node::start(1, memory(), listening()).await;
    let copy = Node::start(1, memory(), Settings::default()).await;
    copy.dial(a.addr(), None).await;
    for node in [&a, &copy] {
        // More than one: the address is tried again, for another may come to listen there.
        let own = |m: &Metrics| m.closed.get(&CloseReason::SelfConnection) > Some(&1);
        let metrics = node.until_counted(own).await;
        assert_eq!((metrics.closed.len(), metrics.opened), (1, 0), "{metrics:?}");
    }
    let third = Node::start(1, memory(), Settings::default()).await;
    third.dial(a.addr(), Some(identity(2).id())).await;
    let metrics = third.until_counted(|m| !m.closed.is_empty()).await;
    assert_eq!(metrics.closed.keys().collect::<Vec<_>>(), [&CloseReason::SelfConnection]);
}
