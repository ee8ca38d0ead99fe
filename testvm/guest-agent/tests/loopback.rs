// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of the agent that need neither root nor a guest, over the loopback of the machine the
//! tests run on.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use guest_agent::agent::Agent;
use guest_agent::receiver::Receiver;
use guest_agent::rpc::RpcServer;
use guest_protocol::clock::monotonic_ns;
use guest_protocol::frame::{REPLY_LEN, ReplyFrame, RequestFrame};
use guest_protocol::{Reply, Request};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use zerocopy::IntoBytes;

type Outcome = Result<(), Box<dyn Error>>;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Far beyond anything a loaded machine needs: only a hang takes this long.
const HANG: Duration = Duration::from_secs(20);

/// A CPU this test may run on.
fn some_cpu() -> Result<usize, Box<dyn Error>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .ok_or("no CPU at all")?)
}

/// Runs `body`, but not for ever.
fn within_limit<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Box<dyn Error>> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let _ = tell.send(body());
    });
    Ok(told.recv_timeout(HANG)?)
}

fn exchange(stream: &mut TcpStream, seq: u32) -> Result<ReplyFrame, Box<dyn Error>> {
    stream.write_all(RequestFrame::new(seq).as_bytes())?;
    let mut reply = [0; REPLY_LEN];
    stream.read_exact(&mut reply)?;
    Ok(ReplyFrame::parse(reply)?)
}

fn connect(server: &RpcServer) -> Result<TcpStream, Box<dyn Error>> {
    let stream = TcpStream::connect((HERE, server.port()?))?;
    stream.set_read_timeout(Some(HANG))?;
    Ok(stream)
}

/// A UDP port that was free a moment ago.
fn free_port() -> Result<u16, Box<dyn Error>> {
    Ok(UdpSocket::bind((HERE, 0))?.local_addr()?.port())
}

#[test]
fn the_receiver_counts_its_peers_datagrams_only() -> Outcome {
    let peer = UdpSocket::bind((HERE, 0))?;
    let stranger = UdpSocket::bind((HERE, 0))?;
    let port = free_port()?;
    let receiver =
        Receiver::start((HERE, port), (HERE, peer.local_addr()?.port()), 0, some_cpu()?)?;
    for datagram in [&b"one"[..], b"", b"three"] {
        peer.send_to(datagram, (HERE, port))?;
    }
    stranger.send_to(b"not for you", (HERE, port))?;
    let begin = Instant::now();
    while receiver.received() < 3 && begin.elapsed() < HANG {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        within_limit(|| receiver.stop())??,
        3,
        "an empty datagram counts and does not end it"
    );
    Ok(())
}

#[test]
fn the_receiver_stops_without_a_packet() -> Outcome {
    let receiver = Receiver::start((HERE, free_port()?), (HERE, 9), 0, some_cpu()?)?;
    // Give it time to block in recv.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(within_limit(|| receiver.stop())??, 0);
    Ok(())
}

#[test]
fn the_server_answers_with_guest_times_in_order() -> Outcome {
    let server = RpcServer::start((HERE, 0), 0, some_cpu()?)?;
    let mut stream = connect(&server)?;
    for seq in [0, 7, u32::MAX] {
        let before = monotonic_ns();
        let reply = exchange(&mut stream, seq)?;
        let after = monotonic_ns();
        assert_eq!(reply.seq(), seq);
        assert_eq!(reply.hardware_ns(), None, "the loopback has no hardware timestamps");
        assert!(before <= reply.received_ns());
        assert!(reply.received_ns() <= reply.sending_ns());
        assert!(reply.sending_ns() <= after);
    }
    drop(stream);
    assert_eq!(within_limit(|| server.stop())??, 3);
    Ok(())
}

