// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The adversary: holds the run that is on, if any, and stands between it and the worker.

use alloc::boxed::Box;

use super::injection_run::InjectionRun;
use super::monitor::Monitor;
use super::natural::Natural;
use super::run::{
    Actions, Arrival, Observation, PageView, PortPolicy, Published, RunRequest, StartError,
};
use crate::spec::Flow;
use crate::time::Instant;

/// Decides what the worker does to the guest, and when. One per queue pair; idle until a run is
/// started.
///
/// Whether a run is on or not, it lets a guest go that waits at a rendezvous nobody needs: at a
/// registration it releases whatever `arrived` says, and afterwards every rendezvous the run has no
/// use for.
#[derive(Debug, Default)]
pub struct Adversary {
    run: Option<Run>,
    /// Generation of the page and the rendezvous last released in it.
    released: Option<(u32, u32)>,
}

/// The run that is on.
#[derive(Debug)]
enum Run {
    Injection(Box<InjectionRun>),
    Natural(Box<Natural>),
    Monitor(Box<Monitor>),
}

impl Adversary {
    /// Starts a run.
    ///
    /// # Errors
    /// When one is on already, there is no page, or the request has a field out of range.
    pub fn start(
        &mut self,
        request: RunRequest,
        now: Instant,
        seen: &Observation,
    ) -> Result<(), StartError> {
        if self.run.is_some() {
            return Err(StartError::Busy);
        }
        let Some(page) = &seen.page else { return Err(StartError::NoPage) };
        self.run = Some(match request {
            RunRequest::Injection(request) => {
                Run::Injection(InjectionRun::new(request, now, page.generation)?.into())
            }
            RunRequest::Natural(request) => {
                Run::Natural(Natural::new(request, now, page.generation)?.into())
            }
            RunRequest::Monitor(request) => Run::Monitor(Monitor::new(request, page)?.into()),
        });
        Ok(())
    }

    /// Ends the run that is on without a result; the next step releases port and guest. Nothing
    /// when none is on.
    pub fn cancel(&mut self) {
        self.run = None;
    }

    /// Asks a traffic monitor to end; its report comes with a later step. False when no traffic
    /// monitor is on.
    pub fn stop_monitor(&mut self) -> bool {
        match &mut self.run {
            Some(Run::Monitor(monitor)) => {
                monitor.stop();
                true
            }
            _ => false,
        }
    }

    /// A run is on: the worker steps the adversary after each request it publishes, before it reads
    /// the next frame.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.run.is_some()
    }

    /// The stall detector may look on: no run is on, or one that leaves it to nudge the guest now.
    #[must_use]
    pub const fn allows_nudges(&self) -> bool {
        match &self.run {
            None => true,
            Some(Run::Natural(natural)) => natural.allows_nudges(),
            Some(Run::Injection(_) | Run::Monitor(_)) => false,
        }
    }

    /// The TCP port whose requests a traffic monitor wants to be told of.
    #[must_use]
    pub fn request_port(&self) -> Option<u16> {
        match &self.run {
            Some(Run::Monitor(monitor)) => Some(monitor.port()),
            _ => None,
        }
    }

    /// Addresses of generated frames.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        match &self.run {
            Some(Run::Injection(injection)) => Some(injection.flow()),
            Some(Run::Natural(natural)) => Some(natural.flow()),
            Some(Run::Monitor(_)) | None => None,
        }
    }

    /// One step. To be called after every kick, arm, publish, registration or loss of a page, and
    /// when [`Actions::wake`] has come.
    pub fn step(&mut self, now: Instant, seen: &Observation) -> Actions {
        let stale = self.first_sight(seen.page.as_ref());
        let rendezvous = seen.page.as_ref().and_then(|page| self.rendezvous(page));
        let mut actions = match &mut self.run {
            Some(Run::Injection(injection)) => injection.step(now, seen, rendezvous),
            Some(Run::Natural(natural)) => natural.step(now, seen),
            Some(Run::Monitor(monitor)) => monitor.step(now, seen, rendezvous),
            None => Actions::default(),
        };
        if actions.finished.is_some() {
            self.run = None;
            (actions.requested, actions.port) = (0, PortPolicy::Open);
        }
        if !matches!(self.run, Some(Run::Injection(_) | Run::Monitor(_))) {
            actions.release = actions.release.or(rendezvous.map(|rendezvous| rendezvous.number));
        }
        actions.release = actions.release.or(stale);
        if let (Some(released), Some(page)) = (actions.release, &seen.page) {
            self.released = Some((page.generation, released));
        }
        actions
    }

    /// The rendezvous number to release when the page is a new one.
    fn first_sight(&mut self, page: Option<&PageView>) -> Option<u32> {
        let page = page?;
        if self.released.is_some_and(|(generation, _)| generation == page.generation) {
            return None;
        }
        self.released = Some((page.generation, page.arrival.number));
        Some(page.arrival.number)
    }

    /// A rendezvous that has not been released.
    fn rendezvous(&self, page: &PageView) -> Option<Arrival> {
        (self.released != Some((page.generation, page.arrival.number))).then_some(page.arrival)
    }

    /// [`Actions::publish`] has been done.
    pub fn published(&mut self, published: Published) {
        match &mut self.run {
            Some(Run::Injection(injection)) => injection.published(published),
            Some(Run::Natural(natural)) => natural.published(published),
            Some(Run::Monitor(monitor)) => monitor.published(published),
            None => {}
        }
    }

    /// [`Actions::publish`] could not be done: as a rule because the guest has posted no buffers,
    /// or too small ones.
    pub fn publish_failed(&mut self, now: Instant) {
        match &mut self.run {
            Some(Run::Injection(injection)) => injection.publish_failed(now),
            Some(Run::Natural(natural)) => natural.publish_failed(now),
            Some(Run::Monitor(monitor)) => monitor.publish_failed(),
            None => {}
        }
    }

    /// A request came in on an open port during a traffic monitor and has been published. Step
    /// before the next frame is read.
    pub fn request_published(&mut self, published: Published) {
        if let Some(Run::Monitor(monitor)) = &mut self.run {
            monitor.request_published(published);
        }
    }
}
