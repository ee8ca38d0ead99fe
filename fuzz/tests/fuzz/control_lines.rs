// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of a client of the control socket, and what the data path answers.
//!
//! Where the stream is cut does not matter, a request means the same when it is written out again,
//! and each command is answered, whatever its numbers.

use std::sync::Arc;
use std::time::Duration;

use bolero::{TypeGenerator, check};
use tsnic::clock::HostClock;
use tsnic::control::channel::{Answer, Command, control_channel};
use tsnic::control::convert;
use tsnic::control::dispatcher::Dispatcher;
use tsnic::net::pair::{InterruptConfig, Pair};
use tsnic::port::PortConfig;
use tsnic::vhost::Backend;
use tsnic_protocol::line::{LINE_MAX, RequestReader};
use tsnic_protocol::{PairRequest, Request};

use crate::MOMENT;

#[derive(Clone, Debug, TypeGenerator)]
enum Line {
    Status,
    MonitorStop,
    Natural {
        numbers: [u64; 6],
        misspelt: bool,
    },
    Packets {
        numbers: [u64; 5],
    },
    Injection {
        numbers: [u64; 4],
        held: bool,
    },
    MonitorStart {
        numbers: [u64; 3],
    },
    /// A request with a byte of it changed.
    Broken {
        at: u8,
        byte: u8,
    },
    Bytes(Vec<u8>),
    /// About as long as a line may be.
    Long {
        by: i8,
    },
}

const FLOW: &str = r#"{"guest_mac":[2,0,0,0,0,1],"guest_ip":"10.0.0.2","guest_port":9,"peer_mac":[2,0,0,0,0,2],"peer_ip":"10.0.0.1","peer_port":9}"#;

impl Line {
    fn bytes(&self) -> Vec<u8> {
        // Numbers of all sizes, small ones as often as those that do not fit.
        let sized = |number: u64| number >> (number % 64);
        match self {
            Self::Status => br#"{"request":"status"}"#.to_vec(),
            Self::MonitorStop => br#"{"request":"monitor-stop"}"#.to_vec(),
            Self::Natural { numbers, misspelt } => {
                let stuck = if *misspelt { "stuck" } else { "stuck_us" };
                let [seed, trials, burst, from, to, other] = numbers.map(sized);
                format!(
                    r#"{{"request":"natural","seed":{seed},"trials":{trials},"flow":{FLOW},"burst":{burst},"burst_us":[{from},{to}],"straggler_us":[{to},{other}],"interrupt_us":[{from},{other}],"{stuck}":[{from},{to}]}}"#
                )
                .into_bytes()
            }
            Self::Packets { numbers } => {
                let [seed, per_mille, frames, from, to] = numbers.map(sized);
                format!(
                    r#"{{"request":"packets","seed":{seed},"packets":[{{"kind":"reorder","per_mille":{per_mille},"frames":{frames},"latest_us":{to}}},{{"direction":"tx","kind":"delay","from_us":{from},"to_us":{to}}}]}}"#
                )
                .into_bytes()
            }
            Self::Injection { numbers, held } => {
                let [seed, rounds, from, to] = numbers.map(sized);
                let stimulus = if *held { "gro-held" } else { "udp" };
                format!(
                    r#"{{"request":"injection","seed":{seed},"rounds":{rounds},"flow":{FLOW},"stimulus":"{stimulus}","stuck_us":[{from},{to}]}}"#
                )
                .into_bytes()
            }
            Self::MonitorStart { numbers } => {
                let [seed, port, share] = numbers.map(sized);
                format!(r#"{{"request":"monitor-start","seed":{seed},"port":{port},"inject_per_mille":{share}}}"#)
                    .into_bytes()
            }
            Self::Broken { at, byte } => {
                let mut line = br#"{"request":"status"}"#.to_vec();
                let at = usize::from(*at) % line.len();
                line[at] = *byte;
                line
            }
            Self::Bytes(bytes) => bytes.clone(),
            Self::Long { by } => vec![b' '; LINE_MAX.saturating_add_signed(isize::from(*by))],
        }
    }
}

fn read(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Result<PairRequest, String>> {
    let (mut reader, mut read) = (RequestReader::default(), Vec::new());
    for chunk in chunks {
        reader.feed(&chunk, |request| read.push(request));
    }
    reader.finish(|request| read.push(request));
    read
}

#[test]
fn control_lines() {
    check!().with_type::<(Vec<Line>, Vec<u8>)>().with_test_time(MOMENT).for_each(
        |(lines, cuts)| {
            let stream: Vec<u8> = lines.iter().map(Line::bytes).collect::<Vec<_>>().join(&b'\n');
            let whole = read(std::iter::once(stream.clone()));

            let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
            let pieces = std::iter::from_fn(|| {
                let len = cuts.next().map_or(1, |cut| usize::from(*cut) + 1).min(rest.len());
                let (piece, after) = rest.split_at(len);
                rest = after;
                (len != 0).then(|| piece.to_vec())
            });
            assert_eq!(read(pieces), whole, "where the stream is cut matters");

            let (control, worker) = control_channel().expect("there are descriptors");
            let config: PortConfig = "generator:".parse().expect("it is right");
            let port = config.open(1, 1).expect("a generator needs nothing of the host").remove(0);
            let pair =
                Pair::new(0, port, HostClock::default(), worker, &InterruptConfig::default());
            let backend =
                Arc::new(Backend::new(vec![pair], Duration::ZERO).expect("there are timers"));
            for request in whole.into_iter().flatten() {
                let text = serde_json::to_string(&request).expect("a request can be written");
                assert_eq!(
                    read(std::iter::once(text.into_bytes())),
                    [Ok(request.clone())],
                    "written out and read again"
                );
                let request = request.request;
                let command = match &request {
                    // No command: the server's own.
                    Request::Events => continue,
                    Request::Status => Command::Status,
                    Request::Injection(run) => Command::Start(convert::injection(run)),
                    Request::Natural(run) => Command::Start(convert::natural(run)),
                    Request::MonitorStart(run) => Command::Start(convert::monitor(run)),
                    Request::MonitorStop => Command::StopMonitor,
                    Request::Moderation(_)
                    | Request::Policies(_)
                    | Request::Packets(_)
                    | Request::Clock(_)
                    | Request::Schedule { .. } => {
                        // Alone on a dispatcher, which has nothing against it but what is in it.
                        match Dispatcher::default().request(0, request.clone()) {
                            Ok(command) => command,
                            Err(why) => {
                                assert!(!why.is_empty());
                                continue;
                            }
                        }
                    }
                };
                let is_status = command == Command::Status;
                let of_paths = matches!(command, Command::Paths(_));
                assert!(control.send(command));
                backend.serve_alone();
                // There is neither a page nor a monitor, so nothing can be started or stopped.
                match control.try_recv() {
                    Some(Answer::Status(_)) if is_status => {}
                    Some(Answer::Paths(_)) if of_paths => {}
                    Some(Answer::Refused(why)) if !is_status && !of_paths => {
                        assert!(!why.is_empty());
                    }
                    answer => panic!("{answer:?}"),
                }
                assert_eq!(control.try_recv(), None, "more than one answer");
            }
        },
    );
}