#[test]
fn a_request_may_come_in_pieces() -> Outcome {
    let server = RpcServer::start((HERE, 0), 0, some_cpu()?)?;
    let mut stream = connect(&server)?;
    stream.set_nodelay(true)?;
    for byte in RequestFrame::new(5).as_bytes() {
        stream.write_all(&[*byte])?;
        thread::sleep(Duration::from_millis(1));
    }
    let mut reply = [0; REPLY_LEN];
    stream.read_exact(&mut reply)?;
    assert_eq!(ReplyFrame::parse(reply)?.seq(), 5);
    assert_eq!(within_limit(|| server.stop())??, 1);
    Ok(())
}

#[test]
fn a_bad_client_ends_only_its_own_connection() -> Outcome {
    let server = RpcServer::start((HERE, 0), 0, some_cpu()?)?;
    let mut bad = connect(&server)?;
    bad.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut nothing = [0; 1];
    assert!(matches!(bad.read(&mut nothing), Ok(0) | Err(_)), "closed without an answer");
    let mut half = connect(&server)?;
    half.write_all(&RequestFrame::new(1).as_bytes()[..3])?;
    drop(half);
    let mut good = connect(&server)?;
    assert_eq!(exchange(&mut good, 2)?.seq(), 2);
    assert_eq!(within_limit(|| server.stop())??, 1);
    Ok(())
}

#[test]
fn the_server_stops_in_accept_and_in_a_connection() -> Outcome {
    let idle = RpcServer::start((HERE, 0), 0, some_cpu()?)?;
    thread::sleep(Duration::from_millis(50));
    assert_eq!(within_limit(|| idle.stop())??, 0);

    let busy = RpcServer::start((HERE, 0), 0, some_cpu()?)?;
    let mut stream = connect(&busy)?;
    exchange(&mut stream, 1)?;
    assert_eq!(within_limit(|| busy.stop())??, 1, "the client is still connected");
    Ok(())
}

#[test]
fn requests_out_of_order_are_errors_with_a_reason() -> Outcome {
    let mut agent = Agent::default();
    let error = |reply| match reply {
        Reply::Error { message } => Ok(message),
        other => Err(format!("{other:?} instead of an error")),
    };
    assert_eq!(error(agent.handle(Request::ReceiverStop))?, "No UDP receiver is running");
    assert_eq!(error(agent.handle(Request::RpcStop))?, "No RPC server is running");

    let start = Request::RpcStart { local: (HERE, 0), busy_poll_us: 0, cpu: some_cpu()? };
    assert_eq!(agent.handle(start.clone()), Reply::Done);
    assert_eq!(error(agent.handle(start))?, "An RPC server is running already");
    assert_eq!(agent.handle(Request::RpcStop), Reply::Count { count: 0 });

    let not_here = Request::RpcStart {
        local: (Ipv4Addr::new(192, 0, 2, 1), 1),
        busy_poll_us: 0,
        cpu: some_cpu()?,
    };
    let message = error(agent.handle(not_here))?;
    assert!(message.starts_with("Cannot listen on TCP port 192.0.2.1:1: "), "{message}");
    let no_cpu =
        Request::ReceiverStart { local: (HERE, 0), peer: (HERE, 9), busy_poll_us: 0, cpu: 1023 };
    let message = error(agent.handle(no_cpu))?;
    assert!(message.contains("CPU 1023"), "{message}");
    assert_eq!(
        error(agent.handle(Request::ReceiverStop))?,
        "No UDP receiver is running",
        "the failed one left nothing"
    );
    Ok(())
}

#[test]
fn files_are_read_and_errors_named() -> Outcome {
    let mut agent = Agent::default();
    let Reply::Text { text } =
        agent.handle(Request::ReadFile { path: "/proc/sys/kernel/ostype".into() })
    else {
        return Err("no text".into());
    };
    assert_eq!(text, "Linux");
    let reply = agent.handle(Request::ReadFile { path: "/proc/none".into() });
    assert_eq!(
        reply,
        Reply::Error {
            message: "Cannot read /proc/none: No such file or directory (os error 2)".into()
        }
    );
    Ok(())
}
