// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A port without a host: UDP datagrams of one flow at a given pace. What the guest sends is
//! dropped.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::str::FromStr;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use thiserror::Error;
use tsnic_core::spec::Flow;
use tsnic_core::time::Instant;

use super::{Port, frames};
use crate::frame::Frame;
use crate::frame::NetHeader;

/// A generator that is later than this (the worker was busy or the host asleep) does not try to
/// catch up.
const CATCH_UP: Duration = Duration::from_millis(10);

/// What to generate. The default sends nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// Addresses.
    pub flow: Flow,
    /// Gap between two frames: uniform between these, nanoseconds. `None`: nothing is sent.
    pub gap_ns: Option<(u64, u64)>,
    /// Bytes of UDP payload, 4 to 65,000.
    pub size: u16,
    /// Frames to send, at least 1; `None`: no end. One that the driver has no buffer for counts,
    /// too.
    pub count: Option<u64>,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            flow: Flow {
                guest_mac: [0x52, 0x54, 0x00, 0x12, 0x34, 0x56],
                guest_ip: Ipv4Addr::new(192, 0, 2, 2),
                guest_port: 9,
                peer_mac: [0x52, 0x54, 0x00, 0x00, 0x00, 0x01],
                peer_ip: Ipv4Addr::new(192, 0, 2, 1),
                peer_port: 9,
            },
            gap_ns: None,
            size: 22,
            count: None,
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Generator setting {setting:?} is not {expected}")]
pub struct SettingError {
    /// As written.
    setting: String,
    /// What it may be.
    expected: &'static str,
}

const KEYS: &str = "one of guest-mac, guest-ip, guest-port, peer-mac, peer-ip, peer-port, rate, gap-us, size, count";

/// Expected where something else than a number is written.
const NO_NUMBER: &str = "a number (digits only)";

impl FromStr for GeneratorConfig {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let mut config = Self::default();
        for setting in text.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            config
                .set(key, value)
                .map_err(|expected| SettingError { setting: setting.into(), expected })?;
        }
        Ok(config)
    }
}

impl GeneratorConfig {
    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        fn number<T: FromStr>(value: &str, expected: &'static str) -> Result<T, &'static str> {
            value.parse().map_err(|_| expected)
        }
        fn digits<T: FromStr>(value: &str, expected: &'static str) -> Result<T, &'static str> {
            if value.is_empty() || value.contains(|c: char| !c.is_ascii_digit()) {
                return Err(NO_NUMBER);
            }
            number(value, expected)
        }
        match key {
            "guest-mac" => self.flow.guest_mac = mac(value)?,
            "peer-mac" => self.flow.peer_mac = mac(value)?,
            "guest-ip" => self.flow.guest_ip = number(value, "an IPv4 address")?,
            "peer-ip" => self.flow.peer_ip = number(value, "an IPv4 address")?,
            "guest-port" => self.flow.guest_port = number(value, "a port number")?,
            "peer-port" => self.flow.peer_port = number(value, "a port number")?,
            "rate" => {
                let expected = "1 to 10000000 frames a second";
                let rate: u64 = digits(value, expected)?;
                if !(1..=10_000_000).contains(&rate) {
                    return Err(expected);
                }
                self.gap_ns = Some((1_000_000_000 / rate, 1_000_000_000 / rate));
            }
            "gap-us" => {
                let expected = "MICROSECONDS or FROM..TO, each at most 1000000000";
                let (from, to) = value.split_once("..").unwrap_or((value, value));
                let (from, to): (u64, u64) = (number(from, expected)?, number(to, expected)?);
                if from > to || to > 1_000_000_000 || to == 0 {
                    return Err(expected);
                }
                self.gap_ns = Some((from * 1000, to * 1000));
            }
            "size" => {
                self.size = digits(value, "4 to 65000 bytes of payload")?;
                if !(4..=65_000).contains(&self.size) {
                    return Err("4 to 65000 bytes of payload");
                }
            }
            "count" => {
                let expected = "1 or more frames";
                self.count = Some(digits(value, expected)?).filter(|count| *count > 0);
                self.count.ok_or(expected)?;
            }
            _ => return Err(KEYS),
        }
        Ok(())
    }
}

fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    const EXPECTED: &str = "a MAC address such as 52:54:00:12:34:56";
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        *byte = bytes
            .next()
            .filter(|digits| digits.len() == 2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or(EXPECTED)?;
    }
    if bytes.next().is_some() { Err(EXPECTED) } else { Ok(mac) }
}

