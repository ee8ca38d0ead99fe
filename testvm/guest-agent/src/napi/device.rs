// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The running kernel, by way of the module `tsnic_napicheck`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

use zerocopy::{FromZeros, IntoBytes};

use super::Subject;
use super::step::{Record, Seen, Step};
use crate::error::Error;

const PATH: &str = "/dev/tsnic_napicheck";

/// Steps that the module takes at a time.
pub const STEPS_MAX: usize = 1024;

/// The NAPI instance of the module, idle from the moment of opening on.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens it.
    ///
    /// # Errors
    /// The module is not loaded, or another has it open.
    pub fn open() -> Result<Self, Error> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(PATH)
            .map(Self)
            .map_err(Error::file("open", PATH))
    }

    /// Has it refuse everything it must refuse, and counts that. Before the first step.
    ///
    /// # Errors
    /// It accepts something of it.
    pub fn refusals(&mut self) -> Result<u32, Error> {
        let mut count = 0;
        let mut refused = |device: &mut Self, what: &str, bytes: &[u8]| {
            count += 1;
            device.refused(what, bytes)
        };
        for (what, step) in [
            ("the completion of an idle instance", Step::Complete { work: 0 }),
            ("the poll of an idle instance", Step::Queue),
            ("the enabling of an idle instance", Step::Enable),
        ] {
            refused(self, what, Record::from(step).as_bytes())?;
        }
        // From here on it has an owner, and whatever is refused is so for its own sake.
        self.run(&[Step::Prep])?;
        for (what, step) in [
            ("the disabling of an owned instance", Step::Disable),
            ("the enabling of an enabled instance", Step::Enable),
        ] {
            refused(self, what, Record::from(step).as_bytes())?;
        }
        for (what, bytes) in [
            ("nothing", vec![]),
            ("less than a step", vec![0; size_of::<Record>() - 1]),
            ("half a step more", vec![0; size_of::<Record>() * 3 / 2]),
            ("too many steps", vec![0; size_of::<Record>() * (STEPS_MAX + 1)]),
        ] {
            refused(self, what, &bytes)?;
        }
        let nothing = Record::default();
        for (what, record) in [
            ("an unknown operation", Record { op: 14, ..nothing }),
            ("flags of napi_schedule_prep()", Record { op: 1, flags: 1, ..nothing }),
            ("a value for napi_schedule_prep()", Record { op: 1, value: 1, ..nothing }),
            ("polls of napi_schedule_prep()", Record { op: 1, polls: [0, 1], ..nothing }),
            ("an unknown flag of napi_busy_loop()", Record { op: 8, flags: 2, ..nothing }),
            ("an unknown flag of a poll", Record { op: 8, polls: [0, 0x80], ..nothing }),
            ("a poll above its budget", Record { op: 8, polls: [9, 0], ..nothing }),
            ("work above the weight", Record { op: 6, value: 64, ..nothing }),
            ("SCHED set by nobody", Record { op: 11, value: 1, ..nothing }),
            ("SCHED cleared by nobody", Record { op: 12, value: 1, ..nothing }),
            ("an unknown setting", Record { op: 13, flags: 8, ..nothing }),
        ] {
            refused(self, what, record.as_bytes())?;
        }
        self.run(&[Step::Complete { work: 0 }])?;
        Ok(count)
    }

    fn refused(&mut self, what: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            Err(source) => Err(Error::Call {
                what: format!("{PATH} refuses {what}, but not as invalid"),
                source,
            }),
            Ok(taken) => Err(Error::Accepted { what: what.to_owned(), taken }),
        }
    }
}

impl Subject for Device {
    fn run(&mut self, steps: &[Step]) -> Result<Vec<Seen>, Error> {
        let records: Vec<Record> = steps.iter().copied().map(Record::from).collect();
        let taken = self.0.write(records.as_bytes()).map_err(Error::file("write", PATH))?;
        let mut seen = vec![Seen::new_zeroed(); taken / size_of::<Record>()];
        self.0.read_exact_at(seen.as_mut_bytes(), 0).map_err(Error::file("read", PATH))?;
        Ok(seen)
    }
}
