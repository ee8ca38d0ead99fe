// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which CPU does what: interrupts, kernel threads, own threads.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::Error;
use crate::files;

/// Binds the calling thread to one CPU.
///
/// # Errors
/// There is no such CPU.
pub fn pin_self(cpu: usize) -> Result<(), Error> {
    pin(Pid::from_raw(0), "this thread", cpu)
}

/// Binds every thread group whose name begins with `comm_prefix` (a NIC has one NAPI thread per
/// NAPI) to one CPU.
///
/// # Errors
/// There is none, or the kernel refuses.
pub fn pin_threads(comm_prefix: &str, cpu: usize) -> Result<(), Error> {
    let mut pinned = 0;
    for entry in std::fs::read_dir("/proc").map_err(Error::file("read", "/proc"))? {
        let entry = entry.map_err(Error::file("read", "/proc"))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the two looks: that is no error.
        let Ok(comm) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        if comm.trim_end().starts_with(comm_prefix) {
            pin(Pid::from_raw(pid), comm.trim_end(), cpu)?;
            pinned += 1;
        }
    }
    if pinned == 0 {
        return Err(Error::NotFound {
            kind: "thread",
            name: comm_prefix.to_owned(),
            place: "/proc",
        });
    }
    Ok(())
}

/// Binds an interrupt to one CPU. An MSI-X interrupt may come once more where it was before: x86
/// moves it when it fires.
///
/// # Errors
/// There is no interrupt of this name, or no such CPU.
pub fn bind_irq(name: &str, cpu: usize) -> Result<(), Error> {
    const INTERRUPTS: &str = "/proc/interrupts";
    let number = irq_number(&files::read(INTERRUPTS)?, name).ok_or_else(|| Error::NotFound {
        kind: "interrupt",
        name: name.to_owned(),
        place: INTERRUPTS,
    })?;
    files::write(&format!("/proc/irq/{number}/smp_affinity_list"), &cpu.to_string())
}

fn pin(pid: Pid, who: &str, cpu: usize) -> Result<(), Error> {
    let what = format!("Cannot bind {who} to CPU {cpu}");
    let mut set = CpuSet::new();
    set.set(cpu).map_err(Error::call(what.as_str()))?;
    sched_setaffinity(pid, &set).map_err(Error::call(what))
}

/// Finds the number of the interrupt with an action of this name in the text of /proc/interrupts.
/// Shared interrupts list their actions with commas.
fn irq_number(interrupts: &str, name: &str) -> Option<u32> {
    interrupts.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let number = number.trim().parse().ok()?;
        rest.split([' ', ',']).any(|word| word == name).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "           CPU0       CPU1       
  1:          9          0   IO-APIC   1-edge      i8042
 11:          0          3   IO-APIC  11-fasteoi   virtio1, virtio0
 24:          0          0   PCI-MSI 32768-edge      virtio0-config
 25:          0        812   PCI-MSI 32769-edge      virtio0-rx
NMI:          0          0   Non-maskable interrupts virtio9
";

    #[test]
    fn an_interrupt_is_found_by_its_whole_name() {
        assert_eq!(irq_number(INTERRUPTS, "virtio0-rx"), Some(25));
        assert_eq!(irq_number(INTERRUPTS, "virtio0"), Some(11), "INTx, shared");
        assert_eq!(irq_number(INTERRUPTS, "virtio1"), Some(11));
        assert_eq!(irq_number(INTERRUPTS, "virtio0-tx"), None);
        assert_eq!(irq_number(INTERRUPTS, "virtio9"), None, "architecture lines have no number");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let message = pin_threads("no such thread/", 0).map_err(|e| e.chain()).unwrap_err();
        assert_eq!(message, "No thread \"no such thread/\" in /proc");
        assert!(
            bind_irq("no-such-irq", 0).map_err(|e| e.chain()).unwrap_err().contains("no-such-irq")
        );
        assert!(pin_self(100_000).is_err());
    }
}
