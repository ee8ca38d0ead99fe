// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's arguments.

use std::ffi::OsString;
use std::path::Path;

use super::{Accel, Version};
use crate::config::Interrupts;
use crate::isolate::mac;

/// What the virtual machine is made of. Sockets are names in QEMU's working directory.
#[derive(Clone, Debug)]
pub struct MachineSpec<'a> {
    /// Version of QEMU.
    pub version: Version,
    /// Who runs the guest's instructions.
    pub accel: Accel,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Guest memory, MiB.
    pub memory_mib: u32,
    /// Kernel image.
    pub kernel: &'a Path,
    /// Initial root file system.
    pub initrd: &'a Path,
    /// More kernel parameters.
    pub kernel_args: &'a [String],
    /// Where the console goes.
    pub console: &'a Path,
    /// Socket where testvm waits for the agent's serial line.
    pub agent_socket: &'a str,
    /// Socket where QEMU waits for who uses the shell's serial line.
    pub shell_socket: &'a str,
    /// Socket where the device waits for QEMU.
    pub device_socket: &'a str,
    /// Socket where QEMU listens for commands of its machine protocol.
    pub qmp_socket: &'a str,
    /// The guest's MAC address.
    pub guest_mac: [u8; 6],
    /// File of the disk, if there is one.
    pub disk: Option<&'a str>,
    /// How the device interrupts.
    pub interrupts: Interrupts,
    /// Queue pairs of the device.
    pub queue_pairs: u8,
}

/// Interrupts beside those of the queues: the configuration's, and one to spare, as QEMU itself
/// counts them.
const OTHER_VECTORS: u8 = 2;

const RECONNECT_MS_SINCE: Version = Version { major: 9, minor: 2, patch: 0 };

/// Kernel parameters of every guest.
/// - `panic=-1` with QEMU's `-no-reboot`: a guest that panics ends QEMU at once.
/// - `noirqdebug`: an interrupt that finds nothing to do is what this project is about, not a
///   reason to shut the line down.
/// - the rest shortens the boot: no probing for what the machine does not have, no calibration that
///   other clocks do better, and above all no self-tests of ciphers, which take a translated CPU
///   half a second.
const KERNEL_ARGS: &str = "console=ttyS0 quiet loglevel=4 panic=-1 noirqdebug cryptomgr.notests i8042.noaux i8042.nokbd \
     i8042.nopnp no_timer_check tsc=reliable random.trust_cpu=on";

impl MachineSpec<'_> {
    /// The arguments, without the program.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let Self { vcpus, memory_mib, agent_socket, shell_socket, device_socket, .. } = self;
        let (accel, cpu) = match self.accel {
            Accel::Kvm => ("kvm", "host"),
            Accel::Tcg => ("tcg,thread=multi", "max"),
        };
        let vectors = match self.interrupts {
            Interrupts::Msix => 2 * self.queue_pairs + OTHER_VECTORS,
            Interrupts::Intx => 0,
        };
        let mut append = KERNEL_ARGS.to_owned();
        for arg in self.kernel_args {
            append.push(' ');
            append.push_str(arg);
        }
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&[
            "-machine",
            "q35,memory-backend=mem,usb=off",
            "-accel",
            accel,
            "-cpu",
            cpu,
            "-smp",
            &vcpus.to_string(),
        ]);
        add(&["-object", &format!("memory-backend-memfd,id=mem,size={memory_mib}M,share=on")]);
        // The older option is gone from 11.0, the newer one came with 9.2.
        let reconnect =
            if self.version >= RECONNECT_MS_SINCE { "reconnect-ms=200" } else { "reconnect=1" };
        add(&["-chardev", &format!("socket,id=nic,path={device_socket},{reconnect}")]);
        let (queues, mq) = match self.queue_pairs {
            1 => (String::new(), ""),
            pairs => (format!(",queues={pairs}"), ",mq=on"),
        };
        add(&["-netdev", &format!("vhost-user,id=net,chardev=nic{queues}")]);
        add(&[
            "-device",
            &format!(
                "virtio-net-pci,netdev=net,mac={},disable-legacy=on,romfile=,vectors={vectors}{mq}",
                mac(self.guest_mac)
            ),
        ]);
        add(&[
            "-serial",
            "chardev:console",
            "-chardev",
            &format!("socket,id=agent,path={agent_socket}"),
            "-serial",
            "chardev:agent",
        ]);
        // By itself the third port would share its interrupt with the first.
        add(&[
            "-chardev",
            &format!("socket,id=shell,path={shell_socket},server=on,wait=off"),
            "-device",
            "isa-serial,chardev=shell,index=2,irq=5",
        ]);
        if let Some(disk) = self.disk {
            // Debian's cloud kernels have its driver built in.
            add(&[
                "-drive",
                &format!("if=none,id=disk,format=raw,file={disk}"),
                "-device",
                "nvme,drive=disk,serial=disk",
            ]);
        }
        add(&["-qmp", &format!("unix:{},server=on,wait=off", self.qmp_socket)]);
        add(&["-append", &append]);
        args.extend(["-chardev".into(), option("file,id=console,append=on,path=", self.console)]);
        args.extend(["-kernel".into(), self.kernel.into(), "-initrd".into(), self.initrd.into()]);
        args
    }
}