/// The generator. Starts with the first call of [`Port::receive`].
#[derive(Debug)]
pub struct Generator {
    config: GeneratorConfig,
    random: Pcg64Mcg,
    due: Option<Instant>,
    sent: u64,
}

impl Generator {
    /// A generator that has not started. The same seed gives the same gaps.
    #[must_use]
    pub fn new(config: &GeneratorConfig, seed: u64) -> Self {
        let due = config.gap_ns.map(|_| Instant::default());
        Self { config: config.clone(), random: Pcg64Mcg::seed_from_u64(seed), due, sent: 0 }
    }
}

impl Port for Generator {
    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn readable(&mut self) {}

    fn receive(&mut self, now: Instant, frame: &mut Frame) -> bool {
        let (Some((from, to)), Some(due)) = (self.config.gap_ns, self.due) else { return false };
        if now < due {
            return false;
        }
        *frame = frames::udp(&self.config.flow, self.sent as u32, self.config.size);
        self.sent += 1;
        let gap = Duration::from_nanos(self.random.random_range(from..=to));
        let from = if now.since(due) > CATCH_UP { now } else { due };
        self.due = (self.config.count != Some(self.sent)).then(|| from.plus(gap));
        true
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn waits(&self) -> bool {
        false
    }

    fn send(&mut self, _now: Instant, _header: NetHeader, _frame: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allow_open_checksums(&mut self, _allow: bool) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_us(us: u64) -> Instant {
        Instant::from_ns(1_000_000_000 + us * 1000)
    }

    fn times(config: &GeneratorConfig, seed: u64) -> Vec<Instant> {
        let (mut generator, mut frame) = (Generator::new(config, seed), Frame::default());
        let mut now = at_us(0);
        let mut times = Vec::new();
        while generator.receive(now, &mut frame) {
            times.push(now);
            now = generator.due().unwrap_or(now);
        }
        times
    }

    #[test]
    fn frames_come_at_the_rate_asked_for_and_stop_at_the_count() {
        let config = "rate=1000,count=3".parse().unwrap();
        assert_eq!(times(&config, 1), [at_us(0), at_us(1000), at_us(2000)]);
    }

    #[test]
    fn the_same_seed_gives_the_same_gaps() {
        let config = "gap-us=5..500,count=20".parse().unwrap();
        assert_eq!(times(&config, 7), times(&config, 7));
        assert_ne!(times(&config, 7), times(&config, 8));
    }

    #[test]
    fn a_late_generator_does_not_catch_up() {
        let mut generator = Generator::new(&"rate=1000".parse().unwrap(), 0);
        let mut frame = Frame::default();
        assert!(generator.receive(at_us(0), &mut frame));
        assert!(generator.receive(at_us(50_000), &mut frame));
        assert_eq!(generator.due(), Some(at_us(51_000)));
    }

    #[test]
    fn wrong_settings_are_named() {
        for (text, expected) in [
            ("rate=0", "1 to 10000000 frames a second"),
            ("size=3", "4 to 65000 bytes of payload"),
            ("size=70000", "4 to 65000 bytes of payload"),
            ("count=0", "1 or more frames"),
            ("rate=abc", NO_NUMBER),
            ("size=-1", NO_NUMBER),
            ("count", NO_NUMBER),
            ("guest-mac=1:2", "a MAC address such as 52:54:00:12:34:56"),
            ("guest-ip=::1", "an IPv4 address"),
            ("gap-us=9..3", "MICROSECONDS or FROM..TO, each at most 1000000000"),
            ("speed=9", KEYS),
        ] {
            let error = text.parse::<GeneratorConfig>().unwrap_err();
            assert_eq!(error, SettingError { setting: text.into(), expected });
        }
        assert_eq!("".parse::<GeneratorConfig>().unwrap(), GeneratorConfig::default());
    }
}
