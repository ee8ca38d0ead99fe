// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The adversary: holds the run that is on, if any, and stands between it and the worker.

use super::run::{Actions, Observation, Published, RunRequest, StartError};
use crate::clock::Instant;
use crate::control::protocol::Flow;

/// Decides what the worker does to the guest, and when. One per queue pair; idle until a run is started.
#[derive(Debug, Default)]
pub struct Adversary {
    acked: Option<(u32, u32)>,
}

impl Adversary {
    /// Starts a run.
    ///
    /// # Errors
    /// When one is on already, there is no area, or the request has a field out of range.
    pub fn start(&mut self, _request: RunRequest, _now: Instant, _seen: &Observation) -> Result<(), StartError> {
        Err(StartError::NoArea)
    }

    /// Ends the run that is on without a result; the next step releases wire and guest. Nothing when none is on.
    pub fn cancel(&mut self) {}

    /// Asks a watch to end; its report comes with a later step. False when no watch is on.
    pub fn stop_watch(&mut self) -> bool {
        false
    }

    /// A run is on: the worker steps the adversary after each request it publishes, before it reads the next frame.
    #[must_use]
    pub fn is_active(&self) -> bool {
        false
    }

    /// The TCP port whose requests a watch wants to be told of.
    #[must_use]
    pub fn request_port(&self) -> Option<u16> {
        None
    }

    /// Addresses of generated frames.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        None
    }

    /// One step. To be called after every kick, arm, publish, hand-over or loss of an area, and when
    /// [`Actions::wake`] has come.
    pub fn step(&mut self, _now: Instant, _seen: &Observation) -> Actions {
        let _ = self.acked;
        Actions::default()
    }

    /// [`Actions::publish`] has been done.
    pub fn published(&mut self, _published: Published) {}

    /// [`Actions::publish`] could not be done: the guest has posted no buffers.
    pub fn publish_failed(&mut self) {}

    /// A request came in on an open wire during a watch and has been published.
    pub fn request_published(&mut self, _published: Published) {}
}