/// A path at the end of an option, where QEMU takes a comma only doubled.
fn option(start: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = start.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(accel: Accel, interrupts: Interrupts) -> Vec<String> {
        arguments_for(Version { major: 10, minor: 0, patch: 2 }, accel, interrupts, 1)
    }

    fn arguments_for(
        version: Version,
        accel: Accel,
        interrupts: Interrupts,
        queue_pairs: u8,
    ) -> Vec<String> {
        MachineSpec {
            version,
            accel,
            vcpus: 2,
            memory_mib: 256,
            kernel: Path::new("/k"),
            initrd: Path::new("/i"),
            kernel_args: &["nokaslr".to_owned()],
            console: Path::new("/logs/a,b"),
            agent_socket: "agent",
            shell_socket: "shell",
            device_socket: "nic",
            qmp_socket: "qmp",
            guest_mac: [0x52, 0x54, 0, 0x74, 0x73, 0],
            disk: None,
            interrupts,
            queue_pairs,
        }
        .arguments()
        .into_iter()
        .map(|a| a.into_string().expect("text"))
        .collect()
    }

    fn value<'a>(args: &'a [String], option: &str) -> &'a str {
        &args[args.iter().position(|a| a == option).expect("the option") + 1]
    }

    #[test]
    fn the_device_has_a_vector_a_queue_or_none_at_all() {
        let device = |interrupts| value(&arguments(Accel::Tcg, interrupts), "-device").to_owned();
        assert!(device(Interrupts::Msix).ends_with("vectors=4"));
        assert!(device(Interrupts::Intx).ends_with("vectors=0"));
        let version = Version { major: 10, minor: 0, patch: 2 };
        let several = arguments_for(version, Accel::Tcg, Interrupts::Msix, 4);
        assert!(value(&several, "-device").ends_with("vectors=10,mq=on"));
        assert!(value(&several, "-netdev").ends_with("queues=4"));
    }

    #[test]
    fn guest_memory_is_shared_with_the_device() {
        let args = arguments(Accel::Tcg, Interrupts::Msix);
        assert!(value(&args, "-object").ends_with("size=256M,share=on"));
        assert!(value(&args, "-machine").contains("memory-backend=mem"));
    }

    #[test]
    fn each_accelerator_has_its_cpu_model() {
        assert_eq!(value(&arguments(Accel::Kvm, Interrupts::Msix), "-cpu"), "host");
        let tcg = arguments(Accel::Tcg, Interrupts::Msix);
        assert_eq!((value(&tcg, "-accel"), value(&tcg, "-cpu")), ("tcg,thread=multi", "max"));
    }

    #[test]
    fn an_old_qemu_gets_the_old_reconnect_option() {
        let old = arguments_for(
            Version { major: 7, minor: 2, patch: 17 },
            Accel::Tcg,
            Interrupts::Intx,
            1,
        );
        assert!(value(&old, "-chardev").ends_with(",reconnect=1"));
        assert!(
            value(&arguments(Accel::Tcg, Interrupts::Msix), "-chardev")
                .ends_with(",reconnect-ms=200")
        );
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        assert!(
            arguments(Accel::Tcg, Interrupts::Msix)
                .contains(&"file,id=console,append=on,path=/logs/a,,b".to_owned())
        );
    }

    #[test]
    fn the_serial_ports_are_console_agent_and_shell() {
        let args = arguments(Accel::Tcg, Interrupts::Msix);
        let ports: Vec<_> =
            args.windows(2).filter(|w| w[0] == "-serial").map(|w| w[1].as_str()).collect();
        assert_eq!(ports, ["chardev:console", "chardev:agent"]);
        assert!(args.iter().any(|arg| arg.starts_with("isa-serial,chardev=shell,index=2,")));
    }

    #[test]
    fn the_user_s_kernel_parameters_come_last() {
        assert!(value(&arguments(Accel::Tcg, Interrupts::Msix), "-append").ends_with(" nokaslr"));
    }
}
