// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a device in the `OpenMetrics` text format (docs/control.md, "Metrics").

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tsnic_protocol::stall::VectorStalls;
use tsnic_protocol::{Counters, PortState, Status, Vector};

type Labels = Vec<(&'static str, String)>;

/// Of all queue pairs.
pub(super) fn text(statuses: &[Status]) -> String {
    let mut registry = Registry::with_prefix("tsnic");
    registry.register(
        "build",
        "The version of the device",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    counters(statuses, &mut registry);
    gauges(statuses, &mut registry);
    moderation(statuses, &mut registry);
    stalls(statuses, &mut registry);
    let mut text = String::new();
    // A String takes everything.
    let _ = encode(&mut text, &registry);
    text
}

fn labels(status: &Status) -> Labels {
    vec![("pair", status.pair.to_string())]
}

fn of_vector(status: &Status, vector: Vector) -> Labels {
    let vector = if vector == Vector::Rx { "rx" } else { "tx" };
    [labels(status), vec![("vector", vector.into())]].concat()
}

/// Each by its own name, and with what it counts as its help.
fn counters(statuses: &[Status], registry: &mut Registry) {
    let by_name: Vec<_> = statuses.iter().map(|status| status.counters.by_name()).collect();
    for (name, help) in Counters::descriptions() {
        let family = Family::<Labels, Counter>::default();
        for (status, counters) in statuses.iter().zip(&by_name) {
            family.get_or_create(&labels(status)).inc_by(counters[name]);
        }
        registry.register(name, help.trim_end_matches('.'), family);
    }
}

fn gauges(statuses: &[Status], registry: &mut Registry) {
    type Read = fn(&Status) -> i64;
    let of_pairs: [(&str, &str, Read); 4] = [
        ("running", "Both queues are started and neither is broken", |it| it.running.into()),
        ("port_attached", "Frames can come in and go out", |it| {
            (it.port == PortState::Attached).into()
        }),
        ("page", "The tsnic driver's shared queue page is in use", |it| it.page.is_some().into()),
        ("armed", "The receive queue is armed", |it| it.armed.into()),
    ];
    for (name, help, read) in of_pairs {
        let family = Family::<Labels, Gauge>::default();
        for status in statuses {
            family.get_or_create(&labels(status)).set(read(status));
        }
        registry.register(name, help, family);
    }
    // All pairs have the same clock.
    if let Some(Status { clock, .. }) = statuses.first() {
        let offset = i128::from(clock.ns) - i128::from(clock.timer_ns);
        for (name, help, value) in [
            (
                "clock_offset_nanoseconds",
                "NIC clock, from the host's CLOCK_MONOTONIC",
                i64::try_from(offset).unwrap_or(i64::MAX),
            ),
            (
                "clock_rate_ppb",
                "How much faster the NIC clock runs than the host's, parts in a billion",
                clock.rate_ppb,
            ),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
}

fn moderation(statuses: &[Status], registry: &mut Registry) {
    let [usecs, frames, adaptive] = [(); 3].map(|()| Family::<Labels, Gauge>::default());
    for status in statuses {
        for moderation in &status.moderation {
            let labels = of_vector(status, moderation.vector);
            usecs.get_or_create(&labels).set(moderation.usecs.into());
            frames.get_or_create(&labels).set(moderation.frames.into());
            adaptive.get_or_create(&labels).set(moderation.adaptive.into());
        }
    }
    registry.register_with_unit(
        "moderation_time",
        "Longest time that moderation in force holds an interrupt; 0: no limit of time",
        Unit::Other("microseconds".into()),
        usecs,
    );
    registry.register(
        "moderation_frames",
        "Most frames that moderation in force waits for; 0: no limit of frames",
        frames,
    );
    registry.register("moderation_adaptive", "The device chooses both by the traffic", adaptive);
}

/// With no stall detector there are none, rather than zeros.
fn stalls(statuses: &[Status], registry: &mut Registry) {
    let family = Family::<Labels, Counter>::default();
    for status in statuses {
        let Some(stalls) = &status.stalls else { continue };
        for (vector, of_vector_stalls) in [(Vector::Rx, &stalls.rx), (Vector::Tx, &stalls.tx)] {
            for (verdict, count) in verdicts(of_vector_stalls) {
                let mut labels = of_vector(status, vector);
                labels.push(("verdict", verdict.into()));
                family.get_or_create(&labels).inc_by(count);
            }
        }
    }
    registry.register("stall_verdicts", "Verdicts of the stall detector", family);
}

const fn verdicts(stalls: &VectorStalls) -> [(&'static str, u64); 7] {
    [
        ("lost", stalls.lost),
        ("ignored", stalls.ignored),
        ("suppressed", stalls.suppressed),
        ("not-refilled", stalls.not_refilled),
        ("kick-lost", stalls.kick_lost),
        ("slow", stalls.slow),
        ("stopped", stalls.stopped),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsnic_protocol::{Moderation, NicClock, Stalls};

    #[test]
    fn every_counter_is_there_for_every_pair() {
        let mut second = Status { pair: 1, ..Status::default() };
        second.counters.rx_frames = 12;
        let text = text(&[Status::default(), second]);
        for name in Counters::default().by_name().keys() {
            for pair in 0..2 {
                let sample = format!("tsnic_{name}_total{{pair=\"{pair}\"}} ");
                assert!(text.contains(&sample), "{sample}\n{text}");
            }
        }
        assert!(text.contains("\ntsnic_rx_frames_total{pair=\"1\"} 12\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_state_is_told_in_gauges() {
        let stalls = Stalls { rx: VectorStalls { lost: 3, ..<_>::default() }, ..<_>::default() };
        let status = Status {
            running: true,
            page: Some(1),
            moderation: vec![Moderation {
                vector: Vector::Rx,
                usecs: 50,
                frames: 8,
                adaptive: false,
            }],
            clock: NicClock { ns: 10, timer_ns: 15, rate_ppb: -7 },
            stalls: Some(stalls),
            ..Status::default()
        };
        let text = text(&[status]);
        for sample in [
            "tsnic_running{pair=\"0\"} 1",
            "tsnic_port_attached{pair=\"0\"} 1",
            "tsnic_page{pair=\"0\"} 1",
            "tsnic_armed{pair=\"0\"} 0",
            "tsnic_moderation_time_microseconds{pair=\"0\",vector=\"rx\"} 50",
            "tsnic_moderation_frames{pair=\"0\",vector=\"rx\"} 8",
            "tsnic_clock_offset_nanoseconds -5",
            "tsnic_clock_rate_ppb -7",
            "tsnic_stall_verdicts_total{pair=\"0\",vector=\"rx\",verdict=\"lost\"} 3",
        ] {
            assert!(text.contains(&format!("\n{sample}\n")), "{sample}\n{text}");
        }
    }
}
