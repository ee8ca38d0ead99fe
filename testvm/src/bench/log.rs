// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel of a guest, or of several after one another, said.

/// The lines of all guests, in order.
#[derive(Debug, Default)]
pub struct Log(Vec<String>);

/// What the kernel says when something is wrong: with itself, with a driver, with a device.
const COMPLAINTS: [&str; 20] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "Call Trace",
    "general protection",
    "Kernel panic",
    "nobody cared",
    "unwind",
    "ORC",
    "soft lockup",
    "hard LOCKUP",
    "blocked for more than",
    "rcu_sched self-detected",
    "rcu_preempt self-detected",
    "detected stalls",
    "is not a head",
    "NETDEV WATCHDOG",
    "refcount_t",
    "page allocation failure",
    // Ours (testvm's agent): the kernel's log was overwritten before it was read.
    "[lines lost]",
];

impl Log {
    /// Adds what an agent gave as text.
    pub fn add(&mut self, text: &str) {
        self.0.extend(text.lines().map(str::to_owned));
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        self.0.len()
    }

    /// Whether a line contains `text`: a log that was not read has no complaints either.
    pub fn says(&self, text: &str) -> bool {
        self.0.iter().any(|line| line.contains(text))
    }

    /// The lines that say that something is wrong.
    pub fn complaints(&self) -> Vec<&str> {
        self.0
            .iter()
            .map(String::as_str)
            .filter(|line| COMPLAINTS.iter().any(|text| line.contains(text)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_found_and_everyday_lines_are_not() {
        let mut log = Log::default();
        log.add(
            "[    0.000000] Linux version 6.1.0-56-cloud-amd64\n[    0.1] unchecked MSR access\n\
             [    2.1] tsnic: loading out-of-tree module taints kernel.\n[    2.2] virtio_net virtio0 eth0: renamed",
        );
        assert!(log.complaints().is_empty(), "{:?}", log.complaints());
        log.add("[   20.0] irq 24: nobody cared (try booting with the \"irqpoll\" option)\n[   21.0] virtio_net virtio0: output.0:id 2 is not a head!");
        assert_eq!(log.complaints().len(), 2);
    }
}
