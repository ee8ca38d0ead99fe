// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel modules.

use std::ffi::CString;
use std::fs::File;

use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::error::Error;

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`; Linux 5.17 and later, with
/// `CONFIG_MODULE_DECOMPRESS`.
const COMPRESSED_FILE: libc::c_uint = 4;

/// Loads the module in file `path` with parameters as insmod takes them.
///
/// # Errors
/// The kernel's; its log (see [`crate::kmsg`]) says more.
pub fn insert(path: &str, params: &str) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let arguments = CString::new(params).map_err(Error::call(format!("Parameters of {path}")))?;
    finit_module(&file, &arguments, flags(path))
        .map_err(Error::call(format!("Cannot load {path} {params}").trim_end().to_owned()))
}

/// Unloads a module; a module in use is an error, nothing is waited for or forced.
///
/// # Errors
/// The kernel's.
pub fn remove(name: &str) -> Result<(), Error> {
    let what = format!("Cannot unload {name}");
    let c_name = CString::new(name).map_err(Error::call(what.as_str()))?;
    delete_module(&c_name, DeleteModuleFlags::O_NONBLOCK).map_err(Error::call(what))
}

/// The kernel unpacks compressed modules itself, when told so.
fn flags(path: &str) -> ModuleInitFlags {
    let compressed = [".xz", ".zst", ".gz"].iter().any(|suffix| path.ends_with(suffix));
    if compressed {
        ModuleInitFlags::from_bits_retain(COMPRESSED_FILE)
    } else {
        ModuleInitFlags::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compressed_files_are_unpacked() {
        assert!(flags("/lib/modules/tsnic.ko").is_empty());
        assert_eq!(flags("/lib/modules/virtio.ko.xz").bits(), COMPRESSED_FILE);
    }

    #[test]
    fn errors_name_the_file() {
        let message = insert("/no/such.ko", "").map_err(|e| e.chain()).unwrap_err();
        assert_eq!(message, "Cannot open /no/such.ko: No such file or directory (os error 2)");
        assert!(insert("/proc/self/exe", "a\0b").is_err(), "a NUL in the parameters");
    }
}
