// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PID 1 of the test guest.

use std::process::ExitCode;

use guest_agent::agent::Agent;
use guest_agent::error::Error;
use guest_agent::serial::{Channel, Incoming};
use guest_agent::{serial, system};
use guest_protocol::Request;

/// The first serial port is the console.
const PORT: &str = "/dev/ttyS1";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        system::log("This program is the init of testvm's guest; it does nothing elsewhere.");
        return ExitCode::from(2);
    }
    system::power_off_on_panic();
    match serve() {
        Ok(End::Reboot) => system::reboot_now(),
        Ok(End::PowerOff) => {}
        Err(error) => system::log(&error.chain()),
    }
    system::power_off();
    // The kernel refused to power off. PID 1 must not return.
    loop {
        std::thread::park();
    }
}

/// How the machine ends.
enum End {
    PowerOff,
    Reboot,
}

/// Serves requests until told to end the machine, or until the serial line is gone.
fn serve() -> Result<End, Error> {
    system::mount_all()?;
    let port = serial::open(PORT)?;
    let output = port.try_clone().map_err(Error::file("duplicate", PORT))?;
    let mut channel = Channel::new(port, output);
    let mut agent = Agent::default();
    let ready = system::ready()?;
    system::log(&format!("{ready:?}"));
    channel.send(&ready).map_err(Error::file("write", PORT))?;
    loop {
        let reply = match channel.receive().map_err(Error::file("read", PORT))? {
            Incoming::Request(request) => {
                let end = match request {
                    Request::PowerOff => Some(End::PowerOff),
                    Request::Reboot => Some(End::Reboot),
                    _ => None,
                };
                let reply = agent.handle(request);
                if let Some(end) = end {
                    return Ok(end);
                }
                reply
            }
            Incoming::Bad(error) => error.reply(),
            Incoming::End => return Ok(End::PowerOff),
        };
        channel.send(&reply).map_err(Error::file("write", PORT))?;
        system::reap();
    }
}
