// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest and its device may have to live through: a device that dies or hangs, a machine
//! that is stopped or reset.

use guest_protocol as agent;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::error::Error;
use super::family::Waiting;
use super::lines::JsonLines;
use super::message::{carried_out, describe};
use super::parts::{AGENT, DEVICE, QMP_SOCKET};
use super::qmp::Qmp;
use super::start::{START_LIMIT, connect_control, start_device};
use super::{ANSWER_LIMIT, Vm};

impl Vm {
    /// Kills the device with SIGKILL, in the middle of whatever it does. The guest goes on without.
    ///
    /// # Errors
    /// It had died already.
    pub fn kill_device(&mut self) -> Result<(), Error> {
        self.check("the device is to be killed")?;
        self.family.device_off = true;
        Ok(self.family.backend.kill()?)
    }

    /// Starts the device again after [`Self::kill_device`], and waits for its control socket. Call
    /// it on a thread that outlives the guest.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_device(&mut self) -> Result<(), Error> {
        let Self { family, sockets, link, device, .. } = self;
        family.backend = start_device(device, link, sockets, &family.logs)?;
        family.device_off = false;
        family.device_held = false;
        let limit = family.scale.limit(START_LIMIT);
        self.control = JsonLines::new(connect_control(
            sockets,
            &mut family.backend,
            &family.logs,
            limit,
            &mut || (),
        )?);
        Ok(())
    }

    /// The device was killed and has not been started again.
    #[must_use]
    pub fn device_off(&self) -> bool {
        self.family.device_off
    }

    /// The device can be asked: it runs, and is not held.
    #[must_use]
    pub fn device_answers(&self) -> bool {
        !self.family.device_off && !self.family.device_held
    }

    /// Stops the device's process (SIGSTOP): it is there and does nothing.
    ///
    /// # Errors
    /// It has died.
    pub fn hold_device(&mut self) -> Result<(), Error> {
        self.signal_device(Signal::SIGSTOP)?;
        self.family.device_held = true;
        Ok(())
    }

    /// Lets the device's process go on. One that is not held does not notice.
    ///
    /// # Errors
    /// It has died.
    pub fn release_device(&mut self) -> Result<(), Error> {
        self.signal_device(Signal::SIGCONT)?;
        self.family.device_held = false;
        Ok(())
    }

    fn signal_device(&self, signal: Signal) -> Result<(), Error> {
        let doing = || format!("{signal} is sent to it");
        if self.family.device_off {
            return Err(Error::DeviceOff { doing: doing() });
        }
        kill(Pid::from_raw(self.device_pid().cast_signed()), signal).map_err(|errno| {
            Error::Connection {
                who: DEVICE,
                doing: doing(),
                source: std::io::Error::from(errno).into(),
            }
        })
    }

    /// Has QEMU carry out a command of its machine protocol; the command's result.
    ///
    /// # Errors
    /// QEMU refuses, is silent, or something has died.
    pub fn qmp(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let family = &mut self.family;
        let qmp = match &mut self.qmp {
            Some(qmp) => qmp,
            none => none.insert(Qmp::connect(&self.sockets.socket(QMP_SOCKET), family)?),
        };
        qmp.execute(command, arguments, family)
    }

    /// Suspends the guest to memory (S3), wakes it if it does not wake by itself, and waits until
    /// its agent is back.
    ///
    /// # Errors
    /// The guest refuses to sleep, or its agent is not back within 20 s.
    pub fn sleep_and_wake(&mut self) -> Result<(), Error> {
        let request =
            agent::Request::WriteFile { path: "/sys/power/state".into(), value: "mem".into() };
        let doing = describe(&request);
        // Connects, the first time.
        self.qmp("query-status", &json!({}))?;
        self.agent.send(&request).map_err(|source| self.family.diagnose(AGENT, &doing, source))?;
        let Self { agent, family, qmp, .. } = self;
        let received = agent.receive(family.scale.limit(ANSWER_LIMIT), &mut || {
            family.check(&doing).map_err(Waiting::Died)?;
            let Some(qmp) = qmp else { return Ok(()) };
            if qmp.execute("query-status", &json!({}), family).map_err(Waiting::Died)?["status"]
                == "suspended"
            {
                qmp.execute("system_wakeup", &json!({}), family).map_err(Waiting::Died)?;
            }
            Ok(())
        });
        let reply = received.map_err(|waiting| self.family.explain(AGENT, &doing, waiting))?;
        carried_out(&doing, reply)
    }

    /// Restarts the guest's machine, as a reset button would, and waits for its agent. Everything
    /// in the guest is gone: modules, servers, addresses.
    ///
    /// # Errors
    /// The guest does not come back.
    pub fn reboot(&mut self) -> Result<(), Error> {
        // Otherwise a reset ends QEMU, which is how a panic shows.
        self.qmp("set-action", &json!({"reboot": "reset"}))?;
        let request = agent::Request::Reboot;
        self.agent
            .send(&request)
            .map_err(|source| self.family.diagnose(AGENT, &describe(&request), source))?;
        self.hear_ready("the guest restarts", &mut || ())?;
        self.qmp("set-action", &json!({"reboot": "shutdown"}))?;
        self.load_transport()
    }
}
