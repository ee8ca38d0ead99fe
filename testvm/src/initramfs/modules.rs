// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel's own modules: where they are, what they need, in which order they go in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use thiserror::Error;

/// What can go wrong with a module file.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be read.
    #[error("Module {path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be decompressed.
    #[error("Module {path} cannot be decompressed by {tool}; is it installed?")]
    Decompress {
        /// Which.
        path: PathBuf,
        /// The program that should.
        tool: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A module needs one that is not there.
    #[error("Module {name}, needed by {by}, is not in {dir}")]
    Missing {
        /// The one that is missing.
        name: String,
        /// The one that needs it.
        by: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
}

/// A module, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name, as in /proc/modules.
    pub name: String,
    /// The object file.
    pub object: Vec<u8>,
}

/// The modules of one kernel: `/lib/modules/RELEASE`, or a build directory.
#[derive(Debug)]
pub struct Tree {
    dir: PathBuf,
    /// Files relative to `dir`, from `modules.order`, without the suffix of a compression.
    files: Vec<PathBuf>,
}

impl Tree {
    /// The modules in `dir`; none when it has no `modules.order`.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let order = fs::read_to_string(dir.join("modules.order")).unwrap_or_default();
        // Build directories of newer kernels list object files.
        let files = order.lines().map(|line| Path::new(line.trim()).with_extension("ko")).collect();
        Self { dir: dir.to_owned(), files }
    }

    /// Module `name` and everything it needs, in loading order. Empty when the kernel has it built
    /// in, or not at all.
    ///
    /// # Errors
    /// A file cannot be read, or something needed is missing.
    pub fn with_needs(&self, name: &str) -> Result<Vec<Module>, Error> {
        let mut order = Vec::new();
        if let Some(path) = self.find(name) {
            self.collect(name, &path, &mut HashSet::new(), &mut order)?;
        }
        Ok(order)
    }

    fn collect(
        &self,
        name: &str,
        path: &Path,
        seen: &mut HashSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), Error> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let object = read(path)?;
        for need in needs(&object) {
            let missing = || Error::Missing {
                name: need.clone(),
                by: name.to_owned(),
                dir: self.dir.clone(),
            };
            self.collect(&need, &self.find(&need).ok_or_else(missing)?, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), object });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let file = self
            .files
            .iter()
            .find(|f| f.file_stem().is_some_and(|s| canonical(&s.to_string_lossy()) == name))?;
        let plain = self.dir.join(file);
        ["ko", "ko.xz", "ko.zst", "ko.gz"]
            .iter()
            .map(|end| plain.with_extension(end))
            .find(|p| p.is_file())
    }
}

/// The kernel takes `-` and `_` in module names for the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source }),
    };
    let failed = |source| Error::Decompress { path: path.to_owned(), tool, source };
    let output = Command::new(tool)
        .args(["-d", "-c", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
    }
}

/// What a module says it needs: the `depends=` entry of its `.modinfo` section, a list of
/// zero-terminated strings.
fn needs(object: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = object.windows(KEY.len()).position(|w| w == KEY).map(|at| at + KEY.len())
    else {
        return Vec::new();
    };
    let end = object[start..].iter().position(|b| *b == 0).map_or(object.len(), |n| start + n);
    String::from_utf8_lossy(&object[start..end])
        .split(',')
        .filter(|n| !n.is_empty())
        .map(canonical)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF...\0license=GPL\0depends={depends}\0retpoline=Y\0name=x\0").into_bytes()
    }

    fn tree(modules: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut order = String::new();
        for (file, depends) in modules {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(&path, module(depends)).expect("a module");
            order.push_str(file);
            order.push('\n');
        }
        fs::write(dir.path().join("modules.order"), order).expect("modules.order");
        let tree = Tree::open(dir.path());
        (dir, tree)
    }

    fn names(tree: &Tree, name: &str) -> Vec<String> {
        tree.with_needs(name).expect("modules").into_iter().map(|m| m.name).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let (_dir, tree) = tree(&[
            ("kernel/virtio_pci.ko", "virtio_pci_modern_dev,virtio_ring,virtio"),
            ("kernel/virtio-ring.ko", "virtio"),
            ("kernel/virtio.ko", ""),
            ("kernel/virtio_pci_modern_dev.ko", ""),
        ]);
        assert_eq!(
            names(&tree, "virtio_pci"),
            ["virtio_pci_modern_dev", "virtio", "virtio_ring", "virtio_pci"]
        );
    }

    #[test]
    fn a_module_that_is_built_in_needs_nothing() {
        let (_dir, tree) = tree(&[]);
        assert!(names(&tree, "virtio_pci").is_empty());
        assert!(names(&Tree::open(Path::new("/nonexistent")), "virtio_pci").is_empty());
    }

    #[test]
    fn a_missing_need_is_an_error_that_names_both() {
        let (_dir, tree) = tree(&[("a.ko", "b")]);
        let text = tree.with_needs("a").expect_err("b is missing").to_string();
        assert!(text.starts_with("Module b, needed by a,"), "{text}");
    }

    #[test]
    fn a_compressed_module_is_decompressed() {
        let (dir, tree) = tree(&[("a.ko", "")]);
        let packed = Command::new("xz").arg(dir.path().join("a.ko")).status();
        if !packed.is_ok_and(|s| s.success()) {
            // Past the test harness, which keeps what a passing test prints to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED: a compressed module: no xz");
            return;
        }
        assert_eq!(tree.with_needs("a").expect("modules")[0].object, module(""));
    }
}
