// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The adversary: holds the run that is on, if any, and stands between it and the worker.

use super::random::Random;
use super::run::{Actions, AreaView, Here, Observation, Published, RunRequest, StartError, Wire};
use super::strike::Strike;
use super::watch::Watch;
use crate::clock::Instant;
use crate::control::protocol::Flow;

#[cfg(test)]
mod tests;

/// Decides what the worker does to the guest, and when. One per queue pair; idle until a run is started.
///
/// Whether a run is on or not, it lets a guest go that waits at a rendezvous nobody needs: at a hand-over it
/// acknowledges whatever `here` says, and afterwards every meeting the run has no use for.
#[derive(Debug, Default)]
pub struct Adversary {
    run: Option<Run>,
    /// Generation of the area and the meeting last acknowledged in it.
    acked: Option<(u32, u32)>,
}

/// The run that is on.
#[derive(Debug)]
enum Run {
    Strike(Box<Strike>),
    Random(Box<Random>),
    Watch(Box<Watch>),
}

impl Adversary {
    /// Starts a run.
    ///
    /// # Errors
    /// When one is on already, there is no area, or the request has a field out of range.
    pub fn start(&mut self, request: RunRequest, now: Instant, seen: &Observation) -> Result<(), StartError> {
        if self.run.is_some() {
            return Err(StartError::Busy);
        }
        let Some(area) = &seen.area else { return Err(StartError::NoArea) };
        self.run = Some(match request {
            RunRequest::Strike(request) => Run::Strike(Strike::new(request, now, area.generation)?.into()),
            RunRequest::Random(request) => Run::Random(Random::new(request, now, area.generation)?.into()),
            RunRequest::Watch(request) => Run::Watch(Watch::new(request, area)?.into()),
        });
        Ok(())
    }

    /// Ends the run that is on without a result; the next step releases wire and guest. Nothing when none is on.
    pub fn cancel(&mut self) {
        self.run = None;
    }

    /// Asks a watch to end; its report comes with a later step. False when no watch is on.
    pub fn stop_watch(&mut self) -> bool {
        match &mut self.run {
            Some(Run::Watch(watch)) => {
                watch.stop();
                true
            }
            _ => false,
        }
    }

    /// A run is on: the worker steps the adversary after each request it publishes, before it reads the next frame.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.run.is_some()
    }

    /// The TCP port whose requests a watch wants to be told of.
    #[must_use]
    pub fn request_port(&self) -> Option<u16> {
        match &self.run {
            Some(Run::Watch(watch)) => Some(watch.port()),
            _ => None,
        }
    }

    /// Addresses of generated frames.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        match &self.run {
            Some(Run::Strike(strike)) => Some(strike.flow()),
            Some(Run::Random(random)) => Some(random.flow()),
            Some(Run::Watch(_)) | None => None,
        }
    }

    /// One step. To be called after every kick, arm, publish, hand-over or loss of an area, and when
    /// [`Actions::wake`] has come.
    pub fn step(&mut self, now: Instant, seen: &Observation) -> Actions {
        let stale = self.first_sight(seen.area.as_ref());
        let meeting = seen.area.as_ref().and_then(|area| self.meeting(area));
        let mut actions = match &mut self.run {
            Some(Run::Strike(strike)) => strike.step(now, seen, meeting),
            Some(Run::Random(random)) => random.step(now, seen),
            Some(Run::Watch(watch)) => watch.step(now, seen, meeting),
            None => Actions::default(),
        };
        if actions.finished.is_some() {
            self.run = None;
            (actions.want, actions.wire) = (0, Wire::Open);
        }
        if !matches!(self.run, Some(Run::Strike(_) | Run::Watch(_))) {
            actions.ack = actions.ack.or(meeting.map(|meeting| meeting.here));
        }
        actions.ack = actions.ack.or(stale);
        if let (Some(ack), Some(area)) = (actions.ack, &seen.area) {
            self.acked = Some((area.generation, ack));
        }
        actions
    }

    /// The meeting number to acknowledge when the area is a new one.
    fn first_sight(&mut self, area: Option<&AreaView>) -> Option<u32> {
        let area = area?;
        if self.acked.is_some_and(|(generation, _)| generation == area.generation) {
            return None;
        }
        self.acked = Some((area.generation, area.here.here));
        Some(area.here.here)
    }

    /// A meeting that has not been acknowledged.
    fn meeting(&self, area: &AreaView) -> Option<Here> {
        (self.acked != Some((area.generation, area.here.here))).then_some(area.here)
    }

    /// [`Actions::publish`] has been done.
    pub fn published(&mut self, published: Published) {
        match &mut self.run {
            Some(Run::Strike(strike)) => strike.published(published),
            Some(Run::Random(random)) => random.published(published),
            Some(Run::Watch(watch)) => watch.published(published),
            None => {}
        }
    }

    /// [`Actions::publish`] could not be done: as a rule because the guest has posted no buffers, or too small ones.
    pub fn publish_failed(&mut self, now: Instant) {
        match &mut self.run {
            Some(Run::Strike(strike)) => strike.publish_failed(now),
            Some(Run::Random(random)) => random.publish_failed(now),
            Some(Run::Watch(watch)) => watch.publish_failed(),
            None => {}
        }
    }

    /// A request came in on an open wire during a watch and has been published. Step before the next frame is read.
    pub fn request_published(&mut self, published: Published) {
        if let Some(Run::Watch(watch)) = &mut self.run {
            watch.request_published(published);
        }
    }
}
