// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policies: what decides the fate of an interrupt that gate and moderation have let through.
//!
//! A stack of wrappers. Each is a seeded state machine that is shown an intent and what those
//! before it have decided, and changes the decision; some raise interrupts by themselves. The same
//! stack and seed decide the same for the same intents.

use alloc::vec::Vec;

use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use crate::time::Instant;

pub mod decision;
pub(crate) mod distribution;
mod record;
mod single;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod window;

use decision::{Decision, Intent};
use single::Policy;
use spec::{PolicySpec, SpecError};

/// The policies of one path, the first of them being asked first.
#[derive(Debug, Default)]
pub struct Policies {
    stack: Vec<Policy>,
}

impl Policies {
    /// The stack that is asked for. Each policy has a random generator of its own, made of `seed`
    /// and its place: what one of them draws does not change what the others do.
    ///
    /// # Errors
    /// When a field is out of range, or two of them exclude each other.
    pub fn new(specs: &[PolicySpec], seed: u64, now: Instant) -> Result<Self, SpecError> {
        spec::check(specs)?;
        let stack = specs
            .iter()
            .enumerate()
            .map(|(place, spec)| {
                let seed = seed.wrapping_add((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                Policy::new(spec, Pcg64Mcg::seed_from_u64(seed), now)
            })
            .collect();
        Ok(Self { stack })
    }

    /// There is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Decides the fate of an intent.
    pub fn decide(&mut self, intent: &Intent) -> Decision {
        let mut decision = Decision::default();
        for policy in &mut self.stack {
            policy.decide(intent, &mut decision);
        }
        decision
    }

    /// Interrupts that policies raise now by themselves.
    pub fn stimuli(&mut self, now: Instant) -> u32 {
        self.stack.iter_mut().map(|policy| policy.stimuli(now)).sum()
    }

    /// When a policy raises one by itself next.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.stack.iter().filter_map(Policy::due).min()
    }
}
