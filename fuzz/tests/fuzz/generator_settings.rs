// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Settings of the generator, and the frames that come of those it accepts.
//!
//! A refusal names a setting that was given; what is accepted gives frames of that flow and size, at gaps in that range.

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

#[derive(Clone, Debug, TypeGenerator)]
struct Setting {
    key: u8,
    value: Value,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Value {
    Number(u64),
    Range(u64, u64),
    Address([u8; 4]),
    Mac([u8; 6]),
    Text(String),
    None,
}

impl Setting {
    fn text(&self) -> String {
        // Numbers of all sizes, small ones as often as those that do not fit.
        let sized = |number: u64| number >> (number % 64);
        let key = KEYS[usize::from(self.key) % KEYS.len()];
        match &self.value {
            Value::Number(number) => format!("{key}={}", sized(*number)),
            Value::Range(from, to) => format!("{key}={}..{}", sized(*from), sized(*to)),
            Value::Address([a, b, c, d]) => format!("{key}={a}.{b}.{c}.{d}"),
            Value::Mac(mac) => format!("{key}={}", mac.map(|byte| format!("{byte:02x}")).join(":")),
            Value::Text(text) => format!("{key}={text}"),
            Value::None => key.to_owned(),
        }
    }
}

#[test]
fn generator_settings() {
    check!().with_type::<(Vec<Setting>, u64)>().with_test_time(MOMENT).for_each(|(settings, seed)| {
        let settings: Vec<String> = settings.iter().map(Setting::text).collect();
        let config = match settings.join(",").parse::<GeneratorConfig>() {
            Ok(config) => config,
            Err(error) => {
                let message = error.to_string();
                let parts = settings.iter().flat_map(|setting| setting.split(','));
                let named = parts.filter(|part| !part.is_empty()).any(|part| message.contains(&format!("{part:?}")));
                assert!(named, "{message} names none of {settings:?}");
                return;
            }
        };
        let (mut generator, mut frame, mut now) =
            (Generator::new(&config, *seed), Frame::default(), Instant::from_ns(1));
        for serial in 0..3u32 {
            let received = generator.receive(now, &mut frame);
            let expected = config.gap_ns.is_some() && config.count.is_none_or(|count| u64::from(serial) < count);
            assert_eq!(received, expected);
            if !received {
                break;
            }
            let packet = SlicedPacket::from_ethernet(&frame.bytes).expect("it is a packet");
            let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&packet.net, &packet.transport) else {
                panic!("no UDP datagram")
            };
            assert_eq!(ip.header().destination_addr(), config.flow.guest_ip);
            assert_eq!((udp.destination_port(), udp.source_port()), (config.flow.guest_port, config.flow.peer_port));
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
    });
}
