// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Delays drawn at random.

use core::time::Duration;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use super::spec::{Distribution, Span};

/// A time within a span, uniformly.
pub(crate) fn within(span: Span, rng: &mut Pcg64Mcg) -> Duration {
    Duration::from_micros(rng.random_range(span.from_us..=span.to_us).into())
}

/// True `per_mille` times in a thousand.
pub(crate) fn chance(per_mille: u16, rng: &mut Pcg64Mcg) -> bool {
    rng.random_range(0..1000) < per_mille
}

/// A delay of the distribution; `number` is how many were drawn before.
pub(super) fn delay(distribution: &Distribution, number: u64, rng: &mut Pcg64Mcg) -> Duration {
    match distribution {
        Distribution::Uniform(span) => within(*span, rng),
        Distribution::Exponential { mean_us, max_us } => {
            // 0 is among the values drawn, 1 is not.
            let uniform: f64 = rng.random();
            let us = -libm::log1p(-uniform) * f64::from(*mean_us);
            Duration::from_secs_f64(us.min(f64::from(*max_us)) / 1e6)
        }
        Distribution::Bimodal { fast, slow, slow_per_mille } => {
            within(if chance(*slow_per_mille, rng) { *slow } else { *fast }, rng)
        }
        Distribution::Recorded(delays) => {
            let place = number % delays.len() as u64;
            Duration::from_nanos(delays[place as usize])
        }
    }
}
