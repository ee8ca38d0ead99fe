// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Settings of the generator, and the frames that come of those it accepts.
//!
//! A refusal names a setting that was given; what is accepted gives frames of that flow and size,
//! at gaps in that range.

use bolero::{TypeGenerator, check};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tsnic::frame::Frame;
use tsnic::port::Port as _;
use tsnic::port::generator::{Generator, GeneratorConfig};
use tsnic_core::time::Instant;

use crate::MOMENT;

const KEYS: [&str; 11] = [
    "guest-mac",
    "guest-ip",
    "guest-port",
    "peer-mac",
    "peer-ip",
    "peer-port",
    "rate",
    "gap-us",
    "size",
    "count",
    "speed",
];

/// Settings, most of them with a value of the right kind: the more there are, the less likely is it
/// that all are right.
#[derive(Clone, Debug, TypeGenerator)]
struct Setting {
    key: u8,
    kind: u8,
    numbers: [u64; 2],
    text: String,
}

impl Setting {
    fn text(&self) -> String {
        // Numbers of all sizes, small ones as often as those that do not fit.
        let sized = |number: u64| number >> (number % 64);
        let [first, second] = self.numbers.map(sized);
        let bytes = self.numbers[0].to_le_bytes();
        let key = KEYS[usize::from(self.key) % KEYS.len()];
        let value = match (self.kind % 32, key) {
            (0, _) => return key.to_owned(),
            (1, _) => self.text.clone(),
            (2, _) => first.to_string(),
            (3.., "guest-mac" | "peer-mac") => {
                bytes[..6].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
            }
            (3.., "guest-ip" | "peer-ip") => {
                bytes[..4].iter().map(u8::to_string).collect::<Vec<_>>().join(".")
            }
            (3.., "guest-port" | "peer-port") => (first % 65_536).to_string(),
            (3..16, "rate" | "size" | "count") => (first % 8).to_string(),
            (3..16, "gap-us") => format!("{first}..{second}"),
            (16.., "gap-us") => format!("{}..{}", first.min(second), first.max(second)),
            _ => (first % 100_000).to_string(),
        };
        format!("{key}={value}")
    }
}

#[test]
fn generator_settings() {
    check!().with_type::<(Vec<Setting>, u64)>().with_test_time(MOMENT).for_each(
        |(settings, seed)| {
            let settings: Vec<String> = settings.iter().take(4).map(Setting::text).collect();
            let config = match settings.join(",").parse::<GeneratorConfig>() {
                Ok(config) => config,
                Err(error) => {
                    let message = error.to_string();
                    let parts = settings.iter().flat_map(|setting| setting.split(','));
                    let named = parts
                        .filter(|part| !part.is_empty())
                        .any(|part| message.contains(&format!("{part:?}")));
                    assert!(named, "{message} names none of {settings:?}");
                    return;
                }
            };
            let (mut generator, mut frame, mut now) =
                (Generator::new(&config, *seed), Frame::default(), Instant::from_ns(1));
            for serial in 0..3u32 {
                let received = generator.receive(now, &mut frame);
                let expected = config.gap_ns.is_some()
                    && config.count.is_none_or(|count| u64::from(serial) < count);
                assert_eq!(received, expected);
                if !received {
                    break;
                }
                let packet = SlicedPacket::from_ethernet(&frame.bytes).expect("it is a packet");
                let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
                    (&packet.net, &packet.transport)
                else {
                    panic!("no UDP datagram")
                };
                assert_eq!(ip.header().destination_addr(), config.flow.guest_ip);
                assert_eq!(
                    (udp.destination_port(), udp.source_port()),
                    (config.flow.guest_port, config.flow.peer_port)
                );
                assert_eq!(udp.payload().len(), usize::from(config.size));
                assert_eq!(udp.payload()[..4], serial.to_le_bytes());
                if let Some(due) = generator.due() {
                    let (from, to) = config.gap_ns.expect("frames come");
                    let gap = due.since(now).as_nanos();
                    // The first one was due at the start of the clock.
                    let gap = gap + u128::from(serial == 0);
                    assert!((u128::from(from)..=u128::from(to)).contains(&gap), "{gap} ns");
                    now = due;
                }
            }
        },
    );
}
